package jsbuilder

import (
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// MetadataRedirectPrefix, followed by the name of a bucket, is the key in a stream's metadata that says that the stream
	// has the bucket's subjects; the value is the RFC 3339 time at which it got them. Build never sets it and Merge keeps
	// it: the live stream's keys decide what WithRedirects declares.
	MetadataRedirectPrefix = "audit.osapi.io/redirect."

	// MetadataRedirectedTo is the key in the metadata of a bucket's backing stream that names the stream that its subjects
	// are handed to.
	MetadataRedirectedTo = "audit.osapi.io/redirected-to"

	// redirectSource is what a stream with buckets transforms: the subjects of every bucket. A stream has one transform, so
	// it has to fit all its buckets, and no subject of the stream itself begins with $KV.
	redirectSource = "$KV.*.>"
)

// bucketTransform stores what is put into a bucket as an entry, under the stream's own subjects, which are <base subject>.>: the
// server puts the key behind the base subject.
//
// It comes long before the bucket's subjects do, and stays when they go. A server applies it not when it takes a message, but
// when it stores it: one that is on its way when subjects and transform go together is acknowledged, and stored under the
// bucket's subject, where nobody looks for entries. And each replica stores by its own configuration, which a change
// reaches later than the leader's.
func bucketTransform(own string) *jetstream.SubjectTransformConfig {
	return &jetstream.SubjectTransformConfig{Source: redirectSource, Destination: own}
}

// KeepTransform is want, as Build makes it, with the transform of live where that is the one of a stream with buckets.
func KeepTransform(want, live jetstream.StreamConfig) jetstream.StreamConfig {
	if t := live.SubjectTransform; t != nil && len(want.Subjects) > 0 && *t == *bucketTransform(want.Subjects[0]) {
		want.SubjectTransform = t
	}
	return want
}

var bucketRe = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,252}$`)

// BucketSubjects is the pattern of the subjects under which the keys of a bucket are written.
func BucketSubjects(bucket string) string { return "$KV." + bucket + ".>" }

// Redirects lists the buckets whose subjects a stream with this metadata has, sorted. A key that does not end with the
// name of a bucket is somebody's mistake and is left out: with "*" for a bucket the stream would capture all buckets.
func Redirects(metadata map[string]string) []string {
	var buckets []string
	for key := range metadata {
		bucket, found := strings.CutPrefix(key, MetadataRedirectPrefix)
		if found && bucketRe.MatchString(bucket) {
			buckets = append(buckets, bucket)
		}
	}
	slices.Sort(buckets)
	return buckets
}

// WithRedirects is the configuration cfg, as Build makes it, of a stream that also has the subjects of the buckets: what
// is put into one of them is stored as an entry. It shares no memory with cfg.
func WithRedirects(cfg jetstream.StreamConfig, buckets []string) jetstream.StreamConfig {
	cfg.Subjects = slices.Clone(cfg.Subjects)
	cfg.Metadata = maps.Clone(cfg.Metadata)
	if p := cfg.Placement; p != nil {
		cfg.Placement = &jetstream.Placement{Cluster: p.Cluster, Tags: slices.Clone(p.Tags)}
	}
	if len(buckets) == 0 || len(cfg.Subjects) == 0 {
		return cfg
	}
	cfg.SubjectTransform = bucketTransform(cfg.Subjects[0])
	for _, bucket := range buckets {
		if pattern := BucketSubjects(bucket); !slices.Contains(cfg.Subjects, pattern) {
			cfg.Subjects = append(cfg.Subjects, pattern)
		}
	}
	return cfg
}

// Migrations yields the buckets of which the metadata holds a checkpoint.
func Migrations(metadata map[string]string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for key := range metadata {
			if bucket, found := strings.CutPrefix(key, MetadataMigrationPrefix); found && bucketRe.MatchString(bucket) && !yield(bucket) {
				return
			}
		}
	}
}
