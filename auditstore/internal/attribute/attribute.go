// Package attribute bounds what callers can put into an entry, for every middleware in the same way. It writes nothing.
package attribute

import (
	"context"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
)

// How many bytes of a value an entry takes. JSON needs up to six bytes for one, and a server by default takes messages of 1 MiB.
const (
	MaxValue = 4 << 10
	MaxRole  = 256
	MaxRoles = 128
)

// Roles returns the first MaxRoles roles, each cut to MaxRole bytes, and never nil.
func Roles(roles []string) []string {
	short := make([]string, 0, min(len(roles), MaxRoles))
	for _, role := range roles[:cap(short)] {
		short = append(short, Cut(role, MaxRole))
	}
	return short
}

// Cut returns at most limit bytes of the value, at the end of a character.
func Cut(value string, limit int) string {
	const mark = "…"
	if len(value) <= limit {
		return value
	}
	end := limit - len(mark)
	for end > 0 && end > limit-len(mark)-utf8.UTFMax && !utf8.RuneStart(value[end]) {
		end--
	}
	return value[:end] + mark
}

// TraceID is the trace id of the first context that has one, in hexadecimal, and empty where none has.
func TraceID(contexts ...context.Context) string {
	for _, ctx := range contexts {
		if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
			return span.TraceID().String()
		}
	}
	return ""
}
