package jsbuilder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// TestServerKeepsWhatIsBuilt is the property that everything else rests on: build, create, read back, compare, and
// find no difference, for every combination of the spec.
func TestServerKeepsWhatIsBuilt(t *testing.T) {
	js := loneServer(t)
	specs := combinations()
	distinct := map[string]jetstream.StreamConfig{}
	for _, spec := range specs {
		cfg := mustBuild(t, spec)
		key, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		distinct[string(key)] = cfg
	}
	// What only the operator minds (the policies) does not reach the server.
	if len(specs) != 4*len(distinct) || len(distinct) != 576 {
		t.Fatalf("%d specs build %d configurations", len(specs), len(distinct))
	}
	for _, cfg := range distinct {
		live := create(t, js, cfg)
		if d := Compare(cfg, live); len(d) != 0 {
			t.Errorf("created %+v: Compare = %+v", cfg, d)
		}
		if d := Compare(cfg, update(t, js, Merge(cfg, live))); len(d) != 0 {
			t.Errorf("updated %+v: Compare = %+v", cfg, d)
		}
		remove(t, js, cfg.Name)
	}
}

func combinations() []*v1alpha1.AuditStreamSpec {
	specs := []*v1alpha1.AuditStreamSpec{{Stream: "AUDIT", Subject: "payments.audit"}}
	vary := func(changes ...func(s *v1alpha1.AuditStreamSpec)) {
		var varied []*v1alpha1.AuditStreamSpec
		for _, spec := range specs {
			for _, change := range changes {
				next := spec.DeepCopy()
				change(next)
				varied = append(varied, next)
			}
		}
		specs = varied
	}
	type spec = v1alpha1.AuditStreamSpec
	vary(func(s *spec) { s.WhenFull = v1alpha1.WhenFullDropOldest }, func(s *spec) { s.WhenFull = v1alpha1.WhenFullRejectNew })
	vary(func(s *spec) { s.Storage = v1alpha1.StorageFile }, func(s *spec) { s.Storage = v1alpha1.StorageMemory })
	vary(func(s *spec) { s.Compression = v1alpha1.CompressionNone }, func(s *spec) { s.Compression = v1alpha1.CompressionS2 })
	vary(func(s *spec) { s.Protection = v1alpha1.ProtectionAppendOnly }, func(s *spec) { s.Protection = v1alpha1.ProtectionNone })
	vary(func(s *spec) { s.RetentionLock = v1alpha1.RetentionLockNone }, func(s *spec) { s.RetentionLock = v1alpha1.RetentionLockCompliance })
	vary(func(s *spec) { s.DeletionPolicy = v1alpha1.DeletionPolicyRetain }, func(s *spec) { s.DeletionPolicy = v1alpha1.DeletionPolicyDelete })
	vary(func(s *spec) { s.AdoptionPolicy = v1alpha1.AdoptionPolicyNever }, func(s *spec) { s.AdoptionPolicy = v1alpha1.AdoptionPolicyAdopt })
	vary(func(*spec) {}, func(s *spec) { s.MaxAge = "30d" }, func(s *spec) { s.MaxAge = "100ms" })
	vary(func(*spec) {}, func(s *spec) { s.MaxBytes = quantity("50Mi") })
	vary(func(*spec) {},
		func(s *spec) { s.Placement = &v1alpha1.Placement{Tags: []string{"ssd", "eu"}} },
		func(s *spec) { s.Placement = &v1alpha1.Placement{Cluster: "east"} })
	return specs
}

// TestServerRefusesASecondMessageUnderAnID shows what RejectNew is declared for, and DropOldest must not do.
func TestServerRefusesASecondMessageUnderAnID(t *testing.T) {
	js := loneServer(t)
	for _, storage := range []v1alpha1.Storage{v1alpha1.StorageFile, v1alpha1.StorageMemory} {
		spec := &v1alpha1.AuditStreamSpec{Stream: "AUDIT", Subject: "audit", Storage: storage, WhenFull: v1alpha1.WhenFullRejectNew}
		create(t, js, mustBuild(t, spec))
		publish(t, js, "audit.1", "first")
		if _, err := js.Publish(t.Context(), "audit.1", []byte("second")); err == nil {
			t.Errorf("%s: RejectNew took a second message under an id", storage)
		}
		remove(t, js, spec.Stream)

		spec.WhenFull = v1alpha1.WhenFullDropOldest
		create(t, js, mustBuild(t, spec))
		publish(t, js, "audit.1", "first")
		publish(t, js, "audit.1", "second")
		if state := info(t, js, spec.Stream).State; state.Msgs != 2 {
			t.Errorf("%s: DropOldest holds %d messages, want the first and the second", storage, state.Msgs)
		}
		remove(t, js, spec.Stream)
	}
}

// loneServer starts a server that holds a stream of its own. Without it a creation may fail now and then (10049): when
// a server has deleted the last stream of an account, it tidies the account's folder away in the background.
func loneServer(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := natstest.Run(t).JetStream()
	create(t, js, jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin"}})
	return js
}

func create(t *testing.T, js jetstream.JetStream, cfg jetstream.StreamConfig) jetstream.StreamConfig {
	t.Helper()
	natstest.Ask(t.Context(), t, fmt.Sprintf("creating %+v", cfg), func(ctx context.Context) error {
		_, err := js.CreateStream(ctx, cfg)
		return err
	})
	return info(t, js, cfg.Name).Config
}

func update(t *testing.T, js jetstream.JetStream, cfg jetstream.StreamConfig) jetstream.StreamConfig {
	t.Helper()
	natstest.Ask(t.Context(), t, fmt.Sprintf("updating to %+v", cfg), func(ctx context.Context) error {
		_, err := js.UpdateStream(ctx, cfg)
		return err
	})
	return info(t, js, cfg.Name).Config
}

func remove(t *testing.T, js jetstream.JetStream, name string) {
	t.Helper()
	asked := false
	natstest.Ask(t.Context(), t, "deleting "+name, func(ctx context.Context) error {
		err := js.DeleteStream(ctx, name)
		if asked && errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil // the answer was lost
		}
		asked = true
		return err
	})
}

func info(t *testing.T, js jetstream.JetStream, name string) (info *jetstream.StreamInfo) {
	t.Helper()
	natstest.Ask(t.Context(), t, "looking at "+name, func(ctx context.Context) error {
		stream, err := js.Stream(ctx, name)
		if err == nil {
			info = stream.CachedInfo()
		}
		return err
	})
	return info
}

func publish(t *testing.T, js jetstream.JetStream, subject, data string) {
	t.Helper()
	if _, err := js.Publish(t.Context(), subject, []byte(data)); err != nil {
		t.Fatalf("publishing to %s: %v", subject, err)
	}
}

// eventually tries until try succeeds: for what a cluster needs time to agree on.
func eventually(t *testing.T, what string, try func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, fmt.Errorf("%w, last: %w", ctx.Err(), err))
		case <-tick.C:
		}
	}
}
