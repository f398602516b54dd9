package pods

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

const (
	ordersURL    = "http://10.0.0.43"
	clerk        = "clerk"
	auditor      = "auditor"
	betweenPuts  = 20 * time.Millisecond
	ordersPerRun = 20
)

// workload is the service of examples/service, whose every answer has an entry in the trail, and what it has answered.
type workload struct {
	mu       sync.Mutex
	answered []string
}

// order puts one order and keeps its path once the service has answered well.
func (w *workload) order(ctx context.Context) error {
	w.mu.Lock()
	path := fmt.Sprintf("/orders/%d", len(w.answered)+1)
	w.mu.Unlock()
	status, body, err := request(ctx, http.MethodPut, ordersURL+path, clerk)
	if err != nil {
		return err
	}
	if status != http.StatusCreated && status != http.StatusOK && status != http.StatusNoContent {
		return fmt.Errorf("PUT %s: %d %s", path, status, body)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = append(w.answered, path)
	return nil
}

// orders puts orders until stop is called, which says what went wrong.
func (w *workload) orders() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := w.order(context.WithoutCancel(ctx)); err != nil {
				failed <- err
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(betweenPuts):
			}
		}
		failed <- nil
	}()
	return func() error {
		cancel()
		return <-failed
	}
}

// trail is how often each order that was put is in the trail, as the service exports it.
func trail(ctx context.Context) (map[string]int, error) {
	status, body, err := request(ctx, http.MethodGet, ordersURL+"/audit/export", auditor)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("exporting the trail: %d %s", status, body)
	}
	times := map[string]int{}
	for decoder := json.NewDecoder(bytes.NewReader(body)); ; {
		var entry struct{ Method, Path, User string }
		if err := decoder.Decode(&entry); errors.Is(err, io.EOF) {
			return times, nil
		} else if err != nil {
			return nil, err
		}
		if entry.Method == http.MethodPut && entry.User == "ada" {
			times[entry.Path]++
		}
	}
}

// expectWhole checks that the trail has every order that was answered, each once, and no other.
func (w *workload) expectWhole(ctx context.Context) {
	GinkgoHelper()
	w.mu.Lock()
	want := map[string]int{}
	for _, path := range w.answered {
		want[path] = 1
	}
	w.mu.Unlock()
	Expect(want).NotTo(BeEmpty())
	Expect(trail(ctx)).To(Equal(want))
}
