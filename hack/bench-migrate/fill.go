package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/testenv"
)

const (
	entrySize = 400
	// inFlight is how many puts wait for their acknowledgement at once.
	inFlight = 4096
)

// fill makes the bucket as the legacy service did, but large enough and with as many replicas as the stream will have.
func (b *bench) fill(ctx context.Context) error {
	_, err := b.JS.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: b.bucket, Replicas: b.replicas, MaxBytes: -1})
	if err != nil {
		return err
	}
	js, err := jetstream.New(b.JS.Conn(), jetstream.WithPublishAsyncMaxPending(inFlight))
	if err != nil {
		return err
	}
	for key, value := range (testenv.LegacyBucket{Entries: b.entries, Seed: 1}).All() {
		if _, err := js.PublishAsync("$KV."+b.bucket+"."+key, padded(value), jetstream.WithStallWait(copyTimeout)); err != nil {
			return fmt.Errorf("writing %s to the bucket %s: %w", key, b.bucket, err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	stream, err := b.JS.Stream(ctx, "KV_"+b.bucket)
	if err != nil {
		return err
	}
	if got := stream.CachedInfo().State.Msgs; got != uint64(b.entries) {
		return errors.New("not every entry was written to the bucket " + b.bucket)
	}
	return nil
}

// padded gives an entry the size of all others, by a trace id.
func padded(entry []byte) []byte {
	const head, tail = `,"trace_id":"`, `"}`
	room := max(0, entrySize-len(entry)+1-len(head)-len(tail))
	return append(bytes.TrimSuffix(entry, []byte("}")), head+strings.Repeat("0", room)+tail...)
}
