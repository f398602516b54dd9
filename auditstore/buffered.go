package auditstore

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Writer is what a Buffered needs of a store. Every Store is a Writer.
type Writer interface {
	// Write stores the entry and returns nil only once it is durable. It ends with its context.
	Write(ctx context.Context, entry Entry) error
}

// Buffered takes entries without waiting for the store, and forwards them in the background. What a nil error of Write means
// depends on the policy:
//
//	policy  nil means                         lost when the process dies       no room
//	Block   the entry is in the queue         whatever has not been forwarded  waits, then ErrQueueFull
//	Drop    the entry is in the queue         whatever has not been forwarded  ErrDropped at once
//	Spool   the entry is safe on local disk   nothing                          ErrSpoolFull at once
//
// So only Spool keeps the rule of StreamStore.Write that what was acknowledged is not lost, as long as the disk is not. An error
// means that the entry was not taken; the one exception is a context that ends while the disk is busy, see Write.
//
// Every entry that was taken is stored once, however often it has to be sent. Forwarding goes on for ever: while the store
// cannot be reached, is full or is not ready, entries wait. An entry that the store refuses for good (ErrConflict, ErrTooLarge,
// ErrInvalidID, ErrInvalidEntry) does not hold up those behind: it is counted, OnError is told of it, and with Spool it is kept
// in the file dead-letter.jsonl of the directory, which nothing here ever removes.
//
// # Order
//
// Entries are taken in the order of the calls, and stored in the order they were taken: for a store of another kind than
// *StreamStore always, since it gets one after the other. Into a stream with allow_atomic set, as the operator's have it, entries
// go in atomic batches (ADR-50 of NATS), which are stored whole and in order or not at all, where the stream has replicas or the
// policy is Spool. Otherwise up to 512 entries are under way at once. If the connection is lost, or a replicated stream loses its
// leader, the server may have stored some of these and missed others before them. Nothing new is then sent until each has been
// stored or refused, oldest first; so at that moment up to 512 entries may be stored in another order than they were taken in,
// though none of them twice and none left out. Entry.Timestamp, and an ID made here, still tell the order.
//
// A *StreamStore without a Config.Publisher is written to straight through its connection, which is several times faster than
// Write. It is safe for concurrent use. It has to be closed.
type Buffered struct {
	cfg     BufferedConfig
	store   Writer
	room    room
	counts  counts
	metrics func() error // takes the instruments back

	cancel   context.CancelFunc
	stopped  chan struct{} // closed once the forwarder has ended
	finish   sync.Once
	closeErr error
}

var _ Writer = (*Buffered)(nil)

// record is an entry that was taken: its bytes are made once, so that every try sends the same.
type record struct {
	id       string
	data     []byte
	accepted int64  // Unix nanoseconds
	sequence uint64 // its number in the spool
	corrupt  error  // in place of all else: what of the spool could not be read here
}

func (r record) entry() Entry {
	var entry Entry
	// What was made by json.Marshal can be read again.
	_ = json.Unmarshal(r.data, &entry)
	return entry
}

// room is where entries are between Write and the store: in memory or on disk. records, settle and refuse are for the forwarder,
// which settles or refuses every record in the order it got them.
type room interface {
	// put takes the record and counts it.
	put(ctx context.Context, rec record) error
	// records yields what was put, and is closed once the room is shut and empty.
	records() <-chan record
	// settle lets go of the oldest record.
	settle(rec record)
	// refuse keeps the record where nobody will forward it again.
	refuse(rec record, cause error) error
	// shut makes put fail with ErrClosed.
	shut()
	// release gives up files and goroutines. The forwarder has ended.
	release() error
	// bytes is the size on disk.
	bytes() int64
}

// NewBuffered starts a Buffered in front of the store. With Spool it first reads what is on disk, and forwards that before
// anything new.
//
// It returns ErrInvalidConfig for a configuration that cannot be right, ErrSpoolLocked while another Buffered uses the
// directory, and ErrSpoolFailed where the directory cannot be used.
func NewBuffered(store Writer, cfg BufferedConfig) (*Buffered, error) {
	cfg, err := cfg.completed()
	if err != nil {
		return nil, err
	}
	if err := checkWriter(store); err != nil {
		return nil, err
	}
	b := &Buffered{cfg: cfg, store: store, stopped: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	if cfg.Policy == Spool {
		b.room, err = openSpool(ctx, cfg.Dir, cfg.MaxSpoolBytes, &b.counts)
	} else {
		b.room = newQueue(cfg, &b.counts)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	if b.metrics, err = b.register(); err != nil {
		cancel()
		b.room.shut()
		_ = b.room.release()
		return nil, err
	}
	go b.forward(ctx)
	return b, nil
}

func checkWriter(store Writer) error {
	if v := reflect.ValueOf(store); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Errorf("%w: the store is nil: give what New returns, or another Writer", ErrInvalidConfig)
	}
	if s, is := store.(interface{ opened() error }); is {
		return s.opened()
	}
	return nil
}

// Write takes the entry; see Buffered for what nil means. An empty ID is filled with NewID and a zero Timestamp with the current
// time. What the context carries is not kept, and its end only ends waiting: for room, or for the disk. After it ended while the
// disk was busy, which is ErrNotReady, the entry may have been taken all the same, and with the same ID and Timestamp it is
// safe to write again.
//
// The error is a *WriteError that wraps ErrInvalidID, ErrInvalidEntry, ErrTooLarge, ErrQueueFull, ErrDropped, ErrSpoolFull,
// ErrSpoolFailed, ErrNotReady or ErrClosed, or ErrInvalidConfig where NewBuffered did not make b.
func (b *Buffered) Write(ctx context.Context, entry Entry) error {
	if entry.ID == "" {
		entry.ID = NewID()
	}
	if entry.Timestamp.IsZero() {
		entry.Timestamp = time.Now().UTC()
	}
	if err := b.take(ctx, entry); err != nil {
		return &WriteError{ID: entry.ID, Err: err}
	}
	return nil
}

func (b *Buffered) take(ctx context.Context, entry Entry) error {
	if b == nil || b.room == nil {
		return fmt.Errorf("%w: the Buffered was not made by NewBuffered", ErrInvalidConfig)
	}
	if ctx == nil {
		ctx = context.Background()
	}
	if err := checkID(entry.ID); err != nil {
		return err
	}
	data, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidEntry, err)
	}
	if limit := maxBody(b.store); limit > 0 && int64(len(data)) > limit {
		return fmt.Errorf("%w: it has %d bytes as JSON, and the server takes %d", ErrTooLarge, len(data), limit)
	}
	return b.room.put(ctx, record{id: entry.ID, data: data, accepted: time.Now().UnixNano()})
}

