package auditstore

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
)

// maxIDLength keeps the protocol line of a publish well below the 4 KiB at which a server closes the connection.
const maxIDLength = 1024

// NewID returns a new id: a ULID, greater than every one this process has made before.
func NewID() string { return ids.next() }

// ValidID says whether the id is one literal subject token: 1 to 1024 bytes of UTF-8, without dots, wildcards (* and >),
// spaces and control characters.
func ValidID(id string) bool {
	switch {
	case id == "" || len(id) > maxIDLength:
		return false
	case usual(id):
		return true
	case !utf8.ValidString(id) || strings.ContainsAny(id, ".*>"):
		return false
	}
	return !strings.ContainsFunc(id, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
}

// usual says whether an id consists of what ULIDs, UUIDs and numbers do, which saves a closer look at each entry that is read.
func usual(id string) bool {
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' {
			return false
		}
	}
	return true
}

func checkID(id string) error {
	if ValidID(id) {
		return nil
	}
	return fmt.Errorf("%w %.64q: an id is one subject token of at most %d bytes, without dots, wildcards (* and >) and spaces",
		ErrInvalidID, id, maxIDLength)
}

var ids = idSource{entropy: ulid.Monotonic(rand.Reader, 0)}

// idSource makes ULIDs that only grow, also when the clock is set back.
type idSource struct {
	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
	last    uint64
}

func (s *idSource) next() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last, ulid.Now())
	for {
		// The only error is that the random part cannot grow any more within this millisecond: crypto/rand never fails.
		if id, err := ulid.New(s.last, s.entropy); err == nil {
			return id.String()
		}
		s.last++
	}
}
