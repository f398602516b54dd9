package handover

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/jsbuilder"
	"github.com/osapi-io/auditstream-operator/internal/migrate"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func TestObserve(t *testing.T) {
	own, fence := []string{"$KV.audit-log.>"}, []string{"$AUDIT.REDIRECTED.audit-log"}
	to := func(stream string) map[string]string {
		return map[string]string{jsbuilder.MetadataRedirectedTo: stream, "_nats.ver": "2.15.2"}
	}
	tests := map[string]struct {
		cfg    jetstream.StreamConfig
		want   State
		target string
		reason string
	}{
		"own":                     {cfg: jetstream.StreamConfig{Subjects: own}, want: Own},
		"own, given back by hand": {cfg: jetstream.StreamConfig{Subjects: own, Metadata: to("AUDIT")}, want: Own},
		"fenced":                  {cfg: jetstream.StreamConfig{Subjects: fence, Metadata: to("AUDIT")}, want: Fenced, target: "AUDIT"},
		"fenced elsewhere":        {cfg: jetstream.StreamConfig{Subjects: fence, Metadata: to("OTHER")}, want: FencedElsewhere, target: "OTHER", reason: "OTHER"},
		"fenced by nobody":        {cfg: jetstream.StreamConfig{Subjects: fence}, want: Foreign, reason: "does not say for which stream"},
		"another bucket's":        {cfg: jetstream.StreamConfig{Subjects: []string{"$KV.b.>"}}, want: Foreign, reason: `captures ["$KV.b.>"]`},
		"more subjects":           {cfg: jetstream.StreamConfig{Subjects: []string{own[0], "more"}}, want: Foreign, reason: "set its subjects back"},
		"both subjects":           {cfg: jetstream.StreamConfig{Subjects: []string{own[0], fence[0]}, Metadata: to("AUDIT")}, want: Foreign, reason: "set its subjects back"},
		"no subjects":             {cfg: jetstream.StreamConfig{}, want: Foreign, reason: "set its subjects back"},
		"a mirror":                {cfg: jetstream.StreamConfig{Mirror: &jetstream.StreamSource{Name: "KV_origin"}}, want: Foreign, reason: "mirrors stream KV_origin"},
		"sources":                 {cfg: jetstream.StreamConfig{Subjects: own, Sources: []*jetstream.StreamSource{{Name: "X"}}}, want: Foreign, reason: "sources from other streams"},
		"a transform": {cfg: jetstream.StreamConfig{Subjects: own, SubjectTransform: &jetstream.SubjectTransformConfig{Source: ">", Destination: "x.>"}},
			want: Foreign, reason: "subject_transform"},
		"sealed":             {cfg: jetstream.StreamConfig{Subjects: own, Sealed: true}, want: Foreign, reason: "sealed"},
		"no acknowledgement": {cfg: jetstream.StreamConfig{Subjects: own, NoAck: true}, want: Foreign, reason: "no_ack"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.cfg.Name = "KV_audit-log"
			got := Observe(&jetstream.StreamInfo{Config: tt.cfg}, "audit-log", "AUDIT")
			if got.State != tt.want || got.Target != tt.target || !strings.Contains(got.Reason, tt.reason) || (got.Reason == "") != (tt.reason == "") {
				t.Errorf("Observe = %+v, want state %d, target %q, reason with %q", got, tt.want, tt.target, tt.reason)
			}
		})
	}
}

func TestOpened(t *testing.T) {
	key := map[string]string{jsbuilder.MetadataRedirectPrefix + "b": "2026-01-02T03:04:05Z"}
	tests := map[string]struct {
		cfg           jetstream.StreamConfig
		open, claimed bool
	}{
		"neither":           {cfg: jetstream.StreamConfig{Subjects: []string{"audit.>", "$KV.c.>"}}},
		"both":              {cfg: jetstream.StreamConfig{Subjects: []string{"audit.>", "$KV.b.>"}, Metadata: key}, open: true, claimed: true},
		"the key only":      {cfg: jetstream.StreamConfig{Subjects: []string{"audit.>"}, Metadata: key}, claimed: true},
		"the subjects only": {cfg: jetstream.StreamConfig{Subjects: []string{"audit.>", "$KV.b.>"}}, claimed: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			info := &jetstream.StreamInfo{Config: tt.cfg}
			if Opened(info, "b") != tt.open || claimed(info, "b") != tt.claimed {
				t.Errorf("open %t, claimed %t", Opened(info, "b"), claimed(info, "b"))
			}
		})
	}
}

