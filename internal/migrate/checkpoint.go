package migrate

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	// maxNamedKeys is how many keys a Checkpoint names of each kind.
	maxNamedKeys = 10
	// maxNamedKeyLength bounds a named key in bytes: the checkpoint lives in stream metadata, which has 128 KB in all.
	maxNamedKeyLength = 256
)

// Checkpoint is how far a bucket has been copied. It is stored with the data, so that it shares the data's fate.
type Checkpoint struct {
	// Created is when the bucket's backing stream was created. A bucket that was deleted and made again under its name
	// has another one, and the checkpoint then says nothing about it.
	Created time.Time `json:"created"`
	// LastSequence is the sequence of the backing stream up to which every entry has been dealt with.
	LastSequence uint64 `json:"last"`
	// Counts are cumulative over the entries up to LastSequence.
	Counts
	// Subject is the base subject that entries were copied under; empty in a checkpoint of an earlier version.
	Subject string `json:"subject,omitempty"`
	// Recount says that the counts of what is not named may be wrong: it was changed while the run that counted it went on.
	Recount bool `json:"recount,omitempty"`
	// MaxAge is the shortest time to live that entries were copied with, 0 where none was.
	MaxAge    time.Duration `json:"maxAge,omitempty"`
	StartTime time.Time     `json:"start"`
	// CompletionTime is when the first complete copy was through, zero before that.
	CompletionTime time.Time `json:"complete,omitzero"`
	// Verified is the last verification. It is never changed, only replaced. One that found entries removed before the first
	// copy was complete says that everything has to be copied again.
	Verified *Verification `json:"verified,omitempty"`
	// Needed is what MaxBytes has to be at least for the copy, as a dry run has found out, where it is less. It is not stored.
	Needed int64 `json:"-"`
}

// Verification compares the entries of a bucket with what was read back from the stream.
type Verification struct {
	Time time.Time `json:"time"`
	// LastSequence is the sequence of the backing stream up to which entries were compared.
	LastSequence uint64 `json:"last"`
	// BucketEntries and StreamEntries are how many entries there are on either side, the digests which ones. Entries that
	// have outlived maxAge are on neither.
	BucketEntries int64  `json:"entries"`
	BucketDigest  Digest `json:"digest,omitzero"`
	StreamEntries int64  `json:"streamEntries"`
	StreamDigest  Digest `json:"streamDigest,omitzero"`
	// Removed is how many entries of the bucket the stream no longer holds, although their time has not come.
	Removed int64 `json:"removed,omitempty"`
}

// Counts say what became of the entries of a bucket. Once a copy is through, Total is the sum of the others.
type Counts struct {
	Total          int64    `json:"total,omitempty"`
	Migrated       int64    `json:"migrated,omitempty"`
	AlreadyPresent int64    `json:"present,omitempty"`
	Expired        int64    `json:"expired,omitempty"`
	Invalid        int64    `json:"invalid,omitempty"`
	InvalidKeys    []string `json:"invalidKeys,omitempty"`
	Mismatched     int64    `json:"mismatched,omitempty"`
	MismatchedKeys []string `json:"mismatchedKeys,omitempty"`
	// Digest covers the entries counted in Migrated and AlreadyPresent.
	Digest Digest `json:"digest,omitzero"`
	// Copied covers those counted in Migrated only: what the stream holds with the bucket as its source.
	Copied Digest `json:"copied,omitzero"`
}

// Complete says whether the first complete copy is through.
func (c *Checkpoint) Complete() bool { return !c.CompletionTime.IsZero() }

// Lost says whether the stream has lost entries before the first copy was complete. Then nothing but the bucket holds them.
func (c *Checkpoint) Lost() bool { return !c.Complete() && c.Verified != nil && c.Verified.Removed > 0 }

// NeedsRecount says whether a change in the bucket can have made the counts wrong: a value that was not an entry, or
// differed from the stream's, may have been put right, and is not among the keys that the checkpoint names.
func (c *Checkpoint) NeedsRecount() bool {
	return c.Invalid > int64(len(c.InvalidKeys)) || c.Mismatched > int64(len(c.MismatchedKeys))
}

