package auditstoretest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

func checkConcurrentWriters(t tester, store auditstore.Store) {
	const writers, each = 8, 20
	errs := atOnce(writers, func(writer int) error {
		for i := range each {
			if err := store.Write(t.Context(), numbered(writer, i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("Write by %d writers at once: %v", writers, err)
	}
	all, err := store.ListAll(t.Context())
	if err != nil {
		t.Fatalf("ListAll: %v", err)
	}
	wantPage(t, store, writers*each, 0, writers*each, all)
	for writer := range writers {
		var own, want []auditstore.Entry
		for _, entry := range all {
			if entry.User == numbered(writer, 0).User {
				own = append(own, entry)
			}
		}
		for i := range each {
			want = slices.Insert(want, 0, numbered(writer, i))
		}
		if !slices.EqualFunc(own, want, equal) {
			t.Errorf("of writer %d ListAll returned %v, want its %d entries, newest first", writer, own, each)
		}
	}
}

func numbered(writer, i int) auditstore.Entry {
	entry := sample(fmt.Sprintf("w%d-%d", writer, i))
	entry.User = fmt.Sprintf("writer%d", writer)
	return entry
}

// checkConcurrentConflict races different entries for one id in some rounds, and equal ones in the others.
func checkConcurrentConflict(t tester, store auditstore.Store) {
	const rounds, writers = 20, 4
	for round := range rounds {
		id, same := fmt.Sprintf("id%d", round), round%2 == 1
		candidate := func(writer int) auditstore.Entry {
			entry := sample(id)
			if !same {
				entry.User = fmt.Sprintf("writer%d", writer)
			}
			return entry
		}
		errs := atOnce(writers, func(writer int) error { return store.Write(t.Context(), candidate(writer)) })
		winner := slices.Index(errs, nil)
		if winner < 0 {
			t.Fatalf("none of %d writers at once could write an entry under %q: %v", writers, id, errors.Join(errs...))
		}
		for writer, err := range errs {
			switch {
			case same && err != nil:
				t.Errorf("Write of an entry that others write at the same time: %v", err)
			case !same && writer != winner:
				wantError(t, fmt.Sprintf("Write under %q at the same time as an entry that was stored", id), err, auditstore.ErrConflict)
			}
		}
		wantGet(t, store, candidate(winner))
	}
	all, err := store.ListAll(t.Context())
	if err != nil || len(all) != rounds {
		t.Errorf("ListAll returned %d entries and the error %v, want %d, one for each id", len(all), err, rounds)
	}
}

// atOnce runs the function n times at the same time and returns what each call returned.
func atOnce(n int, run func(i int) error) []error {
	errs := make([]error, n)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range n {
		done.Go(func() {
			start.Wait()
			errs[i] = run(i)
		})
	}
	start.Done()
	done.Wait()
	return errs
}

func checkCancelled(t tester, store auditstore.Store) {
	kept, late := sample("kept"), sample("late")
	write(t, store, kept)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	if got, err := store.Get(ctx, kept.ID); err == nil && (got == nil || !equal(*got, kept)) {
		t.Errorf("Get with a cancelled context returned %v and no error, want the entry or an error", got)
	} else {
		wantHonest(t, "Get", err)
	}
	if page, total, err := store.List(ctx, 10, 0); err == nil && (total != 1 || len(page) != 1) {
		t.Errorf("List with a cancelled context returned %v, the total %d and no error, want the whole page or an error", page, total)
	} else {
		wantHonest(t, "List", err)
	}
	if all, err := store.ListAll(ctx); err == nil && len(all) != 1 {
		t.Errorf("ListAll with a cancelled context returned %v and no error, want every entry or an error", all)
	} else {
		wantHonest(t, "ListAll", err)
	}
	err := store.Write(ctx, late)
	wantHonest(t, "Write", err)
	if err == nil {
		wantGet(t, store, late)
	}

	write(t, store, late) // whether or not it was stored, which nobody can know
	wantAll(t, store, late, kept)
}

// wantHonest refuses an error that claims to know about the store what a cancelled call cannot know.
func wantHonest(t tester, call string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if !errors.Is(err, context.Canceled) && !errors.Is(err, auditstore.ErrNotReady) && !errors.Is(err, auditstore.ErrIncomplete) {
		t.Errorf("%s with a cancelled context returned the error %v, want one that is %q, %q or %q", call, err,
			context.Canceled, auditstore.ErrNotReady, auditstore.ErrIncomplete)
	}
	if errors.Is(err, auditstore.ErrNotFound) || errors.Is(err, auditstore.ErrConflict) {
		t.Errorf("%s with a cancelled context returned the error %v, which says more than a cancelled call can know", call, err)
	}
}
