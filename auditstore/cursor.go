package auditstore

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// Cursor is a place in a trail, to go on from. It is text without spaces that is safe in a URL, and has no other meaning. It
// stays good while entries are written and removed, also the very one it was made at, for as long as the stream is not made
// again. A page's cursor and a tail's are different; the zero Cursor is where the reading begins.
type Cursor string

// cursorKind tells what a cursor is for.
type cursorKind byte

const (
	pageCursor cursorKind = 'p' // an entry's place in time
	tailCursor cursorKind = 't' // a place in the order of storage
)

// position is what a cursor says.
type position struct {
	kind    cursorKind
	created time.Time // of the stream
	ref
}

// positionLength is that of a cursor in bytes: the kind, three numbers and a checksum.
const positionLength = 1 + 3*8 + 4

func (p position) cursor() Cursor {
	b := make([]byte, 0, positionLength)
	b = append(b, byte(p.kind))
	b = binary.BigEndian.AppendUint64(b, uint64(p.created.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(p.at))
	b = binary.BigEndian.AppendUint64(b, p.sequence)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return Cursor(base64.RawURLEncoding.EncodeToString(b))
}

func (c Cursor) position(kind cursorKind) (position, error) {
	b, err := base64.RawURLEncoding.DecodeString(string(c))
	switch body := len(b) - 4; {
	case err != nil || len(b) != positionLength || crc32.ChecksumIEEE(b[:body]) != binary.BigEndian.Uint32(b[body:]):
		return position{}, fmt.Errorf("%w: %.64q is not one that this package has made", ErrInvalidCursor, string(c))
	case cursorKind(b[0]) != kind:
		return position{}, fmt.Errorf("%w: %.64q is a %s cursor: Page goes on from EntryPage.Next, Tail from Record.Cursor or EntryPage.Latest",
			ErrInvalidCursor, string(c), cursorKind(b[0]))
	}
	return position{
		kind: kind, created: time.Unix(0, int64(binary.BigEndian.Uint64(b[1:]))),
		ref: ref{at: int64(binary.BigEndian.Uint64(b[9:])), sequence: binary.BigEndian.Uint64(b[17:])},
	}, nil
}

func (k cursorKind) String() string {
	if k == tailCursor {
		return "tail"
	}
	return "page"
}

// of refuses a cursor of a stream that was deleted and made again: it says nothing about this one.
func (p position) of(created time.Time) error {
	if p.created.Equal(created) {
		return nil
	}
	return fmt.Errorf("%w: the stream was made again at %s, after the cursor was made: begin anew", ErrInvalidCursor,
		created.UTC().Format(time.RFC3339))
}
