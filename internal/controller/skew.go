package controller

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
)

const (
	// minSkew is by how much the clocks of the operator and of the NATS server have to differ to count.
	minSkew = time.Second
	// maxSkew is how far they may differ. What is less is allowed for.
	maxSkew = time.Minute
)

// skewOf is how far the operator's clock is ahead of the server's, as far as that follows from a request that was sent and answered
// at these times by the one clock, and answered at server by the other.
func skewOf(sent, answered, server time.Time) (skew time.Duration) {
	switch {
	case server.IsZero():
	case server.Before(sent):
		skew = sent.Sub(server)
	case server.After(answered):
		skew = answered.Sub(server)
	}
	if skew.Abs() < minSkew {
		return 0
	}
	return skew
}

// timed notes the skew that a request shows.
func (r *Reconciler) timed(request func() (*jetstream.StreamInfo, error)) (*jetstream.StreamInfo, error) {
	sent := r.Now()
	info, err := request()
	if err == nil {
		r.skew.Store(int64(skewOf(sent, r.Now(), info.TimeStamp)))
	}
	return info, err
}

// serverNow is the time by the server's clock, which is what entries were recorded by.
func (r *Reconciler) serverNow() time.Time { return r.Now().Add(-time.Duration(r.skew.Load())) }

// clockSkew refuses to judge by clocks that are so far apart that one of them is wrong: entries that are wrongly taken for expired
// are not copied. Without a maxAge nothing depends on it.
func clockSkew(skew, maxAge time.Duration) error {
	if maxAge == 0 || skew.Abs() <= maxSkew {
		return nil
	}
	way := "ahead of"
	if skew < 0 {
		way = "behind"
	}
	return &failure.Waiting{Reason: v1alpha1.ReasonClockSkew, After: slowRetry, Err: fmt.Errorf(
		"the operator's clock is %s %s that of the NATS server, by which maxAge would be misjudged: correct it",
		skew.Abs().Round(time.Second), way)}
}
