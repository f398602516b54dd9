package auditstore

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"
)

var (
	// ErrDropped is returned by a Buffered with the policy Drop when its queue is full. The entry is lost unless the caller
	// keeps it.
	ErrDropped = errors.New("auditstore: dropped, the queue is full")

	// ErrQueueFull is returned by a Buffered with the policy Block when its queue had no room in time. The entry was not taken.
	ErrQueueFull = errors.New("auditstore: the queue is full")

	// ErrSpoolFull is returned by a Buffered with the policy Spool when its files have reached MaxSpoolBytes. The entry was not
	// taken.
	ErrSpoolFull = errors.New("auditstore: the spool is full")

	// ErrSpoolLocked is returned by NewBuffered when another Buffered, here or in another process, uses the directory.
	ErrSpoolLocked = errors.New("auditstore: the spool is in use")

	// ErrSpoolFailed is returned by a Buffered with the policy Spool when the local disk did not take the entry, and by
	// NewBuffered when the directory cannot be used. The next entry is tried again.
	ErrSpoolFailed = errors.New("auditstore: the spool failed")

	// ErrSpoolCorrupt is what OnError gets, with a zero Entry, for bytes of the spool that are no readable record, and for a file
	// of it that could not be read several times. They are kept in a file of the directory, which the error names.
	ErrSpoolCorrupt = errors.New("auditstore: corrupt spool")

	// ErrClosed is returned by Buffered.Write after Close.
	ErrClosed = errors.New("auditstore: closed")

	// ErrNotForwarded is returned by Buffered.Close when entries were not forwarded in time. The error says how many, and
	// what becomes of them.
	ErrNotForwarded = errors.New("auditstore: entries were not forwarded")
)

// Policy says what a Buffered does with an entry while the store does not keep up. See Buffered for what each one promises.
type Policy int

const (
	// Block makes Write wait for room in the queue, for at most BufferedConfig.BlockTimeout.
	Block Policy = iota
	// Drop makes Write refuse the entry at once, with ErrDropped, when the queue is full.
	Drop
	// Spool makes Write return once the entry is safe in a file of BufferedConfig.Dir.
	Spool
)

// String returns the name of the constant.
func (p Policy) String() string {
	switch p {
	case Block:
		return "Block"
	case Drop:
		return "Drop"
	case Spool:
		return "Spool"
	}
	return fmt.Sprintf("Policy(%d)", int(p))
}

// What a BufferedConfig holds where a field is zero.
const (
	DefaultQueueSize     = 8192
	DefaultBlockTimeout  = 5 * time.Second
	DefaultMaxSpoolBytes = 1 << 30
)

// minSpoolBytes leaves room for several segments.
const minSpoolBytes = 1 << 20

// BufferedConfig says how a Buffered behaves. The zero value is the policy Block with its defaults.
type BufferedConfig struct {
	// Policy is what happens while the store does not keep up. The default is Block.
	Policy Policy

	// QueueSize is how many entries may be in memory, waiting or under way. The default is DefaultQueueSize. Block and Drop only.
	QueueSize int
	// BlockTimeout is how long Write waits for room; the context of Write may end it sooner. The default is DefaultBlockTimeout.
	// Block only.
	BlockTimeout time.Duration

	// Dir is the directory of the spool, which is made where it does not exist. It needs a disk that outlives the process, and
	// belongs to one Buffered at a time. Spool only, where it is required.
	Dir string
	// MaxSpoolBytes is how large the spool may grow, without what OnError was told of. The default is DefaultMaxSpoolBytes, the
	// least is 1 MiB. Spool only.
	MaxSpoolBytes int64

	// OnError, where it is set, is told of every entry that the store refuses for good, with the reason: ErrConflict,
	// ErrTooLarge, ErrInvalidID or ErrInvalidEntry. It is called by one goroutine, before the entries behind are forwarded: it
	// must not take long, and must not call Close. With Spool it also gets, with a zero Entry, what is ErrSpoolCorrupt.
	OnError func(Entry, error)

	// Meter, where it is set, gets the instruments auditstore.buffered.*, which report what Stats does.
	Meter metric.Meter
	// MeterOptions go with every observation: give each Buffered of one Meter attributes of its own.
	MeterOptions []metric.ObserveOption
}

// completed returns the configuration with its defaults, or says what is wrong with it.
func (c BufferedConfig) completed() (BufferedConfig, error) {
	if err := c.check(); err != nil {
		return c, fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	if c.QueueSize == 0 {
		c.QueueSize = DefaultQueueSize
	}
	if c.BlockTimeout == 0 {
		c.BlockTimeout = DefaultBlockTimeout
	}
	if c.MaxSpoolBytes == 0 {
		c.MaxSpoolBytes = DefaultMaxSpoolBytes
	}
	return c, nil
}

func (c BufferedConfig) check() error {
	switch {
	case c.Policy < Block || c.Policy > Spool:
		return fmt.Errorf("Policy is %s: use Block, Drop or Spool", c.Policy)
	case c.QueueSize < 0:
		return fmt.Errorf("QueueSize is %d: give how many entries may wait, or 0 for %d", c.QueueSize, DefaultQueueSize)
	case c.BlockTimeout < 0:
		return fmt.Errorf("BlockTimeout is %s: give how long Write may wait, or 0 for %s", c.BlockTimeout, DefaultBlockTimeout)
	case c.BlockTimeout > 0 && c.Policy != Block:
		return fmt.Errorf("BlockTimeout is %s, but with the policy %s nothing waits for room: leave it 0, or use Block", c.BlockTimeout, c.Policy)
	case c.Policy == Spool:
		return c.checkSpool()
	case c.Dir != "":
		return fmt.Errorf("the directory Dir is %q, but the policy %s keeps nothing on disk: leave it empty, or use Spool", c.Dir, c.Policy)
	case c.MaxSpoolBytes != 0:
		return fmt.Errorf("MaxSpoolBytes is %d, but the policy %s keeps nothing on disk: leave it 0, or use Spool", c.MaxSpoolBytes, c.Policy)
	}
	return nil
}

func (c BufferedConfig) checkSpool() error {
	switch {
	case c.Dir == "":
		return errors.New("the directory Dir is empty: with the policy Spool, name a directory on a disk that outlives the process")
	case c.QueueSize != 0:
		return fmt.Errorf("QueueSize is %d, but with the policy Spool entries wait on disk: leave it 0, and set MaxSpoolBytes", c.QueueSize)
	case c.MaxSpoolBytes != 0 && c.MaxSpoolBytes < minSpoolBytes:
		return fmt.Errorf("MaxSpoolBytes is %d: give at least %d, or 0 for %d", c.MaxSpoolBytes, minSpoolBytes, DefaultMaxSpoolBytes)
	}
	return nil
}
