// Package jsbuilder says what the JetStream stream of an AuditStream has to look like, and how a live stream differs
// from that. It is pure: it never talks to NATS or Kubernetes, takes no context and reads no clock. Whoever talks to
// the server (internal/jsclient) and decides what to do (internal/controller) asks it for
//
//   - Build: the full configuration that a spec declares,
//   - Compare: the differences between that and a live configuration, each named after NATS's JSON field,
//   - Merge: what to send in an update, so that what belongs to others stays,
//   - Hazards: updates that NATS would accept but that must not be sent.
//
// Every field of a stream's configuration is the operator's and is enforced. The exceptions are the metadata keys of
// others, NATS's own _nats.* keys among them, and template_owner, which servers no longer know.
package jsbuilder
