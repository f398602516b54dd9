package auditstore

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"
)

// ref is a message's place in time.
type ref struct {
	at       int64
	sequence uint64
}

func compareRefs(a, b ref) int {
	if c := cmp.Compare(a.at, b.at); c != 0 {
		return c
	}
	return cmp.Compare(a.sequence, b.sequence)
}

// ordered knows the order of a stream's entries by time where counting sequences does not give it. It looks at every message
// once, and later only at what is new.
type ordered struct {
	turn chan struct{} // held while known is used; a channel, so that waiting for it ends with the context
	known
}

// known is what has been learned of the stream, and what a stream made again under its name makes void.
type known struct {
	created time.Time
	upTo    uint64          // every message up to here was looked at
	whole   bool            // whether a look has come to its end, and so all that there was by then was looked at
	latest  int64           // the greatest time of them
	kept    bool            // whether all is filled, up to upTo: not where the order of sequences is the order of time and each id is there once
	all     []ref           // in the order of time
	shown   []ref           // all, without later messages of an id
	hidden  map[uint64]bool // those; never changed, only replaced
	pruned  holes           // what all was last compared with
	later   later
	failed  int // how often in succession it was not what the stream counts
}

// keepTries is how often what is known may differ from what the stream counts before everything is looked at again.
const keepTries = 3

func newOrdered() ordered { return ordered{turn: make(chan struct{}, 1)} }

func (o *ordered) reset(created time.Time) {
	o.known = known{created: created, latest: math.MinInt64, later: newLater()}
}

// page lists the places of a page, newest first, and says whether there are older entries.
func (o *ordered) page(ctx context.Context, s *StreamStore, snap snapshot, limit uint64, from place) ([]ref, bool, error) {
	if err := o.acquire(ctx, s, snap); err != nil {
		return nil, false, err
	}
	defer o.release()
	if !o.kept {
		skipped, err := s.skipped(ctx, snap, from)
		if err != nil {
			return nil, false, err
		}
		refs := sequencesOnly(snap.newest(skipped, limit))
		return refs, skipped+uint64(len(refs)) < snap.count(), nil
	}
	left := o.shown[:o.older(from)]
	refs := make([]ref, min(limit, uint64(len(left))))
	for i := range refs {
		refs[i] = left[len(left)-1-i]
	}
	return refs, len(refs) < len(left), nil
}

// newer lists up to limit places of entries that are newer than after, oldest first.
func (o *ordered) newer(ctx context.Context, s *StreamStore, snap snapshot, limit int, after ref) ([]ref, error) {
	if err := o.acquire(ctx, s, snap); err != nil {
		return nil, err
	}
	defer o.release()
	if !o.kept {
		return nil, errMoved // it came into order by what was removed: keep again
	}
	begin, found := slices.BinarySearchFunc(o.shown, after, compareRefs)
	if found {
		begin++
	}
	return slices.Clone(o.shown[begin:min(len(o.shown), begin+limit)]), nil
}

// state says whether an order is kept, and which messages are not entries because another one of their id is.
func (o *ordered) state(ctx context.Context, s *StreamStore, snap snapshot) (kept bool, hidden map[uint64]bool, err error) {
	if err := o.acquire(ctx, s, snap); err != nil {
		return false, nil, err
	}
	defer o.release()
	return o.kept, o.hidden, nil
}

// older is how many entries are below the place.
func (o *ordered) older(from place) int {
	if from.below == nil {
		return len(o.shown) - int(min(from.offset, uint64(len(o.shown))))
	}
	n, _ := slices.BinarySearchFunc(o.shown, *from.below, compareRefs)
	return n
}

// acquire waits for its turn and brings what is known to the state of the snapshot. Without an error, release ends the turn.
func (o *ordered) acquire(ctx context.Context, s *StreamStore, snap snapshot) error {
	select {
	case o.turn <- struct{}{}:
	case <-ctx.Done():
		return s.readError(ctx.Err())
	}
	err := o.refresh(ctx, s, snap)
	if err != nil {
		o.release()
	}
	return err
}

func (o *ordered) release() { <-o.turn }

