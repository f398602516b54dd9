package handover

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"
)

var errDead = errors.New("the operator was killed")

// streams passes requests on, until the operator is killed: what was asked for before stays, what comes after fails.
type streams struct {
	js   jetstream.JetStream
	dead atomic.Bool
	// asked is told each update before it is sent, answered after that. An error is what the caller gets.
	asked, answered func(cfg *jetstream.StreamConfig) error
}

func (s *streams) Stream(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	if s.dead.Load() {
		return nil, errDead
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

func (s *streams) UpdateStream(ctx context.Context, cfg jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	if s.dead.Load() {
		return nil, errDead
	}
	if s.asked != nil {
		if err := s.asked(&cfg); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := s.js.UpdateStream(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if s.answered != nil {
		if err := s.answered(&cfg); err != nil {
			return nil, err
		}
	}
	return stream.CachedInfo(), nil
}

func (s *streams) DeleteStream(ctx context.Context, name string) error {
	if s.dead.Load() {
		return errDead
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return s.js.DeleteStream(ctx, name)
}
