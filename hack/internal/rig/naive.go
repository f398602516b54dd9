package rig

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// CopyNaively is what a hand-written script does: make a stream, list the keys, get each, publish it.
func (r *Rig) CopyNaively(ctx context.Context, bucket, target string, replicas int) error {
	_, err := r.JS.CreateStream(ctx, jetstream.StreamConfig{Name: target, Subjects: []string{target + ".>"}, Replicas: replicas})
	if err != nil {
		return err
	}
	kv, err := r.JS.KeyValue(ctx, bucket)
	if err != nil {
		return err
	}
	keys, err := kv.ListKeys(ctx)
	if err != nil {
		return err
	}
	for key := range keys.Keys() {
		entry, err := kv.Get(ctx, key)
		if err != nil {
			return errors.Join(err, keys.Stop())
		}
		if _, err := r.JS.Publish(ctx, target+"."+key, entry.Value()); err != nil {
			return errors.Join(err, keys.Stop())
		}
	}
	return nil
}
