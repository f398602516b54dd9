package auditstoretest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore"
)

// memory is a second implementation that keeps every promise, so that a check cannot pass by what is special to StreamStore.
type memory struct {
	mu      sync.Mutex
	entries []auditstore.Entry // oldest first
}

func (m *memory) Write(ctx context.Context, entry auditstore.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if entry.ID == "" {
		entry.ID = auditstore.NewID()
	}
	if entry.Timestamp.IsZero() {
		entry.Timestamp = time.Now().UTC()
	}
	if !auditstore.ValidID(entry.ID) {
		return auditstore.ErrInvalidID
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.index(entry.ID); i < 0 {
		m.entries = append(m.entries, clone(entry))
	} else if !equal(m.entries[i], entry) {
		return auditstore.ErrConflict
	}
	return nil
}

func (m *memory) index(id string) int {
	return slices.IndexFunc(m.entries, func(e auditstore.Entry) bool { return e.ID == id })
}

func (m *memory) Get(ctx context.Context, id string) (*auditstore.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !auditstore.ValidID(id) {
		return nil, auditstore.ErrInvalidID
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.index(id)
	if i < 0 {
		return nil, auditstore.ErrNotFound
	}
	entry := clone(m.entries[i])
	return &entry, nil
}

func (m *memory) List(ctx context.Context, limit, offset int) ([]auditstore.Entry, int, error) {
	if limit < 0 || offset < 0 {
		return nil, 0, auditstore.ErrInvalidRange
	}
	all, err := m.ListAll(ctx)
	if err != nil {
		return nil, 0, err
	}
	page := all[min(offset, len(all)):]
	return page[:min(limit, len(page))], len(all), nil
}

func (m *memory) ListAll(ctx context.Context) ([]auditstore.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []auditstore.Entry
	for _, entry := range slices.Backward(m.entries) {
		all = append(all, clone(entry))
	}
	return all, nil
}

func clone(entry auditstore.Entry) auditstore.Entry {
	entry.Roles = slices.Clone(entry.Roles)
	return entry
}

// broken is a memory of which a test replaces some methods.
type broken struct {
	*memory
	write   func(ctx context.Context, entry auditstore.Entry) error
	get     func(ctx context.Context, id string) (*auditstore.Entry, error)
	list    func(ctx context.Context, limit, offset int) ([]auditstore.Entry, int, error)
	listAll func(ctx context.Context) ([]auditstore.Entry, error)
}

func (b *broken) Write(ctx context.Context, entry auditstore.Entry) error {
	if b.write != nil {
		return b.write(ctx, entry)
	}
	return b.memory.Write(ctx, entry)
}

func (b *broken) Get(ctx context.Context, id string) (*auditstore.Entry, error) {
	if b.get != nil {
		return b.get(ctx, id)
	}
	return b.memory.Get(ctx, id)
}

func (b *broken) List(ctx context.Context, limit, offset int) ([]auditstore.Entry, int, error) {
	if b.list != nil {
		return b.list(ctx, limit, offset)
	}
	return b.memory.List(ctx, limit, offset)
}

func (b *broken) ListAll(ctx context.Context) ([]auditstore.Entry, error) {
	if b.listAll != nil {
		return b.listAll(ctx)
	}
	return b.memory.ListAll(ctx)
}
