package main

import (
	"io"
	"net/http"
	"sync"
)

const maxOrder = 64 << 10

// orders is what the service is about, and knows nothing of an audit.
type orders struct {
	mu  sync.Mutex
	all map[string][]byte
}

func newOrders() *orders { return &orders{all: map[string][]byte{}} }

func (o *orders) register(mux *http.ServeMux) {
	mux.HandleFunc("PUT /orders/{id}", signedIn(o.put))
	mux.HandleFunc("GET /orders/{id}", signedIn(o.get))
	mux.HandleFunc("DELETE /orders/{id}", signedIn(o.cancel))
}

func (o *orders) put(w http.ResponseWriter, r *http.Request) {
	order, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	if err != nil {
		http.Error(w, "the order cannot be read", http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[r.PathValue("id")] = order
	w.WriteHeader(http.StatusCreated)
}

func (o *orders) get(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	order, found := o.all[r.PathValue("id")]
	o.mu.Unlock()
	if !found {
		http.Error(w, "there is no such order", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(order)
}

func (o *orders) cancel(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.all, r.PathValue("id"))
	w.WriteHeader(http.StatusNoContent)
}
