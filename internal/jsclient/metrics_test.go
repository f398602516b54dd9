package jsclient

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

func TestAConnectionHasItsState(t *testing.T) {
	t.Parallel()
	srv := natstest.Run(t)
	registry := prometheus.NewPedanticRegistry()
	b := newBench(t, func(o *PoolOptions) { o.Metrics = registry })
	cfg := Config{URL: srv.URL()}
	c := b.connected(t, cfg)
	state, losses := b.metrics.state.WithLabelValues(cfg.labels()...), b.metrics.losses.WithLabelValues(cfg.labels()...)
	if up, lost := testutil.ToFloat64(state), testutil.ToFloat64(losses); up != 1 || lost != 0 {
		t.Errorf("connected: state %v, losses %v", up, lost)
	}
	srv.Stop()
	eventually(t, "the loss", func() bool { return testutil.ToFloat64(state) == 0 && testutil.ToFloat64(losses) == 1 })
	srv.Restart()
	eventually(t, "the return", func() bool { return testutil.ToFloat64(state) == 1 })
	if _, err := c.Stream(t.Context(), "NONE"); err == nil {
		t.Error("there is a stream NONE")
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("promlint says %v, %v", problems, err)
	}

	b.Close()
	if n := testutil.CollectAndCount(b.metrics.state) + testutil.CollectAndCount(b.metrics.losses); n != 0 {
		t.Errorf("%d series are left of a closed connection", n)
	}
}

func TestLabelsOfAConnection(t *testing.T) {
	t.Parallel()
	base := Config{URL: "nats://me:" + marker + "@one:4222,nats://two:4222", User: "reader", PasswordFile: "/etc/nats-secret/password"}
	labels := base.labels()
	for _, leak := range []string{marker, "me:", "reader", "nats-secret"} {
		if strings.Contains(strings.Join(labels, " "), leak) {
			t.Errorf("the labels %q tell %q", labels, leak)
		}
	}
	other := base
	other.URL = strings.ReplaceAll(base.URL, marker, "hunter2")
	if !slices.Equal(other.labels(), labels) {
		t.Error("the labels depend on a password, which could be guessed from them")
	}
	other = base
	other.PasswordFile = "/etc/other/password"
	if slices.Equal(other.labels(), labels) {
		t.Error("two identities have the same labels")
	}
	if !slices.Equal(base.labels(), labels) {
		t.Error("the labels are not stable")
	}
}
