package apivalidation

import (
	"maps"

	. "github.com/onsi/ginkgo/v2"
)

const (
	onlyGrowAge   = "maxAge can only grow while retentionLock is Compliance: give the old value or a longer one, or leave the field out to keep entries for ever"
	onlyGrowBytes = "maxBytes can only grow while retentionLock is Compliance: give the old value or a larger one, or leave the field out for no limit"
	lockOneWay    = "retentionLock cannot go from Compliance to None: a lock that can be lifted would prove nothing"
	protectOneWay = "protection cannot go from AppendOnly to None: NATS does not lift deny_delete and deny_purge from a stream"
)

var _ = DescribeTable("protection goes one way", change,
	Entry("None to AppendOnly", fields{"protection": "None"}, fields{"protection": "AppendOnly"}),
	Entry("None to the default by leaving it out", fields{"protection": "None"}, fields{}),
	Entry("AppendOnly left out", fields{"protection": "AppendOnly"}, fields{}),
	Entry("None stays", fields{"protection": "None"}, fields{"protection": "None"}),
	Entry("AppendOnly to None", fields{"protection": "AppendOnly"}, fields{"protection": "None"}, "spec.protection", protectOneWay),
	Entry("the default to None", fields{}, fields{"protection": "None"}, "spec.protection", protectOneWay),
)

var _ = DescribeTable("retentionLock goes one way", change,
	Entry("None to Compliance", fields{"retentionLock": "None"}, fields{"retentionLock": "Compliance"}),
	Entry("the default to Compliance", fields{}, fields{"retentionLock": "Compliance"}),
	Entry("Compliance stays", fields{"retentionLock": "Compliance"}, fields{"retentionLock": "Compliance"}),
	Entry("Compliance to None", fields{"retentionLock": "Compliance"}, fields{"retentionLock": "None"}, "spec.retentionLock", lockOneWay),
	Entry("Compliance left out", fields{"retentionLock": "Compliance"}, fields{}, "spec.retentionLock", lockOneWay),
	Entry("set together with a shorter maxAge", fields{"maxAge": "30d"}, fields{"maxAge": "1d", "retentionLock": "Compliance"}),
	Entry("lifted together with a shorter maxAge", fields{"maxAge": "30d", "retentionLock": "Compliance"}, fields{"maxAge": "1d"},
		lockOneWay, onlyGrowAge),
)

var _ = DescribeTable("What Compliance refuses on its own", creation,
	Entry("nothing that is the default", fields{"retentionLock": "Compliance"}),
	Entry("retaining", fields{"retentionLock": "Compliance", "deletionPolicy": "Retain", "protection": "AppendOnly"}),
	Entry("deletionPolicy: Delete", fields{"retentionLock": "Compliance", "deletionPolicy": "Delete"},
		"deletionPolicy: Delete is refused while retentionLock is Compliance: use deletionPolicy: Retain"),
	Entry("redirecting a bucket", fields{"retentionLock": "Compliance", "migrateFrom": []any{map[string]any{"bucket": "a", "afterMigration": "Redirect"}}}),
	Entry("deleting a bucket", fields{"retentionLock": "Compliance", "migrateFrom": []any{bucket("b"), map[string]any{"bucket": "a", "afterMigration": "Delete"}}},
		"afterMigration: Delete is refused while retentionLock is Compliance: use Retain or Redirect"),
	Entry("protection: None", fields{"retentionLock": "Compliance", "protection": "None"},
		"retentionLock: Compliance needs protection: AppendOnly, otherwise entries could be deleted before their time"),
)

// locked is change with retentionLock: Compliance on both sides.
func locked(ctx SpecContext, first, second fields, texts ...string) {
	lock := func(spec fields) fields {
		spec = maps.Clone(spec)
		spec["retentionLock"] = "Compliance"
		return spec
	}
	change(ctx, lock(first), lock(second), texts...)
}

func maxAge(value string) fields { return fields{"maxAge": value} }

var _ = DescribeTable("Under Compliance maxAge only grows", locked,
	Entry("longer", maxAge("30d"), maxAge("31d")),
	Entry("the same", maxAge("30d"), maxAge("30d")),
	Entry("the same in hours", maxAge("30d"), maxAge("720h")),
	Entry("the same in days", maxAge("720h"), maxAge("30d")),
	Entry("the same in weeks", maxAge("28d"), maxAge("4w")),
	Entry("the same in years", maxAge("730d"), maxAge("2y")),
	Entry("the same in minutes", maxAge("1.5h"), maxAge("90m")),
	Entry("the longest", maxAge("999999h"), maxAge("292y")),
	Entry("years over weeks", maxAge("52w"), maxAge("1y")),
	Entry("left out, which is for ever", maxAge("30d"), fields{}),
	Entry("still left out", fields{}, fields{}),
	Entry("a nanosecond shorter", maxAge("1h"), maxAge("59m59s999ms999us999ns"), "spec: Invalid value", onlyGrowAge),
	Entry("shorter in the same unit", maxAge("30d"), maxAge("29d"), onlyGrowAge),
	Entry("shorter though the number is larger", maxAge("30d"), maxAge("719h"), onlyGrowAge),
	Entry("shorter in weeks", maxAge("30d"), maxAge("4w"), onlyGrowAge),
	Entry("weeks under a year", maxAge("1y"), maxAge("52w"), onlyGrowAge),
	Entry("hours under days", maxAge("292y"), maxAge("999999h"), onlyGrowAge),
	Entry("set where it was for ever", fields{}, maxAge("292y"), onlyGrowAge),
	Entry("no duration at all", maxAge("30d"), maxAge("1fortnight"), badMaxAge),
)

func maxBytes(value any) fields { return fields{"maxBytes": value} }

var _ = DescribeTable("Under Compliance maxBytes only grows", locked,
	Entry("larger", maxBytes("1Gi"), maxBytes("2Gi")),
	Entry("the same", maxBytes("1Gi"), maxBytes("1Gi")),
	Entry("the same in another unit", maxBytes("1Gi"), maxBytes("1024Mi")),
	Entry("the same as a number", maxBytes("1Ki"), maxBytes(int64(1024))),
	Entry("larger as a number", maxBytes(int64(1024)), maxBytes("2k")),
	Entry("left out, which is no limit", maxBytes("1Gi"), fields{}),
	Entry("one byte smaller", maxBytes("1Ki"), maxBytes(int64(1023)), "spec: Invalid value", onlyGrowBytes),
	Entry("smaller though it looks the same", maxBytes("1Gi"), maxBytes("1G"), onlyGrowBytes),
	Entry("set where there was no limit", fields{}, maxBytes("1Ei"), onlyGrowBytes),
)

var _ = DescribeTable("Under Compliance whenFull cannot begin to drop", locked,
	Entry("RejectNew stays", fields{"whenFull": "RejectNew"}, fields{"whenFull": "RejectNew"}),
	Entry("DropOldest to RejectNew", fields{"whenFull": "DropOldest"}, fields{"whenFull": "RejectNew"}),
	Entry("RejectNew to DropOldest", fields{"whenFull": "RejectNew"}, fields{"whenFull": "DropOldest"},
		"whenFull cannot go from RejectNew to DropOldest while retentionLock is Compliance: entries could be dropped before their time"),
	Entry("RejectNew left out", fields{"whenFull": "RejectNew"}, fields{}, "whenFull cannot go from RejectNew to DropOldest"),
	Entry("Delete added", fields{}, fields{"deletionPolicy": "Delete"}, "deletionPolicy: Delete is refused"),
)