// noteMaxAge takes down that entries are copied with a time to live.
func (c *Checkpoint) noteMaxAge(age time.Duration) {
	if c.LastSequence == 0 || c.MaxAge == 0 || age != 0 && age < c.MaxAge {
		c.MaxAge = age
	}
}

// Matches says whether the checkpoint speaks of the bucket whose backing stream was created at created and has reached
// lastSequence.
func (c *Checkpoint) Matches(created time.Time, lastSequence uint64) bool {
	return c.Created.Equal(created) && c.LastSequence <= lastSequence
}

// Under says whether the checkpoint speaks of entries under the base subject.
func (c *Checkpoint) Under(subject string) bool { return c.Subject == "" || c.Subject == subject }

// Supersedes says whether the checkpoint may take the place of one that is stored. An operator that was frozen, and does not
// know yet that another one has taken over, must not take back what its successor has stored: of two copies, the one that
// began later counts, and a copy never goes back.
func (c *Checkpoint) Supersedes(stored *Checkpoint) bool {
	if !c.StartTime.Equal(stored.StartTime) {
		return c.StartTime.After(stored.StartTime)
	}
	return c.LastSequence >= stored.LastSequence && (c.Complete() || !stored.Complete())
}

// After is now, or right after the copy began that the checkpoint is of, should that have been later by the clock of another
// operator.
func (c *Checkpoint) After(now time.Time) time.Time {
	if now.After(c.StartTime) {
		return now
	}
	return c.StartTime.Add(1)
}

// Encode renders the checkpoint for stream metadata.
func (c *Checkpoint) Encode() (string, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encoding the migration checkpoint: %w", err)
	}
	return string(text), nil
}

// DecodeCheckpoint reads what Encode has written. An empty text is the zero Checkpoint.
func DecodeCheckpoint(text string) (Checkpoint, error) {
	var c Checkpoint
	if text == "" {
		return c, nil
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return Checkpoint{}, fmt.Errorf("decoding the migration checkpoint %.80q: %w", text, err)
	}
	return c, nil
}

// Done is how many entries have been dealt with.
func (c *Counts) Done() int64 {
	return c.Migrated + c.AlreadyPresent + c.Expired + c.Invalid + c.Mismatched
}

// Clean says whether nothing of what was dealt with is left to the bucket alone: every value was an entry, and none differed
// from the stream's.
func (c *Counts) Clean() bool { return c.Invalid == 0 && c.Mismatched == 0 }

func (c *Counts) addInvalid(key string) {
	c.Invalid++
	c.InvalidKeys = appendNamed(c.InvalidKeys, key)
}

// names says whether the key is named among those that differ.
func (c *Counts) names(key string) bool { return slices.Contains(c.MismatchedKeys, named(key)) }

func (c *Counts) addMigrated(key string, value []byte) {
	c.Migrated++
	term := entryHash(key, value)
	c.Digest.add(term)
	c.Copied.add(term)
}

func (c *Counts) removeMigrated(key string, value []byte) {
	c.Migrated--
	term := entryHash(key, value)
	c.Digest.subtract(term)
	c.Copied.subtract(term)
}

func (c *Counts) addMismatched(key string) {
	c.Mismatched++
	c.MismatchedKeys = appendNamed(c.MismatchedKeys, key)
}

// appendNamed never changes the slice it is given: checkpoints are handed out by value and share it.
func appendNamed(keys []string, key string) []string {
	if len(keys) >= maxNamedKeys {
		return keys
	}
	return append(slices.Clip(keys), named(key))
}

// named is how a checkpoint names a key.
func named(key string) string {
	if len(key) > maxNamedKeyLength {
		return key[:maxNamedKeyLength] + "…"
	}
	return key
}

// MarshalText renders the digest in hex, for the checkpoint and for people.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText has written.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("a digest has %d hex digits, got %d", hex.EncodedLen(len(d)), len(text))
	}
	_, err := hex.Decode(d[:], text)
	return err
}
