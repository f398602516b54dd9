package auditstore

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// publishRaw stores a message with a header block that no client library would send and none can read.
func publishRaw(t *testing.T, srv *natstest.Server, subject, header string, data []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"headers\":true}\r\nHPUB %s %d %d\r\n%s%s\r\nPING\r\n",
		subject, len(header), len(header)+len(data), header, data)
	if err != nil {
		t.Fatal(err)
	}
	var said []byte
	for chunk := make([]byte, 4096); !bytes.Contains(said, []byte("PONG")); {
		n, err := conn.Read(chunk)
		if err != nil {
			t.Fatalf("%v after %q", err, said)
		}
		said = append(said, chunk[:n]...)
	}
}

// TestMalformedHeadersAreCorrupt: a message whose headers cannot be read keeps its place and is reported, whichever way it is
// read. Nobody knows whether it is a marker, or when it was recorded.
func TestMalformedHeadersAreCorrupt(t *testing.T) {
	for name, probe := range map[string]int{"one by one": 4096, "by a consumer": 0} {
		t.Run(name, func(t *testing.T) {
			s, js, srv := open(t)
			s.limits.probe = probe
			cursor := latest(t, s)
			mustWrite(t, s, "a")
			publishRaw(t, srv, testSubject+".bad", "NATS/1.0\r\nno colon here\r\n\r\n", body("bad", "eve"))
			publish(t, js, "b", body("b", "ada"))

			entries, total, err := s.List(t.Context(), 3, 0)
			if idsOf(entries) != "b a" || total != 3 {
				t.Errorf("List is %q of %d", idsOf(entries), total)
			}
			wantSequences(t, err, 2)
			all, err := s.ListAll(t.Context())
			if idsOf(all) != "b a" {
				t.Errorf("ListAll is %q", idsOf(all))
			}
			wantSequences(t, err, 2)
			var out bytes.Buffer
			n, err := s.Export(t.Context(), &out, ExportOptions{})
			if lines := strings.Split(out.String(), "\n"); n != 2 || slices.Index(lines, `{"corrupt":{"sequence":2}}`) != 1 {
				t.Errorf("Export wrote %d:\n%s", n, out.String())
			}
			wantSequences(t, err, 2)
			_, err = s.Get(t.Context(), "bad")
			wantSequences(t, err, 2)
			wantIs(t, s.Write(t.Context(), named("bad")), ErrConflict)
			tailFrom(t, s, cursor).want("a !2 b")
		})
	}
}
