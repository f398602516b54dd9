package apivalidation

import (
	"fmt"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

const (
	badStream      = `stream must be a NATS stream name: printable ASCII characters, no spaces, none of . * > / \`
	reservedStream = "stream must not begin with $, KV_ or OBJ_: these names belong to JetStream's own streams, key-value buckets and object stores"
	badSubject     = "subject must be literal NATS subject tokens separated by single dots, such as audit or payments.audit: " +
		"no wildcards (* or >), no spaces, no empty tokens; the operator adds .> by itself"
	reservedSubject = "subject must not begin with $ or _INBOX: these subjects belong to NATS itself"
)

// checkName holds the CRD's answer against the one of the package that builds the stream: both must agree.
func checkName(field string) func(ctx SpecContext, value string, texts ...string) {
	return func(ctx SpecContext, value string, texts ...string) {
		if len(texts) > 0 {
			texts = append(texts, "spec."+field)
		}
		creation(ctx, fields{field: value}, texts...)

		spec := v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit"}
		switch field {
		case "stream":
			spec.Stream = value
		case "subject":
			spec.Subject = value
		}
		_, err := jsbuilder.Build(&spec, namespace, "any", "owner")
		Expect(err != nil).To(Equal(len(texts) > 0), "jsbuilder.Build: %v", err)
	}
}

var _ = DescribeTable("stream", checkName("stream"),
	Entry("plain", "AUDIT"),
	Entry("with punctuation", "audit-log_2+x:y"),
	Entry("255 long", strings.Repeat("a", 255)),
	Entry("KV without underscore", "KVx"),
	Entry("lower case kv_", "kv_x"),
	Entry("a $ inside", "A$B"),
	Entry("with a dot", "audit.log", badStream),
	Entry("with a space", "audit log", badStream),
	Entry("with a tab", "audit\tlog", badStream),
	Entry("with a line end", "audit\n", badStream),
	Entry("with *", "audit*", badStream),
	Entry("with >", "audit>", badStream),
	Entry("with a slash", "audit/log", badStream),
	Entry("with a backslash", `audit\log`, badStream),
	Entry("with an umlaut", "prüfung", badStream),
	Entry("empty", "", "should be at least 1 chars long"),
	Entry("256 long", strings.Repeat("a", 256), "may not be more than 255"),
	Entry("of a bucket", "KV_x", reservedStream),
	Entry("of an object store", "OBJ_x", reservedStream),
	Entry("of JetStream itself", "$X", reservedStream),
)

var _ = DescribeTable("subject", checkName("subject"),
	Entry("one token", "audit"),
	Entry("two tokens", "a.b"),
	Entry("many tokens", "a.b.c-d_e.f"),
	Entry("a $ inside", "audit.$x"),
	Entry("_INBOXES is not _INBOX", "_INBOXES.x"),
	Entry("255 long", strings.Repeat("a", 255)),
	Entry("with >", "audit.>", badSubject),
	Entry("with *", "*", badSubject),
	Entry("with * inside", "a.*.b", badSubject),
	Entry("with * in a token", "aud*t", badSubject),
	Entry("everything", ">", badSubject),
	Entry("a leading dot", ".audit", badSubject),
	Entry("a trailing dot", "audit.", badSubject),
	Entry("a double dot", "a..b", badSubject),
	Entry("a dot alone", ".", badSubject),
	Entry("with a space", "au dit", badSubject),
	Entry("with a line end", "audit\n", badSubject),
	Entry("with an umlaut", "prüfung", badSubject),
	Entry("empty", "", "should be at least 1 chars long"),
	Entry("256 long", strings.Repeat("a", 256), "may not be more than 255"),
	Entry("of the JetStream API", "$JS.x", reservedSubject),
	Entry("of a bucket", "$KV.b", reservedSubject),
	Entry("of the system", "$SYS", reservedSubject),
	Entry("of inboxes", "_INBOX.x", reservedSubject),
	Entry("of all inboxes", "_INBOX", reservedSubject),
)

var _ = DescribeTable("What cannot be changed", change,
	Entry("stream", fields{}, fields{"stream": "OTHER"}, "spec.stream",
		"stream cannot be changed: create another AuditStream for another stream"),
	Entry("subject", fields{}, fields{"subject": "other"}, "spec.subject",
		"subject cannot be changed: readers would lose the entries under the old one; create another AuditStream for another subject"),
	Entry("storage", fields{}, fields{"storage": "Memory"}, "spec.storage",
		"storage cannot be changed: JetStream cannot move a stream between File and Memory; create another AuditStream"),
	Entry("storage back to the default by leaving it out", fields{"storage": "Memory"}, fields{}, "spec.storage", "storage cannot be changed"),
	Entry("the same once more", fields{"storage": "Memory"}, fields{"storage": "Memory"}),
	Entry("the default written out", fields{}, fields{"storage": "File"}),
)

var _ = DescribeTable("What can be changed", change,
	Entry("maxAge longer", fields{"maxAge": "30d"}, fields{"maxAge": "60d"}),
	Entry("maxAge shorter", fields{"maxAge": "30d"}, fields{"maxAge": "1d"}),
	Entry("maxAge left out", fields{"maxAge": "30d"}, fields{}),
	Entry("maxBytes smaller", fields{"maxBytes": "2Gi"}, fields{"maxBytes": "1Gi"}),
	Entry("whenFull", fields{"whenFull": "RejectNew"}, fields{"whenFull": "DropOldest"}),
	Entry("replicas", fields{"replicas": int64(3)}, fields{"replicas": int64(1)}),
	Entry("compression", fields{"compression": "S2"}, fields{}),
	Entry("placement", fields{"placement": map[string]any{"cluster": "a"}}, fields{}),
	Entry("deletionPolicy", fields{"deletionPolicy": "Delete"}, fields{}),
	Entry("adoptionPolicy", fields{"adoptionPolicy": "Adopt"}, fields{}),
	Entry("suspend", fields{"suspend": true}, fields{}),
	Entry("migrateFrom", fields{"migrateFrom": []any{map[string]any{"bucket": "a"}}}, fields{}),
)

func numbered(prefix string, n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return list
}