// refresh brings what is known to the state of the snapshot.
func (o *ordered) refresh(ctx context.Context, s *StreamStore, snap snapshot) error {
	if o.created.Equal(snap.created) && o.upTo > snap.last {
		return o.overtaken(ctx, s)
	}
	if !o.created.Equal(snap.created) {
		o.reset(snap.created)
	}
	if o.kept && o.upTo == snap.last && o.pruned.count() == snap.count() && uint64(len(o.shown)) == snap.entries {
		return nil // nothing came and nothing went
	}
	if snap.surplus() > 0 && o.upTo > 0 && (!o.kept || !o.whole && o.later.seen == nil) {
		o.begin(snap.created)
	}
	if o.upTo > 0 && !o.kept {
		fresh, upTo, err := o.look(ctx, s, snap)
		if o.continues(fresh) {
			o.advance(fresh, upTo)
			return err
		}
		o.begin(snap.created)
		if err != nil {
			return err
		}
	}
	fresh, upTo, err := o.look(ctx, s, snap)
	if !o.kept && snap.surplus() == 0 && o.continues(fresh) {
		o.advance(fresh, upTo)
		return err
	}
	o.keep(fresh, upTo, snap)
	if err != nil {
		return err
	}
	return o.hideLater(ctx, s, snap)
}

// begin looks at everything anew, to keep it: the order of sequences is known not to do.
func (o *ordered) begin(created time.Time) {
	o.reset(created)
	o.kept = true
}

// overtaken tells a snapshot that another call was faster than from a stream that has lost its end.
func (o *ordered) overtaken(ctx context.Context, s *StreamStore) error {
	now, err := s.observe(ctx)
	if err != nil {
		return err
	}
	if o.upTo > now.last {
		o.reset(now.created)
	}
	return errMoved
}

// look reads the times of the messages that are new since the last look. It returns those up to the sequence to which it came, also
// with an error: where the context ends before a look does, the next call goes on from there.
func (o *ordered) look(ctx context.Context, s *StreamStore, snap snapshot) (fresh []ref, upTo uint64, err error) {
	note := o.later.noter(o.upTo == 0, snap.surplus() > 0)
	w := s.walker(snap, o.upTo, func(m *message) error {
		fresh = append(fresh, m.ref())
		note(m)
		return nil
	})
	if err = w.run(ctx, true); err == nil {
		o.whole, o.later.seen = true, nil
		return fresh, snap.last, nil
	}
	upTo = max(w.complete(), o.upTo)
	return slices.DeleteFunc(fresh, func(r ref) bool { return r.sequence > upTo }), upTo, err
}

// continues says whether time runs on with the sequences from all that was looked at before through fresh.
func (o *ordered) continues(fresh []ref) bool {
	slices.SortFunc(fresh, func(a, b ref) int { return cmp.Compare(a.sequence, b.sequence) })
	return (len(fresh) == 0 || fresh[0].at >= o.latest) && slices.IsSortedFunc(fresh, compareRefs)
}

func (o *ordered) advance(fresh []ref, upTo uint64) {
	if len(fresh) > 0 {
		o.latest = max(o.latest, fresh[len(fresh)-1].at)
	}
	o.upTo = upTo
}

// keep takes fresh into all and drops what the stream has removed.
func (o *ordered) keep(fresh []ref, upTo uint64, snap snapshot) {
	slices.SortFunc(fresh, compareRefs)
	inOrder := len(o.all) == 0 || len(fresh) == 0 || compareRefs(o.all[len(o.all)-1], fresh[0]) < 0
	o.all = append(o.all, fresh...)
	if !inOrder {
		slices.SortFunc(o.all, compareRefs)
	}
	if snap.first != o.pruned.first || len(snap.deleted) != len(o.pruned.deleted) {
		o.all = slices.DeleteFunc(o.all, func(r ref) bool { return !snap.has(r.sequence) })
	}
	o.kept, o.upTo, o.pruned, o.shown = true, upTo, snap.holes, nil
}

// hideLater makes shown from all.
func (o *ordered) hideLater(ctx context.Context, s *StreamStore, snap snapshot) error {
	hidden, err := o.later.hidden(ctx, s, snap)
	if err == nil && uint64(len(o.all)) != snap.count() {
		err = errMoved
	}
	if err != nil {
		if o.failed++; o.failed >= keepTries && errors.Is(err, errMoved) {
			o.reset(o.created)
		}
		return err
	}
	o.failed, o.hidden = 0, hidden
	if len(hidden) == 0 {
		o.shown = o.all
		return nil
	}
	o.shown = make([]ref, 0, len(o.all))
	for _, r := range o.all {
		if !hidden[r.sequence] {
			o.shown = append(o.shown, r)
		}
	}
	return nil
}
