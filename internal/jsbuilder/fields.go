package jsbuilder

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// field is one field of a stream's configuration that the operator enforces.
type field struct {
	// name is NATS's JSON name.
	name string
	// text is the field's value as a person reads it. Two values that mean the same to the server have the same text,
	// and two that do not never have.
	text func(c *jetstream.StreamConfig) string
	// fixable says whether the server takes an update from have to want. Nil is always.
	fixable func(want, have *jetstream.StreamConfig) bool
}

// fields are all fields that Compare holds against each other, except for metadata, which it compares key by key. What
// is fixable follows nats-server 2.15. Older servers differ in max_consumers only: 2.12 refuses to change it.
//
// first_seq is among them although it is meant for creation only: a server accepts it in an update, from anybody and
// on a stream with deny_purge too, shows no effect, and purges everything below it at its next start.
var fields = []field{
	{name: "name", text: func(c *jetstream.StreamConfig) string { return c.Name }, fixable: never},
	{name: "description", text: func(c *jetstream.StreamConfig) string { return c.Description }},
	{name: "subjects", text: func(c *jetstream.StreamConfig) string { return set(c.Subjects) }},
	{name: "retention", text: func(c *jetstream.StreamConfig) string { return enum(c.Retention) }, fixable: notWorkQueue},
	{name: "max_consumers", text: func(c *jetstream.StreamConfig) string { return limit(int64(c.MaxConsumers)) }},
	{name: "max_msgs", text: func(c *jetstream.StreamConfig) string { return limit(c.MaxMsgs) }},
	{name: "max_bytes", text: func(c *jetstream.StreamConfig) string { return limit(c.MaxBytes) }},
	{name: "discard", text: func(c *jetstream.StreamConfig) string { return enum(c.Discard) }},
	{name: "discard_new_per_subject", text: func(c *jetstream.StreamConfig) string { return flag(c.DiscardNewPerSubject) }},
	{name: "max_age", text: func(c *jetstream.StreamConfig) string { return age(c.MaxAge) }},
	{name: "max_msgs_per_subject", text: func(c *jetstream.StreamConfig) string { return limit(c.MaxMsgsPerSubject) }},
	{name: "max_msg_size", text: func(c *jetstream.StreamConfig) string { return limit(int64(c.MaxMsgSize)) }},
	{name: "storage", text: func(c *jetstream.StreamConfig) string { return enum(c.Storage) }, fixable: never},
	{name: "num_replicas", text: func(c *jetstream.StreamConfig) string { return strconv.Itoa(max(c.Replicas, 1)) }},
	{name: "no_ack", text: func(c *jetstream.StreamConfig) string { return flag(c.NoAck) }},
	{name: "duplicate_window", text: func(c *jetstream.StreamConfig) string { return duplicates(c).String() }},
	{name: "placement", text: func(c *jetstream.StreamConfig) string { return placement(c.Placement) }},
	// The server would let a mirror go, but that ends somebody's copying for good: not for an operator to do by itself.
	{name: "mirror", text: func(c *jetstream.StreamConfig) string { return object(c.Mirror) }, fixable: never},
	{name: "sources", text: func(c *jetstream.StreamConfig) string { return sources(c.Sources) }},
	{name: "sealed", text: func(c *jetstream.StreamConfig) string { return flag(c.Sealed) },
		fixable: notFromTrue(func(c *jetstream.StreamConfig) bool { return c.Sealed })},
	{name: "deny_delete", text: func(c *jetstream.StreamConfig) string { return flag(c.DenyDelete) },
		fixable: notFromTrue(func(c *jetstream.StreamConfig) bool { return c.DenyDelete })},
	{name: "deny_purge", text: func(c *jetstream.StreamConfig) string { return flag(c.DenyPurge) },
		fixable: notFromTrue(func(c *jetstream.StreamConfig) bool { return c.DenyPurge })},
	{name: "allow_rollup_hdrs", text: func(c *jetstream.StreamConfig) string { return flag(c.AllowRollup) }},
	{name: "compression", text: func(c *jetstream.StreamConfig) string { return enum(c.Compression) }},
	{name: "first_seq", text: func(c *jetstream.StreamConfig) string { return strconv.FormatUint(c.FirstSeq, 10) }},
	{name: "subject_transform", text: func(c *jetstream.StreamConfig) string { return object(c.SubjectTransform) }},
	{name: "republish", text: func(c *jetstream.StreamConfig) string { return object(c.RePublish) }},
	{name: "allow_direct", text: func(c *jetstream.StreamConfig) string { return flag(c.AllowDirect) }},
	{name: "mirror_direct", text: func(c *jetstream.StreamConfig) string { return flag(c.MirrorDirect) }},
	{name: "consumer_limits", text: func(c *jetstream.StreamConfig) string { return object(&c.ConsumerLimits) }},
	{name: "allow_msg_ttl", text: func(c *jetstream.StreamConfig) string { return flag(c.AllowMsgTTL) },
		fixable: notFromTrue(func(c *jetstream.StreamConfig) bool { return c.AllowMsgTTL })},
	{name: "subject_delete_marker_ttl", text: func(c *jetstream.StreamConfig) string { return c.SubjectDeleteMarkerTTL.String() }},
	{name: "allow_msg_counter", text: func(c *jetstream.StreamConfig) string { return flag(c.AllowMsgCounter) }, fixable: never},
	{name: "allow_atomic", text: func(c *jetstream.StreamConfig) string { return flag(c.AllowAtomicPublish) }},
	{name: "allow_msg_schedules", text: func(c *jetstream.StreamConfig) string { return flag(c.AllowMsgSchedules) },
		fixable: notFromTrue(func(c *jetstream.StreamConfig) bool { return c.AllowMsgSchedules })},
	{name: "persist_mode", text: func(c *jetstream.StreamConfig) string { return enum(c.PersistMode) }, fixable: never},
	{name: "allow_batched", text: func(c *jetstream.StreamConfig) string { return flag(c.AllowBatchPublish) }},
}

