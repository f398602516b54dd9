package jsbuilder

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// TestServerDeletesTheFirstOfDoubles proves the hazard: the update that Hazards warns of succeeds, on a stream that
// denies deletes, and takes the entry away.
func TestServerDeletesTheFirstOfDoubles(t *testing.T) {
	js := loneServer(t)
	for _, storage := range []v1alpha1.Storage{v1alpha1.StorageFile, v1alpha1.StorageMemory} {
		t.Run(string(storage), func(t *testing.T) {
			spec := &v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit", Storage: storage}
			create(t, js, mustBuild(t, spec))
			defer remove(t, js, spec.Stream)
			publish(t, js, "audit.1", "one")
			publish(t, js, "audit.2", "entry")
			spec.WhenFull = v1alpha1.WhenFullRejectNew
			want := mustBuild(t, spec)

			before := info(t, js, spec.Stream)
			if h := Hazards(want, before.Config, before.State, false); len(h) != 0 {
				t.Fatalf("without doubles: Hazards = %+v", h)
			}
			publish(t, js, "audit.2", "later")
			before = info(t, js, spec.Stream)
			if h := Hazards(want, before.Config, before.State, false); len(h) != 1 || h[0].Field != "max_msgs_per_subject" {
				t.Fatalf("with a double: Hazards = %+v", h)
			}
			if d := Compare(want, before.Config); slices.ContainsFunc(d, func(d Difference) bool { return !d.Fixable }) {
				t.Fatalf("Compare already forbids it, no hazard is needed: %+v", d)
			}

			update(t, js, Merge(want, before.Config))
			if after := info(t, js, spec.Stream).State; after.Msgs != 2 {
				t.Errorf("the server keeps %d messages, want it to drop the first double: the hazard is gone", after.Msgs)
			}
			stream, err := js.Stream(t.Context(), spec.Stream)
			if err != nil {
				t.Fatal(err)
			}
			if msg, err := stream.GetLastMsgForSubject(t.Context(), "audit.2"); err != nil || string(msg.Data) != "later" {
				t.Errorf("under the id is %v, %v, want the later message", msg, err)
			}
		})
	}
}

// TestLoneServerRefusesReplicas: the server under test refuses both. Older ones take the update.
func TestLoneServerRefusesReplicas(t *testing.T) {
	js := loneServer(t)
	spec := &v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit"}
	have := create(t, js, mustBuild(t, spec))
	spec.Replicas = 3
	want := mustBuild(t, spec)
	const notSupported = 10074
	_, err := js.UpdateStream(t.Context(), Merge(want, have))
	if code := errorCode(err); code != notSupported {
		t.Errorf("update: %v", err)
	}
	remove(t, js, "AUDIT")
	_, err = js.CreateStream(t.Context(), want)
	if code := errorCode(err); code != notSupported {
		t.Errorf("creation: %v", err)
	}
}

func errorCode(err error) jetstream.ErrorCode {
	if apiErr, ok := errors.AsType[*jetstream.APIError](err); ok {
		return apiErr.ErrorCode
	}
	return 0
}

func TestCluster(t *testing.T) {
	js := natstest.RunCluster(t)[0].JetStream()
	create(t, js, jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin"}, Replicas: 3})
	t.Run("keeps what is built", func(t *testing.T) { clusterKeeps(t, js) })
	t.Run("replicas are healed", func(t *testing.T) { clusterHealsReplicas(t, js) })
	t.Run("placement and replicas take two updates", func(t *testing.T) { clusterMovesAndScales(t, js) })
}

func clusterKeeps(t *testing.T, js jetstream.JetStream) {
	for _, storage := range []v1alpha1.Storage{v1alpha1.StorageFile, v1alpha1.StorageMemory} {
		for _, whenFull := range []v1alpha1.WhenFull{v1alpha1.WhenFullDropOldest, v1alpha1.WhenFullRejectNew} {
			for _, placement := range []*v1alpha1.Placement{nil, {Cluster: "test"}} {
				cfg := mustBuild(t, &v1alpha1.AuditStreamSpec{
					Stream: "AUDIT", Subject: "audit", Storage: storage, WhenFull: whenFull, Replicas: 3, Placement: placement,
				})
				live := create(t, js, cfg)
				if d := Compare(cfg, live); len(d) != 0 {
					t.Errorf("created %+v: %+v", cfg, d)
				}
				if d := Compare(cfg, update(t, js, Merge(cfg, live))); len(d) != 0 {
					t.Errorf("updated %+v: %+v", cfg, d)
				}
				remove(t, js, cfg.Name)
			}
		}
	}
}

func clusterHealsReplicas(t *testing.T, js jetstream.JetStream) {
	want := mustBuild(t, &v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit", Replicas: 3})
	create(t, js, want)
	defer remove(t, js, want.Name)
	altered := Merge(want, want)
	altered.Replicas = 1
	have := update(t, js, altered)
	if d := Compare(want, have); !slices.Equal(fieldNames(d), []string{"num_replicas"}) || !d[0].Fixable {
		t.Fatalf("Compare = %+v", d)
	}
	if h := Hazards(want, have, info(t, js, want.Name).State, true); len(h) != 0 {
		t.Fatalf("Hazards = %+v", h)
	}
	if d := Compare(want, update(t, js, Merge(want, have))); len(d) != 0 {
		t.Errorf("after healing: %+v", d)
	}
}

// clusterMovesAndScales: the server refuses to do both at once (10123), so Merge leaves the move for later.
func clusterMovesAndScales(t *testing.T, js jetstream.JetStream) {
	spec := &v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit"}
	have := create(t, js, mustBuild(t, spec))
	defer remove(t, js, "AUDIT")
	spec.Replicas, spec.Placement = 3, &v1alpha1.Placement{Cluster: "test"}
	want := mustBuild(t, spec)
	const moveAndScale = 10123
	natstest.Ask(t.Context(), t, "both at once", func(ctx context.Context) error {
		switch _, err := js.UpdateStream(ctx, want); {
		case errorCode(err) == moveAndScale:
			return nil
		case err == nil:
			return errors.New("it is not refused: Merge need not keep them apart any more")
		default:
			return err
		}
	})
	have = update(t, js, Merge(want, have))
	if d := Compare(want, have); !slices.Equal(fieldNames(d), []string{"placement"}) {
		t.Fatalf("after the first update: %+v", d)
	}
	eventually(t, "moving the scaled stream", func(ctx context.Context) error {
		_, err := js.UpdateStream(ctx, Merge(want, have))
		return err
	})
	if d := Compare(want, info(t, js, "AUDIT").Config); len(d) != 0 {
		t.Errorf("after the second update: %+v", d)
	}
}
