package testenv

import (
	"context"
	"fmt"
	"time"
)

const (
	// startTimeout is for a part to start or to end on a machine that does much else.
	startTimeout = 2 * time.Minute
	// checkTimeout bounds one try: a request that got lost would otherwise take all the time there is.
	checkTimeout = 10 * time.Second
	pollInterval = 25 * time.Millisecond
)

// await calls check until it returns nil. It gives up when ctx ends, after startTimeout, or at once when gone is closed,
// which says that the process waited for has ended; the error tells what check said last.
func await(ctx context.Context, what string, gone <-chan struct{}, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := try(ctx, check)
		if err == nil {
			return nil
		}
		select {
		case <-gone:
			return fmt.Errorf("waiting for %s: the process has ended: %w", what, err)
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w: %w", what, context.Cause(ctx), err)
		case <-time.After(pollInterval):
		}
	}
}

func try(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return check(ctx)
}
