package otlp_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"

	"github.com/osapi-io/auditstream-operator/internal/tracing"
	"github.com/osapi-io/auditstream-operator/internal/tracing/otlp"
	"github.com/osapi-io/auditstream-operator/internal/tracing/otlptest"
)

const (
	marker   = "s3cr3t-marker"
	patience = 30 * time.Second
)

// lines is a logger's output.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) logger() logr.Logger {
	return funcr.New(func(_, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = append(l.all, args)
	}, funcr.Options{Verbosity: 10})
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.all {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// setup makes a provider in an environment that has only these variables of OpenTelemetry's.
func setup(t *testing.T, environment map[string]string) (*otlp.Provider, *lines) {
	t.Helper()
	for _, name := range []string{
		"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
		"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_BSP_SCHEDULE_DELAY",
	} {
		t.Setenv(name, environment[name])
	}
	l := &lines{}
	p := otlp.NewProvider(t.Context(), l.logger(), "v1.2.3")
	t.Cleanup(func() {
		p.Shutdown()
		if strings.Contains(l.text(), marker) {
			t.Errorf("the log holds a credential:\n%s", l.text())
		}
	})
	return p, l
}

func span(p *otlp.Provider, name string) {
	_, s := tracing.Root(context.Background(), p, name)
	s.End()
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestSpansArriveAsTheEnvironmentSays(t *testing.T) {
	for name, c := range map[string]struct {
		environment func(*otlptest.Receiver) map[string]string
		service     string
	}{
		"HTTP, which is the default": {func(r *otlptest.Receiver) map[string]string {
			return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": r.HTTP, "OTEL_TRACES_EXPORTER": "otlp"}
		}, "auditstream-operator"},
		"gRPC, and a name": {func(r *otlptest.Receiver) map[string]string {
			return map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": r.GRPC, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_SERVICE_NAME": "audit-east",
				"OTEL_RESOURCE_ATTRIBUTES": "service.name=other,deployment.environment.name=test",
			}
		}, "audit-east"},
		"the variables for traces win": {func(r *otlptest.Receiver) map[string]string {
			return map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
				"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": r.GRPC, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
			}
		}, "auditstream-operator"},
	} {
		t.Run(name, func(t *testing.T) {
			r := otlptest.Start(t)
			environment := c.environment(r)
			p, l := setup(t, environment)
			span(p, "work")
			p.Shutdown() // sends what is left
			spans := r.Spans()
			if len(spans) != 1 || spans[0].GetName() != "work" {
				t.Fatalf("the spans are %v; log:\n%s", spans, l.text())
			}
			if of := spans[0].Resource; of["service.name"] != c.service || of["service.version"] != "v1.2.3" {
				t.Errorf("the resource is %v", of)
			}
			if environment["OTEL_RESOURCE_ATTRIBUTES"] != "" && spans[0].Resource["deployment.environment.name"] != "test" {
				t.Errorf("the resource is %v", spans[0].Resource)
			}
			if !p.Enabled() || l.count("Tracing is on") != 1 || l.count("") != 1 {
				t.Errorf("log:\n%s", l.text())
			}
		})
	}
}

// What turns tracing off is seen from the receiver: nobody connects, and nothing is logged.
func TestNothingIsMadeWhenTracingIsOff(t *testing.T) {
	for name, environment := range map[string]map[string]string{
		"no endpoint":       {"OTEL_SERVICE_NAME": "audit-east"},
		"disabled":          {"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_SDK_DISABLED": "True"},
		"no exporter":       {"OTEL_EXPORTER_OTLP_ENDPOINT": "URL", "OTEL_TRACES_EXPORTER": "none"},
		"an empty endpoint": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": " "},
	} {
		t.Run(name, func(t *testing.T) {
			r := otlptest.Start(t)
			if environment["OTEL_EXPORTER_OTLP_ENDPOINT"] != "" {
				environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = r.HTTP
			}
			p, l := setup(t, environment)
			span(p, "work")
			p.Shutdown()
			if p.Enabled() || r.Requests() != 0 || l.count("") != 0 {
				t.Errorf("enabled %v, %d requests, log:\n%s", p.Enabled(), r.Requests(), l.text())
			}
		})
	}
}

