package auditstore

import (
	"slices"
	"sort"
	"time"
)

// holes are the sequences of a stream that hold no message any more: below first, and the deleted ones (ascending, all between
// first and last). With them a place in the list is a sequence without reading anything.
type holes struct {
	created time.Time // tells a stream from one that was made again under its name
	first   uint64
	last    uint64
	deleted []uint64
}

// count is how many messages there are.
func (h holes) count() uint64 {
	if h.last < h.first {
		return 0
	}
	return h.last - h.first + 1 - uint64(len(h.deleted))
}

// has says whether the sequence holds a message.
func (h holes) has(sequence uint64) bool {
	if sequence < h.first || sequence > h.last {
		return false
	}
	_, gone := slices.BinarySearch(h.deleted, sequence)
	return !gone
}

// upTo is how many messages there are at the sequence and below.
func (h holes) upTo(sequence uint64) uint64 {
	if sequence < h.first || h.last < h.first {
		return 0
	}
	sequence = min(sequence, h.last)
	below := sort.Search(len(h.deleted), func(i int) bool { return h.deleted[i] > sequence })
	return sequence - h.first + 1 - uint64(below)
}

// at is the sequence of the message that has rank messages below it; rank is less than count.
func (h holes) at(rank uint64) uint64 {
	// deleted[i]-first-i messages lie below the hole i.
	below := sort.Search(len(h.deleted), func(i int) bool { return h.deleted[i]-h.first-uint64(i) > rank })
	return h.first + rank + uint64(below)
}

// newest lists the sequences of n messages, highest first, after the skip highest ones.
func (h holes) newest(skip, n uint64) []uint64 {
	total := h.count()
	if skip >= total {
		return nil
	}
	n = min(n, total-skip)
	list := make([]uint64, n)
	for i := range list {
		list[i] = h.at(total - 1 - skip - uint64(i))
	}
	return list
}

// between lists the sequences of the messages above low and up to high, lowest first.
func (h holes) between(low, high uint64) []uint64 {
	from, to := h.upTo(low), h.upTo(high)
	if to <= from {
		return nil
	}
	list := make([]uint64, 0, to-from)
	for rank := from; rank < to; rank++ {
		list = append(list, h.at(rank))
	}
	return list
}

// moved is what the holes are when the stream has gone on to first and last and nothing in between was deleted. If that gives
// the stream's own count of deleted messages it is right: a message that is gone never comes back.
func (h holes) moved(created time.Time, first, last uint64) holes {
	if !h.created.Equal(created) || last < h.last || first < h.first {
		return holes{created: created, first: first, last: last}
	}
	from, _ := slices.BinarySearch(h.deleted, first)
	return holes{created: created, first: first, last: last, deleted: h.deleted[from:]}
}