// TestRefused: nothing is touched of a bucket that cannot be handed over.
func TestRefused(t *testing.T) {
	tests := map[string]func(f *fixture){
		"a mirror": func(f *fixture) {
			f.bucket(named("origin"))
			f.bucket(func(c *jetstream.KeyValueConfig) { c.Mirror = &jetstream.StreamSource{Name: "KV_origin"} })
		},
		"sources": func(f *fixture) {
			f.bucket(named("origin"))
			f.bucket(func(c *jetstream.KeyValueConfig) { c.Sources = []*jetstream.StreamSource{{Name: "KV_origin"}} })
		},
		"more subjects": func(f *fixture) {
			f.bucket()
			cfg := f.info("KV_" + bucketName).Config
			cfg.Subjects = append(cfg.Subjects, "more")
			if _, err := f.js.UpdateStream(f.ctx, cfg); err != nil {
				f.t.Fatal(err)
			}
		},
		"another stream's": func(f *fixture) {
			f.bucket()
			h := f.handOver(bucketName)
			h.Stream = "OTHER"
			if _, _, err := h.fence(f.ctx); err != nil {
				f.t.Fatal(err)
			}
		},
	}
	for name, arrange := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			arrange(f)
			before := f.info("KV_" + bucketName)
			h := f.handOver(bucketName)
			h.Streams.(*streams).asked = func(*jetstream.StreamConfig) error { t.Error("an update was sent"); return nil }
			h.Drain = func(context.Context, uint64) (migrate.Checkpoint, error) {
				t.Error("the bucket was drained")
				return migrate.Checkpoint{}, nil
			}
			verified := migrate.Checkpoint{Created: before.Created, CompletionTime: time.Now()}
			_, err := h.Redirect(f.ctx)
			for method, err := range map[string]error{"Redirect": err, "Delete": h.Delete(f.ctx, verified)} {
				if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Reason == "" || refused.Bucket != bucketName {
					t.Errorf("%s: %v, want a RefusedError", method, err)
				}
			}
			if returned, err := h.Return(f.ctx); returned || err != nil {
				t.Errorf("Return: %t, %v", returned, err)
			}
			after := f.info("KV_" + bucketName)
			wantSame(t, before.Config, after.Config)
			if after.State.LastSeq != before.State.LastSeq {
				t.Error("something was written into the bucket")
			}
		})
	}
}

func TestNoBucketOrStream(t *testing.T) {
	f := newFixture(t)
	h := f.handOver(bucketName)
	if _, err := h.Redirect(f.ctx); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("Redirect without a bucket: %v", err)
	}
	if returned, err := h.Return(f.ctx); returned || err != nil {
		t.Errorf("Return without a bucket: %t, %v", returned, err)
	}
	kv := f.bucket()
	h.Stream = "NONE"
	if _, err := h.Redirect(f.ctx); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("Redirect without a stream: %v", err)
	}
	if _, _, err := h.fence(f.ctx); err != nil {
		t.Fatal(err)
	}
	if returned, err := h.Return(f.ctx); !returned || err != nil {
		t.Errorf("Return without a stream: %t, %v", returned, err)
	}
	f.put(kv, "new")
}

// TestMark is for the person who finds it.
func TestMark(t *testing.T) {
	f := newFixture(t)
	f.copied("one")
	result := f.mustRedirect(bucketName)
	stream, err := f.js.Stream(f.ctx, "KV_"+bucketName)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(f.ctx, result.Mark)
	if err != nil {
		t.Fatal(err)
	}
	var got note
	err = json.Unmarshal(msg.Data, &got)
	if err != nil || got.Bucket != bucketName || got.Stream != streamName || got.Time.IsZero() || got.Note == "" {
		t.Errorf("the mark is %s: %v", msg.Data, err)
	}
	if msg.Subject != "$AUDIT.REDIRECTED."+bucketName || stream.CachedInfo().Config.Metadata[jsbuilder.MetadataRedirectedTo] != streamName {
		t.Errorf("the mark is under %s, the metadata %v", msg.Subject, stream.CachedInfo().Config.Metadata)
	}
}

