package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

const (
	pageSize = 100
	// fresh is how many entries are written between two turns of the newest page.
	fresh = 10
)

// store opens the trail.
func (b *bench) store(ctx context.Context) (*auditstore.StreamStore, error) {
	return auditstore.New(ctx, b.js, auditstore.Config{Stream: streamName, Subject: subject})
}

// pages measures the newest and the middle page, beside a key-value bucket with the same entries.
func (b *bench) pages(ctx context.Context) (err error) {
	bucket, err := newBucket(ctx, b.js, b.trail)
	if err != nil {
		return fmt.Errorf("filling the bucket: %w", err)
	}
	defer func() { err = errors.Join(err, b.js.DeleteKeyValue(context.WithoutCancel(ctx), bucketName)) }()
	if err := b.page(ctx, "newest", 0, bucket); err != nil {
		return err
	}
	return b.page(ctx, "middle", len(b.trail.alive)/2, bucket)
}

// pagesWithHoles measures the same after some entries were deleted. The bucket is left out: its keys are listed in the same way.
func (b *bench) pagesWithHoles(ctx context.Context) error {
	if err := b.trail.punch(ctx, b.js); err != nil {
		return fmt.Errorf("deleting entries: %w", err)
	}
	fmt.Printf("\n== %s\n", b.trail)
	if err := b.page(ctx, "newest", 0, nil); err != nil {
		return err
	}
	return b.page(ctx, "middle", len(b.trail.alive)/2, nil)
}

func (b *bench) page(ctx context.Context, which string, offset int, bucket *bucketReader) error {
	list, page, err := b.ours(ctx, offset)
	if err != nil {
		return err
	}
	consumer, err := b.consumer(ctx, offset)
	if err != nil {
		return err
	}
	ways := []*way{list, page, consumer}
	if bucket != nil {
		ways = append(ways, &way{
			name: "keys + get", slow: true,
			do:    func(ctx context.Context) error { return bucket.page(ctx, pageSize, offset) },
			after: func(context.Context) error { return b.trail.check(bucket.entries, offset, pageSize) },
		})
	}
	between := nothing
	if offset == 0 {
		between = func(ctx context.Context) error { return b.trail.grow(ctx, b.js, bucket, fresh) }
	}
	if err := b.raceAmid(ctx, between, b.rounds, b.budget, ways...); err != nil {
		return err
	}
	b.table(fmt.Sprintf("%s page of %d", which, pageSize), ways...)
	best := 0.0
	for _, theirs := range ways[2:] {
		best = max(best, list.against(theirs), page.against(theirs))
	}
	switch {
	case !b.trail.holes():
		b.worst(which+"_vs_best", best, b.trail.String())
	case b.trail.entries == b.largest:
		b.worst(which+"_holes_vs_consumer", best, b.trail.String())
	}
	for _, w := range []*way{list, page} {
		b.worst("p50_ms", float64(w.quantile(50).Microseconds())/1000, b.trail.String()+", "+which+" page, "+w.name)
	}
	return nil
}

// ours are List and Page.
func (b *bench) ours(ctx context.Context, offset int) (list, page *way, err error) {
	store, err := b.store(ctx)
	if err != nil {
		return nil, nil, err
	}
	cursor, err := cursorAt(ctx, store, offset)
	if err != nil {
		return nil, nil, err
	}
	// Each has a store that knows nothing of the trail, nor what the other one has read.
	if store, err = b.store(ctx); err != nil {
		return nil, nil, err
	}
	paging, err := b.store(ctx)
	if err != nil {
		return nil, nil, err
	}
	var entries []auditstore.Entry
	check := func(context.Context) error { return b.trail.check(entries, offset, pageSize) }
	list = &way{name: "List", after: check, do: func(ctx context.Context) (err error) {
		var total int
		if entries, total, err = store.List(ctx, pageSize, offset); err == nil && total != len(b.trail.alive) {
			err = fmt.Errorf("it counts %d of %d entries", total, len(b.trail.alive))
		}
		return err
	}}
	page = &way{name: "Page", after: check, do: func(ctx context.Context) error {
		p, err := paging.Page(ctx, cursor, pageSize)
		if err == nil {
			entries = p.Entries
		}
		return err
	}}
	return list, page, nil
}

// cursorAt goes from page to page to the place after offset entries.
func cursorAt(ctx context.Context, store *auditstore.StreamStore, offset int) (auditstore.Cursor, error) {
	var cursor auditstore.Cursor
	for offset > 0 {
		page, err := store.Page(ctx, cursor, min(offset, 5000))
		if err != nil {
			return "", err
		}
		cursor, offset = page.Next, offset-len(page.Entries)
	}
	return cursor, nil
}

func (b *bench) consumer(ctx context.Context, offset int) (*way, error) {
	stream, err := b.js.Stream(ctx, streamName)
	if err != nil {
		return nil, err
	}
	reader := &consumerReader{js: b.js, stream: stream}
	return &way{
		name: "consumer",
		do:   func(ctx context.Context) error { return reader.page(ctx, pageSize, offset) },
		after: func(ctx context.Context) error {
			return errors.Join(b.trail.check(reader.entries, offset, pageSize), reader.clean(ctx))
		},
	}, nil
}
