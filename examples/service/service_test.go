package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditstoretest"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

const (
	patience     = 30 * time.Second
	clerkToken   = "of-the-clerk"
	auditorToken = "of-the-auditor"
)

// client sends a body only once the handler reads it.
var client = http.Client{Transport: &http.Transport{ExpectContinueTimeout: patience}}

// bind mounts a binding as Kubernetes would, and sets the rest of the environment.
func bind(t *testing.T, url string) {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "audit")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{
		"type": "auditstream", "uri": url, "stream": auditstoretest.DefaultStream, "subject": auditstoretest.DefaultSubject,
	} {
		if err := os.WriteFile(filepath.Join(dir, key), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SERVICE_BINDING_ROOT", root)
	t.Setenv("ADDRESS", "127.0.0.1:0")
	t.Setenv("DEMO_CLERK_TOKEN", clerkToken)
	t.Setenv("DEMO_AUDITOR_TOKEN", auditorToken)
}

// running is the service between run's begin and its end.
type running struct {
	url   string
	stop  context.CancelFunc
	ended chan error
}

func start(t *testing.T) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &running{stop: cancel, ended: make(chan error, 1)}
	logged, log := io.Pipe()
	go func() {
		s.ended <- run(ctx, slog.New(slog.NewJSONHandler(log, nil)))
		_ = log.Close()
	}()
	urls := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(logged); lines.Scan(); {
			var line struct{ Msg, URL string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "Listening" {
				urls <- line.URL
			}
		}
	}()
	select {
	case s.url = <-urls:
	case err := <-s.ended:
		t.Fatalf("the service ended: %v", err)
	case <-time.After(patience):
		t.Fatal("the service does not listen")
	}
	t.Cleanup(func() { s.end(t) })
	return s
}

// end stops the service, once, and checks that it ends without an error.
func (s *running) end(t *testing.T) {
	t.Helper()
	s.stop()
	select {
	case err, first := <-s.ended:
		if first && err != nil {
			t.Errorf("the service ended with %v", err)
		}
		if first {
			close(s.ended)
		}
	case <-time.After(patience):
		t.Error("the service does not end")
	}
}

func (s *running) do(t *testing.T, method, path, token string, body io.Reader) (code int, answer string) {
	t.Helper()
	code, answer, err := s.try(t, method, path, token, body)
	if err != nil {
		t.Fatal(err)
	}
	return code, answer
}