// TestForbiddenMark: an operator that may not publish the mark finds out before writers wait for it.
func TestForbiddenMark(t *testing.T) {
	users := func(opts *server.Options) {
		opts.Users = []*server.User{
			{Username: "admin", Password: "admin"},
			{Username: "operator", Password: "operator", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Deny: []string{"$AUDIT.>"}},
			}},
		}
	}
	srv := natstest.Run(t, users)
	f := start(t, 1, strings.Replace(srv.URL(), "//", "//admin:admin@", 1))
	f.copied("one")
	h := f.handOver(bucketName)
	h.JetStream = srv.JetStream(nats.UserInfo("operator", "operator"))
	h.Streams.(*streams).asked = func(*jetstream.StreamConfig) error { t.Error("an update was sent"); return nil }
	if _, err := h.Redirect(f.ctx); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("Redirect: %v, want a permission violation", err)
	}
	f.wantState(bucketName, Own, false)
}

// TestBothTake: should two updates ever have crossed, so that the bucket has its subjects while the stream is open, the
// bucket is fenced, and what it took is copied.
func TestBothTake(t *testing.T) {
	f := newFixture(t)
	f.copied("one")
	f.mustRedirect(bucketName)
	h := f.handOver(bucketName)
	s := h.Streams.(*streams)
	fenced := false
	s.asked = func(cfg *jetstream.StreamConfig) error { fenced = isFence(cfg); return nil }
	h.Streams = &observed{streams: s, see: func(info *jetstream.StreamInfo) {
		if info.Config.Name == "KV_"+bucketName {
			info.Config.Subjects = []string{jsbuilder.BucketSubjects(bucketName)}
			delete(info.Config.Metadata, jsbuilder.MetadataRedirectedTo)
		}
	}}
	if result, err := h.Redirect(f.ctx); err != nil || result.Opened || !fenced {
		t.Errorf("Redirect: %+v, %v, fenced the bucket: %t", result, err, fenced)
	}
	f.wantState(bucketName, Fenced, true)
}

// observed lets a test show another configuration than the live one.
type observed struct {
	*streams
	see func(info *jetstream.StreamInfo)
}

func (o *observed) Stream(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	info, err := o.streams.Stream(ctx, name)
	if err == nil {
		o.see(info)
	}
	return info, err
}

// TestUnfollow: while nobody takes what is put, nobody of the operator's listens either.
func TestUnfollow(t *testing.T) {
	f := newFixture(t)
	_, verified := f.copied("one")
	listening := true
	h := f.handOver(bucketName)
	h.Unfollow = func(context.Context) (func(), error) {
		f.wantState(bucketName, Own, false)
		listening = false
		return func() { listening = true }, nil
	}
	h.Streams.(*streams).asked = func(*jetstream.StreamConfig) error {
		if listening {
			t.Error("an update was sent while the operator listened")
		}
		return nil
	}
	drain := h.Drain
	h.Drain = func(context.Context, uint64) (migrate.Checkpoint, error) { return migrate.Checkpoint{}, errDead }
	if _, err := h.Redirect(f.ctx); !errors.Is(err, errDead) || !listening {
		t.Errorf("Redirect that fails: %v, listening after it: %t", err, listening)
	}
	h.Drain = drain
	if _, err := h.Redirect(f.ctx); err != nil || !listening {
		t.Errorf("Redirect: %v, listening after it: %t", err, listening)
	}
	f.closeStream(bucketName)
	if _, err := f.handOver(bucketName).Return(f.ctx); err != nil {
		t.Fatal(err)
	}
	h.Unfollow = func(context.Context) (func(), error) { return nil, errDead }
	if _, err := h.Redirect(f.ctx); !errors.Is(err, errDead) {
		t.Errorf("Redirect of an operator that cannot stop listening: %v", err)
	}
	if err := h.Delete(f.ctx, verified); !errors.Is(err, errDead) {
		t.Errorf("Delete of an operator that cannot stop listening: %v", err)
	}
	f.wantState(bucketName, Own, false)
}
