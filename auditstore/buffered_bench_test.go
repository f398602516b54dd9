package auditstore

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// BenchmarkBuffered compares writing without waiting with nats.go's own asynchronous publish of the same messages, on a stream
// with file storage and no replicas. The time includes the drain.
func BenchmarkBuffered(b *testing.B) {
	b.Run("bare PublishAsync", func(b *testing.B) { benchmarkAsync(b, benchJetStream(b, false)) })
	for _, batches := range []bool{false, true} {
		way := map[bool]string{false: "one by one", true: "in atomic batches"}[batches]
		for _, writers := range []int{1, 16} {
			for _, cfg := range []BufferedConfig{{Policy: Block}, {Policy: Spool}} {
				b.Run(fmt.Sprintf("%s, %d writers, %s", cfg.Policy, writers, way), func(b *testing.B) {
					if cfg.Policy == Spool {
						cfg.Dir = b.TempDir()
					}
					benchmarkBuffered(b, benchJetStream(b, batches), cfg, writers)
				})
			}
		}
		b.Run("Spool, 256 writers, "+way, func(b *testing.B) {
			benchmarkBuffered(b, benchJetStream(b, batches), BufferedConfig{Policy: Spool, Dir: b.TempDir()}, 256)
		})
	}
}

func benchJetStream(b *testing.B, batches bool) jetstream.JetStream {
	b.Helper()
	nc := natstest.Run(b).Connect()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(512))
	if err != nil {
		b.Fatal(err)
	}
	cfg := streamConfig()
	cfg.AllowAtomicPublish = batches
	if _, err := js.CreateStream(b.Context(), cfg); err != nil {
		b.Fatal(err)
	}
	return js
}

func benchmarkAsync(b *testing.B, js jetstream.JetStream) {
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		entry := named(NewID())
		data, err := json.Marshal(entry)
		if err != nil {
			b.Fatal(err)
		}
		msg := nats.NewMsg(testSubject + "." + entry.ID)
		msg.Data = data
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
		msg.Header.Set(jetstream.ExpectedStreamHeader, testStream)
		if _, err := js.PublishMsgAsync(msg); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

func benchmarkBuffered(b *testing.B, js jetstream.JetStream, cfg BufferedConfig, writers int) {
	s, err := New(b.Context(), js, Config{Stream: testStream, Subject: testSubject})
	if err != nil {
		b.Fatal(err)
	}
	buffered, err := NewBuffered(s, cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < b.N; i += writers {
				if err := buffered.Write(context.Background(), named("")); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	accepted := b.Elapsed()
	if err := buffered.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(b.N)/accepted.Seconds(), "accepted/s")
	if written := buffered.Stats().Written; written != int64(b.N) {
		b.Fatalf("%d of %d were written", written, b.N)
	}
}