func (s *running) try(t *testing.T, method, path, token string, body io.Reader) (code int, answer string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != http.NoBody {
		r.Header.Set("Expect", "100-continue")
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(content), err
}

func TestARequestIsAuditedAndReadBack(t *testing.T) {
	_, nc := auditstoretest.Run(t)
	bind(t, nc.ConnectedUrl())
	s := start(t)
	for _, test := range []struct {
		method, path, token string
		code                int
	}{
		{http.MethodGet, "/livez", "", http.StatusOK},
		{http.MethodGet, "/readyz", "", http.StatusOK},
		{http.MethodPut, "/orders/7", "wrong", http.StatusUnauthorized},
		{http.MethodPut, "/orders/7", "", http.StatusUnauthorized},
		{http.MethodPut, "/orders/7", clerkToken, http.StatusCreated},
		{http.MethodGet, "/audit", "", http.StatusUnauthorized},
		{http.MethodGet, "/audit", clerkToken, http.StatusForbidden},
		{http.MethodDelete, "/orders/7", clerkToken, http.StatusNoContent},
	} {
		if code, answer := s.do(t, test.method, test.path, test.token, http.NoBody); code != test.code {
			t.Errorf("%s %s: %d %s, want %d", test.method, test.path, code, answer, test.code)
		}
	}

	want := `ada [clerk] DELETE /orders/7 DELETE /orders/{id} 204
ada [clerk] GET /audit /audit 403
 [] GET /audit /audit 401
ada [clerk] PUT /orders/7 PUT /orders/{id} 201
 [] PUT /orders/7 PUT /orders/{id} 401
 [] PUT /orders/7  401
`
	code, answer := s.do(t, http.MethodGet, "/audit?limit=100", auditorToken, http.NoBody)
	var page struct {
		Total int                `json:"total_items"`
		Items []auditstore.Entry `json:"items"`
	}
	if err := json.Unmarshal([]byte(answer), &page); err != nil || code != http.StatusOK || page.Total != 6 || lines(page.Items) != want {
		t.Fatalf("%d, %v, %d entries:\n%s", code, err, page.Total, lines(page.Items))
	}

	code, answer = s.do(t, http.MethodGet, "/audit/export", auditorToken, http.NoBody)
	var exported []auditstore.Entry
	for decoder := json.NewDecoder(strings.NewReader(answer)); decoder.More(); {
		var entry auditstore.Entry
		if err := decoder.Decode(&entry); err != nil {
			t.Fatal(err)
		}
		exported = append(exported, entry)
	}
	if got := lines(exported); code != http.StatusOK || got != "vera [auditor] GET /audit /audit 200\n"+want {
		t.Errorf("exported %d:\n%s", code, got)
	}
}

func lines(entries []auditstore.Entry) string {
	var b strings.Builder
	for _, e := range entries {
		_, _ = fmt.Fprintln(&b, e.User, e.Roles, e.Method, e.Path, e.OperationID, e.ResponseCode)
	}
	return b.String()
}

// TestAStopLetsRequestsEnd stops the service in the middle of a request.
func TestAStopLetsRequestsEnd(t *testing.T) {
	store, nc := auditstoretest.Run(t)
	bind(t, nc.ConnectedUrl())
	s := start(t)
	body, sender := io.Pipe()
	answered := make(chan error, 1)
	go func() {
		code, _, err := s.try(t, http.MethodPut, "/orders/7", clerkToken, body)
		if err == nil && code != http.StatusCreated {
			err = fmt.Errorf("the client got %d", code)
		}
		answered <- err
	}()
	if _, err := sender.Write([]byte("the first half")); err != nil {
		t.Fatal(err)
	}
	s.stop()
	eventually(t, "the closed listener", func() bool {
		_, _, err := s.try(t, http.MethodGet, "/livez", "", http.NoBody)
		return err != nil
	})
	if err := sender.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	s.end(t)
	if entries, total, err := store.List(t.Context(), 1, 0); err != nil || total != 1 || entries[0].ResponseCode != http.StatusCreated {
		t.Errorf("%d entries: %+v, %v", total, entries, err)
	}
}

// TestWithoutTheTrailNothingIsAnswered takes the NATS server away and brings it back.
func TestWithoutTheTrailNothingIsAnswered(t *testing.T) {
	server := natstest.Run(t)
	cfg := jetstream.StreamConfig{Name: auditstoretest.DefaultStream, Subjects: []string{auditstoretest.DefaultSubject + ".>"}, AllowDirect: true}
	if _, err := server.JetStream().CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	bind(t, server.URL())
	s := start(t)
	server.Stop()
	eventually(t, "the service to be unready", func() bool {
		code, _ := s.do(t, http.MethodGet, "/readyz", "", http.NoBody)
		return code == http.StatusServiceUnavailable
	})
	if code, answer := s.do(t, http.MethodPut, "/orders/7", clerkToken, http.NoBody); code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", code, answer)
	}
	if code, _ := s.do(t, http.MethodGet, "/livez", "", http.NoBody); code != http.StatusOK {
		t.Errorf("livez: %d", code)
	}
	server.Restart()
	eventually(t, "the service to be ready", func() bool {
		code, _ := s.do(t, http.MethodGet, "/readyz", "", http.NoBody)
		return code == http.StatusOK
	})
	eventually(t, "the service to answer", func() bool {
		code, _ := s.do(t, http.MethodPut, "/orders/7", clerkToken, http.NoBody)
		return code == http.StatusCreated
	})
}

func TestARunThatCannotBegin(t *testing.T) {
	_, nc := auditstoretest.Run(t)
	for name, test := range map[string]struct{ variable, value, want string }{
		"no token":   {"DEMO_AUDITOR_TOKEN", "", "DEMO_AUDITOR_TOKEN"},
		"no binding": {"SERVICE_BINDING_ROOT", t.TempDir(), "SERVICE_BINDING_ROOT"},
		"no address": {"ADDRESS", "nonsense", "ADDRESS"},
	} {
		t.Run(name, func(t *testing.T) {
			bind(t, nc.ConnectedUrl())
			t.Setenv(test.variable, test.value)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := run(ctx, slog.New(slog.DiscardHandler))
			if err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want something about %s", err, test.want)
			}
		})
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !done(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no sign of %s", what)
		}
	}
}
