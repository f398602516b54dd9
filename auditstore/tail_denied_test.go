package auditstore

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TestTailWithoutPermission ends, and says what is missing, in place of waiting for ever.
func TestTailWithoutPermission(t *testing.T) {
	for _, denied := range []string{"$JS.API.CONSUMER.>", "$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.MSG.NEXT.>"} {
		t.Run(denied, func(t *testing.T) {
			srv := runControlled(t, func(o *server.Options) {
				o.Users = []*server.User{{Username: "admin", Password: "admin"}, {Username: "reader", Password: "reader",
					Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{denied}}}}}
			}, nats.UserInfo("admin", "admin"))
			quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
			s := openOn(t, srv.JetStream(nats.UserInfo("reader", "reader"), quiet))
			s.limits.request = time.Second
			wantIs(t, tailFrom(t, s, "").next().err, ErrNotReady, nats.ErrPermissionViolation)
		})
	}
}

// TestTailOutlivesADenialThatIsNotItsOwn: what else the connection may not do has no part in it.
func TestTailOutlivesADenialThatIsNotItsOwn(t *testing.T) {
	srv := runControlled(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "admin", Password: "admin"}, {Username: "reader", Password: "reader", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"elsewhere", "$JS.API.CONSUMER.DELETE.>"}}}}}
	}, nats.UserInfo("admin", "admin"))
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	js := srv.JetStream(nats.UserInfo("reader", "reader"), quiet)
	s := openOn(t, js)
	l := tailFrom(t, s, latest(t, s))
	mustWrite(t, s, "a")
	l.want("a")
	if err := js.Conn().Publish("elsewhere", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the denial", func() error {
		if s.violation() == nil {
			return errors.New("none was seen")
		}
		return nil
	})
	srv.Stop()
	srv.Restart()
	eventually(t, "a write", func() error { return s.Write(t.Context(), named("b")) })
	l.want("b")
}

// TestTailWhereConsumersAreAtTheirLimit waits until one has gone that may be left over, and ends where none goes.
func TestTailWhereConsumersAreAtTheirLimit(t *testing.T) {
	s, js, _ := open(t, func(cfg *jetstream.StreamConfig) { cfg.MaxConsumers = 1 })
	cursor := latest(t, s)
	mustWrite(t, s, "a")
	other, err := js.CreateConsumer(t.Context(), testStream, jetstream.ConsumerConfig{InactiveThreshold: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	if _, err := js.Conn().Subscribe("$JS.API.CONSUMER.CREATE.>", func(*nats.Msg) { asked.Add(1) }); err != nil {
		t.Fatal(err)
	}
	l := tailFrom(t, s, cursor)
	until(t, "it to ask once more", func() bool { return asked.Load() > 1 })
	if err := js.DeleteConsumer(t.Context(), testStream, other.CachedInfo().Name); err != nil {
		t.Fatal(err)
	}
	l.want("a")
	second := openOn(t, js)
	second.limits.crowded = time.Second
	err = tailFrom(t, second, cursor).next().err
	wantIs(t, err, ErrNotReady, jetstream.ErrMaximumConsumersLimit)
	if !strings.Contains(fmt.Sprint(err), "raise max_consumers") {
		t.Errorf("the error does not say what to do: %v", err)
	}
}
