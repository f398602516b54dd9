package apivalidation

import (
	"fmt"
	"math"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

var _ = DescribeTable("Enumerations", func(ctx SpecContext, field, bad string, good ...string) {
	for _, value := range good {
		creation(ctx, fields{field: value})
	}
	texts := []string{"spec." + field + ": Unsupported value: \"" + bad + "\"", "supported values: "}
	for _, value := range good {
		texts = append(texts, "\""+value+"\"")
	}
	creation(ctx, fields{field: bad}, texts...)
	creation(ctx, fields{field: ""}, "spec."+field+": Unsupported value: \"\"")
	creation(ctx, fields{field: true}, ".spec."+field+": expected string")
},
	Entry("whenFull", "whenFull", "rejectNew", "DropOldest", "RejectNew"),
	Entry("storage", "storage", "file", "File", "Memory"),
	Entry("compression", "compression", "zstd", "None", "S2"),
	Entry("protection", "protection", "ReadOnly", "AppendOnly", "None"),
	Entry("retentionLock", "retentionLock", "Governance", "None", "Compliance"),
	Entry("deletionPolicy", "deletionPolicy", "Orphan", "Retain", "Delete"),
	Entry("adoptionPolicy", "adoptionPolicy", "Always", "Never", "Adopt"),
)

var _ = DescribeTable("Required fields, unknown fields and wrong types", creation,
	Entry("nothing but stream and subject is needed", fields{}),
	Entry("no stream", fields{"stream": nil}, "spec.stream: Required value"),
	Entry("no subject", fields{"subject": nil}, "spec.subject: Required value"),
	Entry("an unknown field", fields{"streamName": "AUDIT"}, ".spec.streamName: field not declared in schema"),
	Entry("a field in the wrong case", fields{"maxage": "30d"}, ".spec.maxage: field not declared in schema"),
	Entry("an unknown field deeper down", fields{"placement": map[string]any{"tag": "ssd"}}, ".spec.placement.tag: field not declared in schema"),
	Entry("a number as the stream", fields{"stream": int64(1)}, "spec.stream", "string"),
	Entry("a list as the subject", fields{"subject": []any{"audit"}}, "spec.subject", "string"),
	Entry("a number as maxAge", fields{"maxAge": int64(5)}, "spec.maxAge", "string"),
	Entry("text as replicas", fields{"replicas": "3"}, ".spec.replicas: expected numeric"),
	Entry("a fraction as replicas", fields{"replicas": 1.5}, "spec.replicas", "integer"),
	Entry("text as suspend", fields{"suspend": "true"}, "spec.suspend", "boolean"),
	Entry("suspend", fields{"suspend": true}),
	Entry("an object as migrateFrom", fields{"migrateFrom": map[string]any{"bucket": "b"}}, "spec.migrateFrom"),
	Entry("an object as maxBytes", fields{"maxBytes": map[string]any{}}, "spec.maxBytes"),
)

var _ = It("refuses an object without a spec", func(ctx SpecContext) {
	obj := manifest(uniqueName(), nil)
	delete(obj.Object, "spec")
	expectOutcome(apply(ctx, obj), []string{"spec: Required value"})
})

var _ = DescribeTable("replicas", creation,
	Entry("0", fields{"replicas": int64(0)}, "spec.replicas: Invalid value: 0", "greater than or equal to 1"),
	Entry("-1", fields{"replicas": int64(-1)}, "spec.replicas: Invalid value: -1", "greater than or equal to 1"),
	Entry("1", fields{"replicas": int64(1)}),
	Entry("3", fields{"replicas": int64(3)}),
	Entry("5", fields{"replicas": int64(5)}),
	Entry("6", fields{"replicas": int64(6)}, "spec.replicas: Invalid value: 6", "less than or equal to 5"),
)

const badMaxBytes = "maxBytes must be a whole number of bytes, at least 1 and at most 7Ei, such as 50Mi or 10G; leave it out for no limit"

// checkBytes asks the package that builds the stream too, where the value is a quantity at all.
func checkBytes(ctx SpecContext, value any, texts ...string) {
	creation(ctx, fields{"maxBytes": value}, texts...)
	quantity, err := resource.ParseQuantity(fmt.Sprint(value))
	if err != nil {
		Expect(texts).NotTo(BeEmpty(), "not a quantity: %v", err)
		return
	}
	_, err = jsbuilder.Build(&v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit", MaxBytes: &quantity}, namespace, "any", "owner")
	Expect(err != nil).To(Equal(len(texts) > 0), "jsbuilder.Build: %v", err)
}

var _ = DescribeTable("maxBytes", checkBytes,
	Entry("1", int64(1)),
	Entry("1024", int64(1024)),
	Entry("50Mi", "50Mi"),
	Entry("10G", "10G"),
	Entry("1e3", "1e3"),
	Entry("2000m is 2", "2000m"),
	Entry("1.5Ki is 1536", "1.5Ki"),
	Entry("7Ei", "7Ei"),
	Entry("7Ei as a number", int64(7<<60)),
	Entry("one more than 7Ei", int64(7<<60+1), "spec.maxBytes", badMaxBytes),
	Entry("the largest number", int64(math.MaxInt64), "spec.maxBytes", badMaxBytes),
	Entry("8Ei", "8Ei", "spec.maxBytes", badMaxBytes),
	Entry("0", int64(0), "spec.maxBytes", badMaxBytes),
	Entry("0 as text", "0", "spec.maxBytes", badMaxBytes),
	Entry("-1", int64(-1), "spec.maxBytes", badMaxBytes),
	Entry("-1Mi", "-1Mi", "spec.maxBytes", badMaxBytes),
	Entry("1.5", "1.5", "spec.maxBytes", badMaxBytes),
	Entry("1.5 as a number", 1.5, "spec.maxBytes"),
	Entry("1500m", "1500m", "spec.maxBytes", badMaxBytes),
	// These are whole to a float.
	Entry("more than 2^53 and a half", "9007199254740993.5", "spec.maxBytes", badMaxBytes),
	Entry("a gigabyte and a billionth", "1000000000.000000001", "spec.maxBytes", badMaxBytes),
	Entry("a tenth of 1Ei", "0.1Ei", "spec.maxBytes", badMaxBytes),
	Entry("one more than 2^53", "9007199254740993"),
	Entry("1.5Pi", "1.5Pi"),
	Entry("0.5k", "0.5k"),
	Entry("10EB", "10EB", "spec.maxBytes"),
	Entry("lots", "lots", "spec.maxBytes"),
	Entry("empty", "", "spec.maxBytes"),
	Entry("100Ei, more than NATS can count", "100Ei", "spec.maxBytes", badMaxBytes),
)

// A number is as long as one likes to Kubernetes; the rule above needs a bound to be cheap enough.
var _ = It("refuses a maxBytes of more than 64 characters", func(ctx SpecContext) {
	creation(ctx, fields{"maxBytes": strings.Repeat("0", 64) + "1"}, "spec.maxBytes", "may not be more than 64")
})

var _ = DescribeTable("placement", creation,
	Entry("a cluster", fields{"placement": map[string]any{"cluster": "east"}}),
	Entry("tags", fields{"placement": map[string]any{"tags": []any{"ssd", "eu"}}}),
	Entry("both", fields{"placement": map[string]any{"cluster": "east", "tags": []any{"ssd"}}}),
	Entry("nothing", fields{"placement": map[string]any{}}, "spec.placement", "should have at least 1 properties"),
	Entry("an empty cluster", fields{"placement": map[string]any{"cluster": ""}}, "spec.placement.cluster", "at least 1 chars"),
	Entry("no tags", fields{"placement": map[string]any{"tags": []any{}}}, "spec.placement.tags", "at least 1 items"),
	Entry("an empty tag", fields{"placement": map[string]any{"tags": []any{""}}}, "spec.placement.tags[0]", "at least 1 chars"),
	Entry("a tag twice", fields{"placement": map[string]any{"tags": []any{"ssd", "ssd"}}}, ".spec.placement.tags", "duplicate"),
	Entry("a cluster of 256 characters", fields{"placement": map[string]any{"cluster": strings.Repeat("c", 256)}}, "spec.placement.cluster", "may not be more than 255"),
	Entry("a tag of 256 characters", fields{"placement": map[string]any{"tags": []any{strings.Repeat("t", 256)}}}, "spec.placement.tags[0]", "may not be more than 255"),
	Entry("17 tags", fields{"placement": map[string]any{"tags": numbered("t", 17)}}, "spec.placement.tags", "at most 16 items"),
)

const noConnection = "connection is not available in this release: leave it out, and the operator's default connection is used"

var _ = DescribeTable("connection", creation,
	Entry("is refused as a whole", fields{"connection": map[string]any{"servers": []any{"nats://nats:4222"}}}, "spec: Invalid value", noConnection),
	Entry("with a secret too", fields{"connection": map[string]any{"servers": []any{"nats://nats:4222"}, "credentialsSecret": "nats"}}, noConnection),
	Entry("and needs a server", connect("servers", []any{}), "spec.connection.servers", "at least 1 items"),
	Entry("with too many servers", connect("servers", numbered("nats://n", 17)), "spec.connection.servers", "at most 16 items"),
	Entry("with an empty server", connect("servers", []any{""}), "spec.connection.servers[0]", "at least 1 chars"),
	Entry("with a server too long", connect("servers", []any{strings.Repeat("n", 1025)}), "spec.connection.servers[0]", "may not be more than 1024"),
	Entry("with an empty credentialsSecret", connect("credentialsSecret", ""), "spec.connection.credentialsSecret", "at least 1 chars"),
	Entry("with a credentialsSecret too long", connect("credentialsSecret", strings.Repeat("s", 254)), "spec.connection.credentialsSecret", "may not be more than 253"),
	Entry("with an empty tlsSecret", connect("tlsSecret", ""), "spec.connection.tlsSecret", "at least 1 chars"),
	Entry("with a tlsSecret too long", connect("tlsSecret", strings.Repeat("s", 254)), "spec.connection.tlsSecret", "may not be more than 253"),
	Entry("with an empty domain", connect("domain", ""), "spec.connection.domain", "at least 1 chars"),
	Entry("with a domain too long", connect("domain", strings.Repeat("d", 256)), "spec.connection.domain", "may not be more than 255"),
	Entry("and needs servers", fields{"connection": map[string]any{"domain": "hub"}}, "spec.connection.servers: Required value"),
)

// connect is a connection with one field set as given.
func connect(field string, value any) fields {
	connection := map[string]any{"servers": []any{"nats://nats:4222"}}
	connection[field] = value
	return fields{"connection": connection}
}