// maxBody is how large an entry may be, or 0 where that is not known.
func maxBody(store Writer) int64 {
	s, is := store.(interface {
		handle() (jetstream.JetStream, string)
	})
	if !is {
		return 0
	}
	js, stream := s.handle()
	limit := js.Conn().MaxPayload() // 0 before the first connection
	if limit == 0 {
		return 0
	}
	return max(limit-int64(headerBytes(stream)), 1)
}

// Close takes no more entries and forwards those it has until the context ends. Then it returns ErrNotForwarded with their
// number where some are left: with Spool they are on disk and the next Buffered on the directory forwards them, with the other
// policies they are lost. A context that is done already stops at once; one without a deadline waits as long as it takes.
//
// Closing again waits in the same way and returns the same. No goroutine outlives Close, given that the store's Write ends with
// its context.
func (b *Buffered) Close(ctx context.Context) error {
	if b == nil || b.room == nil {
		return nil
	}
	if ctx == nil {
		ctx = context.Background()
	}
	b.room.shut()
	select {
	case <-b.stopped:
	case <-ctx.Done():
		b.cancel()
		<-b.stopped
	}
	b.finish.Do(func() { b.closeErr = b.end() })
	return b.closeErr
}

func (b *Buffered) end() error {
	b.cancel()
	err := b.room.release()
	if b.metrics != nil {
		_ = b.metrics()
	}
	left := b.counts.depth.Load()
	switch {
	case left == 0:
		return err
	case b.cfg.Policy == Spool:
		return fmt.Errorf("%w: %d are left in %s, and will be forwarded by the next Buffered on it", ErrNotForwarded, left, b.cfg.Dir)
	}
	return fmt.Errorf("%w: %d are lost (the last error: %v)", ErrNotForwarded, left, b.Stats().LastError) //nolint:errorlint // it may be nil
}

// BufferedStats is a view of a Buffered at one moment. The totals count since NewBuffered.
type BufferedStats struct {
	// Depth is how many entries were taken and are neither stored nor refused, with those that an earlier process left on disk.
	Depth int64
	// OldestAge is how long ago the oldest of these was taken. It is 0 where there is none.
	OldestAge time.Duration
	// Accepted is how many entries were taken.
	Accepted int64
	// Written is how many entries the store has acknowledged.
	Written int64
	// Dropped is how many entries were not taken for want of room, under any policy.
	Dropped int64
	// Refused is how many entries the store has refused for good.
	Refused int64
	// Corrupt is how many stretches of the spool could not be read.
	Corrupt int64
	// SpoolBytes is the size of the spool on disk. It shrinks by whole files.
	SpoolBytes int64
	// LastError is why the oldest entry has not been stored yet. It is nil while forwarding goes well.
	LastError error
}

// counts are what the forwarder and those who write share.
type counts struct {
	depth, accepted, written, dropped, refused, corrupt atomic.Int64
	oldest                                              atomic.Int64 // when the oldest entry was taken, or 0
	failure                                             atomic.Pointer[error]
}

func (c *counts) accept(n int) {
	c.accepted.Add(int64(n))
	c.depth.Add(int64(n))
}

func (c *counts) fail(err error) { c.failure.Store(&err) }

// Stats returns the present figures.
func (b *Buffered) Stats() BufferedStats {
	if b == nil || b.room == nil {
		return BufferedStats{}
	}
	c := &b.counts
	stats := BufferedStats{
		Depth: c.depth.Load(), Written: c.written.Load(), Refused: c.refused.Load(), Accepted: c.accepted.Load(),
		Dropped: c.dropped.Load(), Corrupt: c.corrupt.Load(), SpoolBytes: b.room.bytes(),
	}
	if oldest := c.oldest.Load(); oldest != 0 && stats.Depth > 0 {
		stats.OldestAge = max(time.Since(time.Unix(0, oldest)), 0)
	}
	if failure := c.failure.Load(); failure != nil {
		stats.LastError = *failure
	}
	return stats
}
