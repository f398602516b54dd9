package auditstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// collect returns the figures by name, and fails on an instrument without unit or description.
func collect(t *testing.T, reader *sdk.ManualReader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	figures := map[string]float64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Unit == "" || m.Description == "" || !strings.HasPrefix(m.Name, "auditstore.buffered.") {
				t.Errorf("the instrument %+v lacks something", m)
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, point := range data.DataPoints {
					figures[m.Name+suffix(point.Attributes, data.IsMonotonic)] = float64(point.Value)
				}
			case metricdata.Gauge[float64]:
				for _, point := range data.DataPoints {
					figures[m.Name+suffix(point.Attributes, false)] = point.Value
				}
			}
		}
	}
	return figures
}

func suffix(set attribute.Set, counter bool) string {
	name, _ := set.Value("buffer")
	if counter {
		return " " + name.AsString() + " total"
	}
	return " " + name.AsString()
}

func TestBufferedMetrics(t *testing.T) {
	store := &heldStore{}
	store.failing(func(e Entry) error {
		if e.ID == "refused" {
			return ErrConflict
		}
		return nil
	})
	reader := sdk.NewManualReader()
	meter := sdk.NewMeterProvider(sdk.WithReader(reader)).Meter("test")
	start := func(name string, cfg BufferedConfig) *Buffered {
		cfg.Meter = meter
		cfg.MeterOptions = []metric.ObserveOption{metric.WithAttributes(attribute.String("buffer", name))}
		return newBuffered(t, store, cfg)
	}
	spool := start("spool", BufferedConfig{Policy: Spool, Dir: t.TempDir()})
	take(t, spool, "refused", "a", "b")
	eventually(t, "all to be forwarded", func() error {
		if spool.Stats().Depth > 0 {
			return errors.New("not yet")
		}
		return nil
	})
	defer store.hold()()
	take(t, spool, "c")
	drop := start("drop", BufferedConfig{Policy: Drop, QueueSize: 2})
	take(t, drop, "d", "e")
	wantIs(t, drop.Write(t.Context(), named("f")), ErrDropped)
	eventually(t, "an age", func() error {
		if spool.Stats().OldestAge == 0 || drop.Stats().OldestAge == 0 {
			return errors.New("not yet")
		}
		return nil
	})

	got := collect(t, reader)
	for _, name := range []string{"spool", "drop"} {
		if age := got["auditstore.buffered.oldest.age "+name]; age <= 0 || age > 60 {
			t.Errorf("the oldest age of %s is %v s", name, age)
		}
		delete(got, "auditstore.buffered.oldest.age "+name)
	}
	want := map[string]float64{
		"depth spool": 1, "accepted spool total": 4, "written spool total": 2, "dropped spool total": 0, "refused spool total": 1,
		"corrupt spool total": 0, "spool.size spool": float64(spool.Stats().SpoolBytes),
		"depth drop": 2, "accepted drop total": 2, "written drop total": 0, "dropped drop total": 1, "refused drop total": 0,
		"corrupt drop total": 0, "spool.size drop": 0,
	}
	for name, value := range maps.Clone(want) {
		delete(want, name)
		want["auditstore.buffered."+name] = value
	}
	if !maps.Equal(got, want) || spool.Stats().SpoolBytes == 0 {
		t.Errorf("got  %v\nwant %v", got, want)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantIs(t, errors.Join(spool.Close(ctx), drop.Close(ctx)), ErrNotForwarded)
	if got := collect(t, reader); len(got) != 0 {
		t.Errorf("after Close the meter still reports %v", got)
	}
}

// brokenMeter refuses one instrument.
type brokenMeter struct{ metric.Meter }

func (brokenMeter) Float64ObservableGauge(name string, _ ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	return nil, fmt.Errorf("no %s today", name)
}

func TestBufferedMeterThatRefuses(t *testing.T) {
	dir := t.TempDir()
	meter := brokenMeter{sdk.NewMeterProvider().Meter("test")}
	_, err := NewBuffered(&heldStore{}, BufferedConfig{Policy: Spool, Dir: dir, Meter: meter})
	wantIs(t, err, ErrInvalidConfig)
	mustClose(t, newBuffered(t, &heldStore{}, BufferedConfig{Policy: Spool, Dir: dir})) // nothing was left locked
}
