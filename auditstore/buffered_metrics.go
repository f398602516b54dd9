package auditstore

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric"
)

// instrument is one figure of BufferedStats. Counters only grow.
type instrument struct {
	name, unit, description string
	counter                 bool
	value                   func(BufferedStats) int64
}

// entries is the unit of what is counted (UCUM).
const entries = "{entry}"

const instrumentAge = "auditstore.buffered.oldest.age"

func instruments() []instrument {
	return []instrument{
		{"auditstore.buffered.depth", entries, "Entries that were taken and are neither stored nor refused", false,
			func(s BufferedStats) int64 { return s.Depth }},
		{"auditstore.buffered.accepted", entries, "Entries that were taken", true,
			func(s BufferedStats) int64 { return s.Accepted }},
		{"auditstore.buffered.written", entries, "Entries that the store has acknowledged", true,
			func(s BufferedStats) int64 { return s.Written }},
		{"auditstore.buffered.dropped", entries, "Entries that were not taken for want of room", true,
			func(s BufferedStats) int64 { return s.Dropped }},
		{"auditstore.buffered.refused", entries, "Entries that the store has refused for good", true,
			func(s BufferedStats) int64 { return s.Refused }},
		{"auditstore.buffered.corrupt", "{stretch}", "Stretches of the spool that could not be read", true,
			func(s BufferedStats) int64 { return s.Corrupt }},
		{"auditstore.buffered.spool.size", "By", "Size of the spool on disk", false,
			func(s BufferedStats) int64 { return s.SpoolBytes }},
	}
}

// register has the Meter ask for the figures. It returns what takes the instruments back, or nil without a Meter.
func (b *Buffered) register() (func() error, error) {
	if b.cfg.Meter == nil {
		return nil, nil
	}
	figures := instruments()
	observables := make([]metric.Observable, 0, len(figures)+1)
	integers := make([]metric.Int64Observable, 0, len(figures))
	for _, figure := range figures {
		o, err := figure.observable(b.cfg.Meter)
		if err != nil {
			return nil, fmt.Errorf("%w: Meter refuses the instrument %s: %w", ErrInvalidConfig, figure.name, err)
		}
		integers, observables = append(integers, o), append(observables, o)
	}
	age, err := b.cfg.Meter.Float64ObservableGauge(instrumentAge, metric.WithUnit("s"),
		metric.WithDescription("How long ago the oldest of the entries was taken that are neither stored nor refused"))
	if err != nil {
		return nil, fmt.Errorf("%w: Meter refuses the instrument %s: %w", ErrInvalidConfig, instrumentAge, err)
	}
	registration, err := b.cfg.Meter.RegisterCallback(func(_ context.Context, observer metric.Observer) error {
		stats := b.Stats()
		for i, figure := range figures {
			observer.ObserveInt64(integers[i], figure.value(stats), b.cfg.MeterOptions...)
		}
		observer.ObserveFloat64(age, stats.OldestAge.Seconds(), b.cfg.MeterOptions...)
		return nil
	}, append(observables, age)...)
	if err != nil {
		return nil, fmt.Errorf("%w: Meter refuses the callback: %w", ErrInvalidConfig, err)
	}
	return registration.Unregister, nil
}

func (i instrument) observable(meter metric.Meter) (metric.Int64Observable, error) {
	unit, description := metric.WithUnit(i.unit), metric.WithDescription(i.description)
	if i.counter {
		return meter.Int64ObservableCounter(i.name, unit, description)
	}
	return meter.Int64ObservableUpDownCounter(i.name, unit, description)
}
