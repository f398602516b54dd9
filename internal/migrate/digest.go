package migrate

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
)

// Digest is an order-independent digest of a set of entries: the sum, modulo 2^256, of the SHA-256 of each entry's
// length-prefixed key and its bytes. Two sets that differ by accident have different digests, in whatever order. It is no proof
// against somebody who can choose many of the values and searches for sets with the same sum.
type Digest [sha256.Size]byte

// IsZero says whether no entry has been added.
func (d Digest) IsZero() bool { return d == Digest{} }

// String renders the digest in hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Add adds an entry.
func (d *Digest) Add(key string, value []byte) { d.add(entryHash(key, value)) }

func (d *Digest) add(term [sha256.Size]byte) {
	var carry uint64
	for i := len(d) - 8; i >= 0; i -= 8 {
		var sum uint64
		sum, carry = bits.Add64(binary.BigEndian.Uint64(d[i:]), binary.BigEndian.Uint64(term[i:]), carry)
		binary.BigEndian.PutUint64(d[i:], sum)
	}
}

func (d *Digest) subtract(term [sha256.Size]byte) {
	var borrow uint64
	for i := len(d) - 8; i >= 0; i -= 8 {
		var diff uint64
		diff, borrow = bits.Sub64(binary.BigEndian.Uint64(d[i:]), binary.BigEndian.Uint64(term[i:]), borrow)
		binary.BigEndian.PutUint64(d[i:], diff)
	}
}

func entryHash(key string, value []byte) [sha256.Size]byte {
	h := sha256.New()
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(key)))
	h.Write(length[:])
	h.Write([]byte(key))
	h.Write(value)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}
