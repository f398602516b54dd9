package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

const (
	streamName = "bench"
	subject    = "bench"
	entrySize  = 400
	// inFlight is how many messages wait for their acknowledgement at once while a stream is filled.
	inFlight = 4096
	// deleters is how many messages are deleted at once.
	deleters = 32
	// holesPercent is how many of the entries are deleted for the cases with holes.
	holesPercent = 2
)

// trail is what a stream holds, as far as the bench has to know to tell a right page from a wrong one.
type trail struct {
	random   *rand.Rand
	replicas int
	storage  string
	entries  int      // that it was made with
	ids      []string // of the sequences from 1 on
	alive    []uint64 // the sequences that are left, lowest first
}

func newTrail(seed uint64, entries, replicas int, storage string) *trail {
	t := &trail{random: rand.New(rand.NewPCG(seed, uint64(entries))), replicas: replicas, storage: storage, entries: entries}
	t.ids, t.alive = make([]string, entries), make([]uint64, entries)
	for i := range entries {
		t.ids[i], t.alive[i] = t.newID(time.Now().Add(time.Duration(i-entries)*time.Second)), uint64(i+1)
	}
	return t
}

func (t *trail) String() string {
	holes := ""
	if len(t.alive) < len(t.ids) {
		holes = fmt.Sprintf(", %d %% holes", holesPercent)
	}
	return fmt.Sprintf("R%d %s, %d entries%s", t.replicas, t.storage, t.entries, holes)
}

func (t *trail) holes() bool { return len(t.alive) < len(t.ids) }

func (t *trail) newID(at time.Time) string {
	var entropy [10]byte
	for i := range entropy {
		entropy[i] = byte(t.random.Uint32())
	}
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(at)) // it is not later than the year 10889
	_ = id.SetEntropy(entropy[:])      // it has ten bytes
	return id.String()
}

// entry makes an entry of about 400 bytes.
func (t *trail) entry(id string, at time.Time) auditstore.Entry {
	methods, users := []string{"GET", "POST", "PUT", "DELETE"}, []string{"alice@example.com", "bob@example.com", "deploy-bot"}
	method := methods[t.random.IntN(len(methods))]
	return auditstore.Entry{
		ID: id, Timestamp: at.UTC(), User: users[t.random.IntN(len(users))], Roles: []string{"operator", "auditor"}, Method: method,
		Path:        fmt.Sprintf("/api/v1/namespaces/production/services/checkout/customers/orders/%06d/items/quantity", t.random.IntN(1_000_000)),
		OperationID: strings.ToLower(method) + "OrderItems", SourceIP: fmt.Sprintf("10.0.%d.%d", t.random.IntN(256), t.random.IntN(256)),
		ResponseCode: 200 + t.random.IntN(3), DurationMs: t.random.Int64N(2000),
		TraceID: fmt.Sprintf("%016x%016x", t.random.Uint64(), t.random.Uint64()),
	}
}

// message is the entry as Write publishes it.
func (t *trail) message(id string, at time.Time) (*nats.Msg, error) {
	data, err := json.Marshal(t.entry(id, at))
	if err != nil {
		return nil, err
	}
	msg := nats.NewMsg(subject + "." + id)
	msg.Data = data
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	msg.Header.Set(jetstream.ExpectedStreamHeader, streamName)
	return msg, nil
}

// fill makes the stream, and writes the entries as Write would, but many at a time.
func (t *trail) fill(ctx context.Context, js jetstream.JetStream) error {
	began := time.Now()
	storage := jetstream.FileStorage
	if t.storage == "memory" {
		storage = jetstream.MemoryStorage
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: streamName, Subjects: []string{subject + ".>"}, Storage: storage, Replicas: t.replicas, AllowDirect: true,
	})
	if err != nil {
		return err
	}
	size := 0
	for i, id := range t.ids {
		msg, err := t.message(id, time.Now())
		if err != nil {
			return err
		}
		size += len(msg.Data)
		if _, err := js.PublishMsgAsync(msg, jetstream.WithStallWait(time.Minute)); err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	if err := settled(ctx, js); err != nil {
		return err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	if info.State.Msgs != uint64(len(t.ids)) || info.State.LastSeq != uint64(len(t.ids)) {
		return fmt.Errorf("the stream holds %d of %d entries, up to sequence %d", info.State.Msgs, len(t.ids), info.State.LastSeq)
	}
	fmt.Printf("\n== %s, %d bytes each (filled in %.1f s)\n", t, size/len(t.ids), time.Since(began).Seconds())
	return t.ordered(ctx, stream)
}

// grow writes n more entries, to the bucket as well where there is one.
func (t *trail) grow(ctx context.Context, js jetstream.JetStream, bucket *bucketReader, n int) error {
	for range n {
		id := t.newID(time.Now())
		msg, err := t.message(id, time.Now())
		if err != nil {
			return err
		}
		if _, err := js.PublishMsg(ctx, msg); err != nil {
			return fmt.Errorf("writing one more entry: %w", err)
		}
		if bucket != nil {
			if _, err := bucket.kv.Put(ctx, id, msg.Data); err != nil {
				return fmt.Errorf("putting one more entry: %w", err)
			}
		}
		t.ids = append(t.ids, id)
		t.alive = append(t.alive, uint64(len(t.ids)))
	}
	return nil
}

func settled(ctx context.Context, js jetstream.JetStream) error {
	select {
	case <-js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ordered checks that the entries were stored in the order they were sent, as the model of the trail has it.
func (t *trail) ordered(ctx context.Context, stream jetstream.Stream) error {
	for range 100 {
		sequence := uint64(t.random.IntN(len(t.ids)) + 1)
		msg, err := stream.GetMsg(ctx, sequence)
		if err != nil {
			return err
		}
		if want := subject + "." + t.ids[sequence-1]; msg.Subject != want {
			return fmt.Errorf("sequence %d is %s in place of %s: the entries were not stored in order", sequence, msg.Subject, want)
		}
	}
	return nil
}

// punch deletes interior entries at random.
func (t *trail) punch(ctx context.Context, js jetstream.JetStream) error {
	stream, err := js.Stream(ctx, streamName)
	if err != nil {
		return err
	}
	gone := map[uint64]bool{}
	for len(gone) < len(t.ids)*holesPercent/100 {
		gone[uint64(2+t.random.IntN(len(t.ids)-2))] = true
	}
	next := make(chan uint64, len(gone))
	for sequence := range gone {
		next <- sequence
	}
	close(next)
	var wg sync.WaitGroup
	errs := make([]error, deleters)
	for i := range errs {
		wg.Go(func() {
			for sequence := range next {
				if errs[i] = stream.DeleteMsg(ctx, sequence); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	t.alive = slices.DeleteFunc(t.alive, func(sequence uint64) bool { return gone[sequence] })
	return errors.Join(errs...)
}

// page lists the ids of a right page.
func (t *trail) page(offset, limit int) []string {
	ids := make([]string, 0, limit)
	for i := len(t.alive) - 1 - offset; i >= 0 && len(ids) < limit; i-- {
		ids = append(ids, t.ids[t.alive[i]-1])
	}
	return ids
}

// check says whether the entries are the page.
func (t *trail) check(entries []auditstore.Entry, offset, limit int) error {
	want := t.page(offset, limit)
	if len(entries) != len(want) {
		return fmt.Errorf("got %d of %d entries after %d", len(entries), len(want), offset)
	}
	for i, id := range want {
		if entries[i].ID != id || entries[i].TraceID == "" {
			return fmt.Errorf("entry %d after %d is %q in place of %q", i, offset, entries[i].ID, id)
		}
	}
	return nil
}
