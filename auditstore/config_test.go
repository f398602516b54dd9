package auditstore

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func TestCovers(t *testing.T) {
	tests := []struct {
		wider, pattern string
		want           bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.c", false},
		{"a.b", "a", false},
		{"a", "a.b", false},
		{"a.*", "a.b", true},
		{"a.*", "a.*", true},
		{"a.*", "a.>", false},
		{"a.*", "a.b.c", false},
		{"a.b", "a.*", false},
		{"*", ">", false},
		{">", ">", true},
		{">", "a", true},
		{">", "*.b", true},
		{"a.>", "a.>", true},
		{"a.>", "a.*.c", true},
		{"a.>", "a", false},
		{"a.>", ">", false},
		{"a.>", "*.b", false},
		{"*.>", "a.>", true},
		{"*.>", ">", false},
		{"a.*.>", "a.b.>", true},
		{"a.*.>", "a.*.c", true},
		{"a.*.>", "a.b", false},
		{"a.*.>", "a.>", false},
		{"a.*.c", "a.>", false},
		{"$KV.*.>", "$KV.audit-log.>", true},
		{"$KV.*.>", "$KVX.audit-log.>", false},
	}
	for _, test := range tests {
		if got := covers(test.wider, test.pattern); got != test.want {
			t.Errorf("covers(%q, %q) is %v, want %v", test.wider, test.pattern, got, test.want)
		}
	}
}

func TestOverlap(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"audit.>", "audit.>", true},
		{">", "audit.>", true},
		{"*.x", "audit.>", true},
		{"*", "audit.>", false},
		{"audit", "audit.>", false},
		{"audit.api.>", "audit.>", true},
		{"audit.>", "audit.api.>", true},
		{"logs.>", "audit.>", false},
		{"$KV.*.>", "audit.>", false},
		{"$KV.*.>", "$KV.audit.>", true},
		{"*.*.>", "audit.>", true},
		{"a.*", "*.b", true},
		{"a.*", "a.b.c", false},
	}
	for _, test := range tests {
		if got, back := overlap(test.a, test.b), overlap(test.b, test.a); got != test.want || back != test.want {
			t.Errorf("overlap(%q, %q) is %v, and %v the other way, want %v", test.a, test.b, got, back, test.want)
		}
	}
}

func TestMovedUnder(t *testing.T) {
	tests := map[string]struct {
		source, destination, pattern string
		want                         bool
	}{
		"one bucket":                   {"$KV.audit-log.>", "audit.>", "$KV.audit-log.>", true},
		"any bucket":                   {"$KV.*.>", "audit.>", "$KV.audit-log.>", true},
		"some of a bucket":             {"$KV.*.>", "audit.>", "$KV.audit-log.x", true},
		"whatever is captured":         {"", "audit.>", "$KV.audit-log.>", true},
		"destination elsewhere":        {"$KV.*.>", "logs.>", "$KV.audit-log.>", false},
		"destination of similar name":  {"$KV.*.>", "auditor.>", "$KV.audit-log.>", false},
		"destination above":            {"$KV.*.>", ">", "$KV.audit-log.>", false},
		"another bucket":               {"$KV.audit-log.>", "audit.>", "$KV.other.>", false},
		"every bucket, one covered":    {"$KV.audit-log.>", "audit.>", "$KV.>", false},
		"keys of several tokens":       {"$KV.*.*", "audit.{{wildcard(2)}}", "$KV.audit-log.>", false},
		"not a bucket":                 {"$KV.*.>", "audit.>", "$JS.audit-log.>", false},
		"below the bucket's own token": {"$KV.*.>", "audit.>", "$KV.audit-log", false},
	}
	for name, test := range tests {
		transform := &jetstream.SubjectTransformConfig{Source: test.source, Destination: test.destination}
		if got := movedUnder(transform, test.pattern, "audit"); got != test.want {
			t.Errorf("%s: %+v moves %q under audit: %v, want %v", name, *transform, test.pattern, got, test.want)
		}
	}
	if movedUnder(nil, "$KV.audit-log.>", "audit") {
		t.Error("no transform moves nothing")
	}
}
