package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
)

// slowRetry is how soon to look again at what somebody else has to mend.
const slowRetry = time.Minute

// ensureStream converges the stream to the declared configuration: it creates it, claims it, or puts right what
// differs.
func (r *Reconciler) ensureStream(ctx context.Context, s *scope) error {
	want, err := r.desired(ctx, s.obj)
	if err != nil {
		return err
	}
	s.want = want
	defer r.locks.lock(want.Name)()
	live, err := s.nats.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return r.createStream(ctx, s, want)
	case err != nil:
		return err
	}
	want = withRedirects(want, &s.obj.Spec, live)
	r.deletions.forget(want.Name)
	if err := r.claim(ctx, s, live, want.Metadata[jsbuilder.MetadataOwner]); err != nil {
		return err
	}
	if s.claimed() && !s.sameStream(live) {
		s.markLost(r.Now())
	}
	if want, err = s.keepLocked(want, live); err != nil {
		return err
	}
	s.want, s.live = want, live
	differences := jsbuilder.Compare(want, live.Config)
	if len(differences) > 0 {
		if err := r.updateStream(ctx, s, want, differences); err != nil {
			return err
		}
	}
	s.streamReady = s.refused == nil
	return nil
}

// desired is the declared configuration of a resource's stream.
func (r *Reconciler) desired(ctx context.Context, obj *v1alpha1.AuditStream) (jetstream.StreamConfig, error) {
	owner, err := r.owner(ctx, obj)
	if err != nil {
		return jetstream.StreamConfig{}, err
	}
	want, err := jsbuilder.Build(&obj.Spec, obj.Namespace, obj.Name, owner)
	if err != nil {
		return jetstream.StreamConfig{}, &failure.Terminal{Reason: v1alpha1.ReasonInvalidConfiguration, Err: err}
	}
	return want, nil
}

func (r *Reconciler) createStream(ctx context.Context, s *scope, want jetstream.StreamConfig) error {
	if s.claimed() {
		r.deletions.missing(want.Name, r.Now())
	}
	if err := r.deletions.settled(want.Name, s.claimed(), r.Now()); err != nil {
		return err
	}
	live, err := s.nats.CreateStream(ctx, want)
	if err != nil {
		return err
	}
	r.deletions.forget(want.Name)
	if s.claimed() && !s.sameStream(live) {
		s.markLost(r.Now())
	}
	s.live, s.created = live, true
	if left := jsbuilder.Compare(want, live.Config); len(left) > 0 {
		return notApplied(want.Name, describe(left), slowRetry)
	}
	s.streamReady = true
	return nil
}

func (r *Reconciler) updateStream(ctx context.Context, s *scope, want jetstream.StreamConfig, differences []jsbuilder.Difference) error {
	if fixed := fields(differences, false); fixed != "" {
		return &failure.Terminal{Reason: v1alpha1.ReasonImmutableField, Err: fmt.Errorf(
			"stream %s differs in what NATS cannot change in place: %s; declare what the stream has, or another stream", want.Name, fixed)}
	}
	clustered := s.live.Cluster != nil && s.live.Cluster.Name != ""
	if hazards := jsbuilder.Hazards(want, s.live.Config, s.live.State, clustered); len(hazards) > 0 {
		return &failure.Terminal{Reason: hazards[0].Reason, Err: errors.New(hazards[0].Message)}
	}
	if err := r.futile.known(want.Name, differences, r.Now()); err != nil {
		return err
	}
	left := differences
	// Some changes take NATS two updates (see jsbuilder.Merge).
	for range 2 {
		live, err := s.nats.UpdateStream(ctx, jsbuilder.Merge(want, s.live.Config))
		if err != nil {
			return fmt.Errorf("updating %s of stream %s: %w", fields(differences, true), want.Name, err)
		}
		s.live = live
		if left = jsbuilder.Compare(want, live.Config); len(left) == 0 {
			break
		}
	}
	s.healed = slices.DeleteFunc(slices.Clone(differences), func(d jsbuilder.Difference) bool {
		return slices.ContainsFunc(left, func(l jsbuilder.Difference) bool { return l.Field == d.Field })
	})
	return r.futile.note(want.Name, left, r.Now())
}

// fields describes the differences that an update can put right, or those that it cannot.
func fields(differences []jsbuilder.Difference, fixable bool) string {
	var chosen []jsbuilder.Difference
	for _, d := range differences {
		if d.Fixable == fixable {
			chosen = append(chosen, d)
		}
	}
	return describe(chosen)
}

func describe(differences []jsbuilder.Difference) string {
	texts := make([]string, len(differences))
	for i, d := range differences {
		texts[i] = fmt.Sprintf("%s (is %s, declared %s)", d.Field, d.Have, d.Want)
	}
	return strings.Join(texts, ", ")
}