func TestSettingsThatCannotBeUsedAreLoggedAndLeftOut(t *testing.T) {
	for name, c := range map[string]struct {
		variable, value, cause string
		enabled                bool
	}{
		"exporter":   {"OTEL_TRACES_EXPORTER", "zipkin", `OTEL_TRACES_EXPORTER is \"zipkin\": give otlp or none`, true},
		"protocol":   {"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", `OTEL_EXPORTER_OTLP_PROTOCOL is \"http/json\": give grpc or http/protobuf`, true},
		"sampler":    {"OTEL_TRACES_SAMPLER", "sometimes", "unsupported sampler: sometimes", true},
		"attributes": {"OTEL_RESOURCE_ATTRIBUTES", marker, "write it as key=value,key=value", true},
		"header":     {"OTEL_EXPORTER_OTLP_HEADERS", marker, "parse headers: missing '=", true},
		"escape":     {"OTEL_EXPORTER_OTLP_HEADERS", "api-key=%z" + marker, "escape header value", true},
		"no URL":     {"OTEL_EXPORTER_OTLP_ENDPOINT", "user:" + marker + "@collector:4317", "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL", false},
		"bad URL":    {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:" + marker + "%z@collector", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not a URL", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := otlptest.Start(t)
			environment := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": r.HTTP}
			environment[c.variable] = c.value
			p, l := setup(t, environment)
			span(p, "work")
			p.Shutdown()
			if l.count(c.cause) != 1 {
				t.Errorf("%q is not logged once:\n%s", c.cause, l.text())
			}
			if p.Enabled() != c.enabled || (len(r.Spans()) == 1) != c.enabled {
				t.Errorf("enabled %v, spans %v", p.Enabled(), r.Spans())
			}
		})
	}
}

func TestTheSamplerDecides(t *testing.T) {
	for sampler, want := range map[string]int{"always_off": 0, "": 1} {
		t.Run(sampler, func(t *testing.T) {
			r := otlptest.Start(t)
			p, l := setup(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": r.HTTP, "OTEL_TRACES_SAMPLER": sampler})
			span(p, "work")
			p.Shutdown()
			if got := len(r.Spans()); got != want || l.count("") != 1 {
				t.Errorf("%d spans, want %d; log:\n%s", got, want, l.text())
			}
		})
	}
}

func TestCredentialsOfTheReceiverAreSentAndNotLogged(t *testing.T) {
	r := otlptest.Start(t)
	p, l := setup(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": strings.Replace(r.HTTP, "://", "://user:"+marker+"@", 1),
		"OTEL_EXPORTER_OTLP_HEADERS":  "api-key=" + marker,
	})
	span(p, "work")
	p.Shutdown()
	if headers := r.Headers(); len(headers) != 1 || headers[0].Get("Api-Key") != marker {
		t.Errorf("the headers are %v; log:\n%s", headers, l.text())
	}
}

// A receiver that refuses spans, and then takes them: two lines, however many batches there were.
func TestWhatHappensWithTheReceiverIsLoggedOnce(t *testing.T) {
	var mu sync.Mutex
	refused, taken, refusing := 0, 0, true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if refusing {
			refused++
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		taken++
	}))
	t.Cleanup(server.Close)
	p, l := setup(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": server.URL, "OTEL_BSP_SCHEDULE_DELAY": "10"})
	// Each span is a batch of its own, since the next comes only after this one.
	for i := range 3 {
		span(p, fmt.Sprint(i))
		await(t, "a batch to be refused", func() bool { mu.Lock(); defer mu.Unlock(); return refused > i })
	}
	await(t, "the refusal in the log", func() bool { return l.count("Could not send spans") > 0 })
	mu.Lock()
	refusing = false
	mu.Unlock()
	for i := range 3 {
		span(p, fmt.Sprint(i))
		await(t, "a batch to be taken", func() bool { mu.Lock(); defer mu.Unlock(); return taken > i })
	}
	await(t, "the end of it in the log", func() bool { return l.count("The receiver takes spans again") > 0 })
	if l.count("Could not send spans") != 1 || l.count("The receiver takes spans again") != 1 || l.count("") != 3 {
		t.Errorf("log:\n%s", l.text())
	}
}

// A receiver that accepts connections and never answers holds up neither the work nor the end.
func TestAReceiverThatHangsHoldsNothingUp(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			p, l := setup(t, map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + listener.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
				"OTEL_BSP_SCHEDULE_DELAY": "10",
			})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for i := range 10_000 { // more than the queue holds
					span(p, fmt.Sprint(i))
				}
				p.Shutdown()
			}()
			select {
			case <-ended:
			case <-time.After(patience):
				t.Fatal("it is held up")
			}
			if l.count("Left spans unsent") != 1 {
				t.Errorf("log:\n%s", l.text())
			}
		})
	}
}