// notEnforced are the fields that Compare leaves alone, each with the reason.
var notEnforced = map[string]string{
	"template_owner": "stream templates are gone: servers do not know the field any more",
}

func never(_, _ *jetstream.StreamConfig) bool { return false }

// notFromTrue is for what a server lets anybody turn on and nobody turn off.
func notFromTrue(get func(c *jetstream.StreamConfig) bool) func(want, have *jetstream.StreamConfig) bool {
	return func(want, have *jetstream.StreamConfig) bool { return get(want) || !get(have) }
}

func notWorkQueue(want, have *jetstream.StreamConfig) bool {
	return want.Retention != jetstream.WorkQueuePolicy && have.Retention != jetstream.WorkQueuePolicy
}

// limit reads a limit as the server does, to whom 0 and everything negative is no limit.
func limit(n int64) string {
	if n <= 0 {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

func age(d time.Duration) string {
	if d == 0 {
		return "unlimited"
	}
	return d.String()
}

func flag(b bool) string { return strconv.FormatBool(b) }

// duplicates reads the window as the server does, which fills in a missing one, except on mirrors and where it sources
// from other streams.
func duplicates(c *jetstream.StreamConfig) time.Duration {
	if c.Duplicates == 0 && c.Mirror == nil && len(c.Sources) == 0 {
		return duplicateWindow(c.MaxAge)
	}
	return c.Duplicates
}

// enum is an enumeration's name in NATS's JSON.
func enum[T json.Marshaler](value T) string {
	b, err := value.MarshalJSON()
	if err != nil {
		return fmt.Sprintf("unknown (%v)", value)
	}
	return strings.Trim(string(b), `"`)
}

// object is an optional object as NATS's JSON, "none" where it is absent or empty.
func object[T any](value *T) string {
	if value == nil {
		return "none"
	}
	if text := plainJSON(value); text != "{}" {
		return text
	}
	return "none"
}

// set is a list in which order has no meaning.
func set(values []string) string {
	if len(values) == 0 {
		return "none"
	}
	return plainJSON(slices.Sorted(slices.Values(values)))
}

// plainJSON does not escape the > of subjects, as json.Marshal would.
func plainJSON(value any) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Sprintf("unknown (%v)", err)
	}
	return strings.TrimSpace(b.String())
}

func sources(list []*jetstream.StreamSource) string {
	texts := make([]string, len(list))
	for i, source := range list {
		texts[i] = object(source)
	}
	return set(texts)
}

func placement(p *jetstream.Placement) string {
	if p == nil || p.Cluster == "" && len(p.Tags) == 0 {
		return "none"
	}
	return fmt.Sprintf("cluster %q, tags %s", p.Cluster, set(p.Tags))
}
