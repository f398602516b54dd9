package apivalidation

import (
	"strings"

	. "github.com/onsi/ginkgo/v2"
)

func migrate(sources ...map[string]any) fields {
	list := make([]any, len(sources))
	for i, source := range sources {
		list[i] = source
	}
	return fields{"migrateFrom": list}
}

func bucket(name string) map[string]any { return map[string]any{"bucket": name} }

func buckets(n int) fields {
	var sources []map[string]any
	for _, name := range numbered("bucket-", n) {
		sources = append(sources, map[string]any{"bucket": name})
	}
	return migrate(sources...)
}

const badBucket = "bucket must be a NATS key-value bucket name: letters, digits, _ and - only"

var _ = DescribeTable("migrateFrom", creation,
	Entry("one bucket", migrate(bucket("audit-log"))),
	Entry("two buckets", migrate(bucket("audit-log"), bucket("Other_1"))),
	Entry("no bucket", fields{"migrateFrom": []any{}}),
	Entry("8 buckets", buckets(8)),
	Entry("9 buckets", buckets(9), "spec.migrateFrom", "must have at most 8 items"),
	Entry("a bucket twice", migrate(bucket("a"), bucket("a")), ".spec.migrateFrom", "duplicate", `bucket="a"`),
	Entry("without a bucket", migrate(map[string]any{"dryRun": true}), "spec.migrateFrom", "bucket"),
	Entry("an empty bucket", migrate(bucket("")), "spec.migrateFrom[0].bucket", "at least 1 chars"),
	Entry("a bucket with a dot", migrate(bucket("audit.log")), "spec.migrateFrom[0].bucket", badBucket),
	Entry("a bucket with a space", migrate(bucket("audit log")), "spec.migrateFrom[0].bucket", badBucket),
	Entry("a bucket with a wildcard", migrate(bucket("*")), "spec.migrateFrom[0].bucket", badBucket),
	Entry("a bucket with an umlaut", migrate(bucket("prüfung")), "spec.migrateFrom[0].bucket", badBucket),
	Entry("the second bucket is bad", migrate(bucket("a"), bucket("b/c")), "spec.migrateFrom[1].bucket", badBucket),
	Entry("252 characters", migrate(bucket(strings.Repeat("b", 252)))),
	Entry("253 characters", migrate(bucket(strings.Repeat("b", 253))), "spec.migrateFrom[0].bucket", "may not be more than 252"),
	Entry("dryRun", migrate(map[string]any{"bucket": "a", "dryRun": true})),
	Entry("dryRun as text", migrate(map[string]any{"bucket": "a", "dryRun": "yes"}), "dryRun", "boolean"),
	Entry("Retain", migrate(map[string]any{"bucket": "a", "afterMigration": "Retain"})),
	Entry("Redirect", migrate(map[string]any{"bucket": "a", "afterMigration": "Redirect"})),
	Entry("Delete", migrate(map[string]any{"bucket": "a", "afterMigration": "Delete"})),
	Entry("something else", migrate(map[string]any{"bucket": "a", "afterMigration": "Burn"}), "spec.migrateFrom[0].afterMigration: Unsupported value: \"Burn\""),
	Entry("an unknown field", migrate(map[string]any{"bucket": "a", "dryrun": true}), "dryrun: field not declared in schema"),
)
