// Package guides does what the manual says, command by command and in its order, on a real control plane: docs/first-stream.md,
// docs/security.md and docs/migration.md. A nats-server gives the operator no more permissions than the page asks for; in the guide of
// a migration legacy writers go on while the bucket changes hands.
package guides
