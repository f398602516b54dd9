package testenv

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What the legacy service gave its bucket.
const (
	LegacyBucketName     = "audit-log"
	legacyBucketTTL      = 720 * time.Hour
	legacyBucketMaxBytes = 50 << 20
)

const (
	// fillTimeout bounds a fill for callers whose context has no deadline.
	fillTimeout = 2 * time.Minute
	// stallWait is how long a publish waits for room among those that are not acknowledged yet.
	stallWait = 10 * time.Second
)

// LegacyBucket is a key-value bucket as the legacy service left it: a random UUID per key, the entry's JSON as the
// value. The same fields give the same keys and bytes.
type LegacyBucket struct {
	// Name is the bucket's name; the default is audit-log.
	Name string
	// Entries is how many to write.
	Entries int
	// History is how many revisions of a key the bucket keeps; the default is 1.
	History uint8
	// TTL is how long the bucket keeps an entry; the default is 720h.
	TTL time.Duration
	// MaxBytes is the size of the bucket; the default is 50 MiB.
	MaxBytes int64
	// Replicas is on how many servers the bucket is; the default is 1.
	Replicas int
	// Seed makes other keys and entries.
	Seed uint64
	// Newest is the timestamp of the last entry; the others are a second apart. The default is a fixed date.
	Newest time.Time
}

type legacyEntry struct {
	ID           string    `json:"id"`
	Timestamp    time.Time `json:"timestamp"`
	User         string    `json:"user"`
	Roles        []string  `json:"roles"`
	Method       string    `json:"method"`
	Path         string    `json:"path"`
	OperationID  string    `json:"operation_id"`
	SourceIP     string    `json:"source_ip"`
	ResponseCode int       `json:"response_code"`
	DurationMS   int64     `json:"duration_ms"`
	TraceID      string    `json:"trace_id,omitempty"`
}

// FillLegacyBucket makes the bucket, if need be, and writes the entries in order. It returns once all are acknowledged.
func FillLegacyBucket(ctx context.Context, js jetstream.JetStream, bucket LegacyBucket) error {
	ctx, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	bucket = bucket.withDefaults()
	_, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:   bucket.Name,
		TTL:      bucket.TTL,
		MaxBytes: bucket.MaxBytes,
		Replicas: bucket.Replicas,
		History:  bucket.History,
	})
	if err != nil {
		return fmt.Errorf("making the bucket %s: %w", bucket.Name, err)
	}
	acks := make([]jetstream.PubAckFuture, 0, bucket.Entries)
	for key, value := range bucket.All() {
		ack, err := js.PublishAsync("$KV."+bucket.Name+"."+key, value, jetstream.WithStallWait(stallWait))
		if err != nil {
			return fmt.Errorf("writing %s to the bucket %s: %w", key, bucket.Name, err)
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return fmt.Errorf("writing to the bucket %s: %w", bucket.Name, err)
		case <-ctx.Done():
			return fmt.Errorf("writing to the bucket %s: %w", bucket.Name, context.Cause(ctx))
		}
	}
	return nil
}

// All yields the keys and values in the order in which FillLegacyBucket writes them.
func (b LegacyBucket) All() func(yield func(key string, value []byte) bool) {
	b = b.withDefaults()
	return func(yield func(string, []byte) bool) {
		random := rand.New(rand.NewPCG(b.Seed, uint64(b.Entries))) // #nosec G404 G115 -- to be the same every time
		for i := range b.Entries {
			entry := newLegacyEntry(random, b.Newest.Add(time.Duration(i+1-b.Entries)*time.Second))
			value, err := json.Marshal(entry)
			if err != nil || !yield(entry.ID, value) {
				return
			}
		}
	}
}

func (b LegacyBucket) withDefaults() LegacyBucket {
	if b.Name == "" {
		b.Name = LegacyBucketName
	}
	if b.History == 0 {
		b.History = 1
	}
	if b.TTL == 0 {
		b.TTL = legacyBucketTTL
	}
	if b.MaxBytes == 0 {
		b.MaxBytes = legacyBucketMaxBytes
	}
	if b.Newest.IsZero() {
		b.Newest = time.Date(2026, time.January, 2, 3, 4, 5, 0, time.UTC)
	}
	return b
}

func newLegacyEntry(random *rand.Rand, at time.Time) legacyEntry {
	methods := []string{"GET", "POST", "PUT", "DELETE"}
	resources := []string{"node", "job", "schedule", "key"}
	users := []string{"alice", "bob", "carol", "deploy-bot"}
	codes := []int{200, 200, 200, 201, 204, 403, 404, 500}
	method, resource := methods[random.IntN(len(methods))], resources[random.IntN(len(resources))]
	return legacyEntry{
		ID:           newUUID(random),
		Timestamp:    at,
		User:         users[random.IntN(len(users))],
		Roles:        []string{"operator"},
		Method:       method,
		Path:         fmt.Sprintf("/%s/%d", resource, random.IntN(1000)),
		OperationID:  method + "_" + resource,
		SourceIP:     fmt.Sprintf("10.0.%d.%d", random.IntN(256), random.IntN(256)),
		ResponseCode: codes[random.IntN(len(codes))],
		DurationMS:   random.Int64N(2000),
	}
}

// newUUID is a version 4 UUID.
func newUUID(random *rand.Rand) string {
	high, low := random.Uint64(), random.Uint64()
	high = high&^0xf000 | 0x4000
	low = low&^(0xc<<60) | 0x8<<60
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", high>>32, high>>16&0xffff, high&0xffff, low>>48, low&0xffffffffffff)
}
