package testenv

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	. "github.com/onsi/gomega"

	"github.com/osapi-io/auditstream-operator/internal/freeport"
)

// startSink is a server that passes on what it is sent.
func startSink(t *testing.T) (*NATSServer, *io.PipeReader) {
	t.Helper()
	port, err := freeport.Next()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	out, in := io.Pipe()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				_ = in.CloseWithError(err)
				return
			}
			go func() { _, _ = io.Copy(in, conn) }()
		}
	}()
	return &NATSServer{opts: NATSOptions{Port: port}}, out
}

func TestGateHoldsBackOneTextAfterTheOther(t *testing.T) {
	g := NewWithT(t)
	server, arrived := startSink(t)
	gate, err := StartGate(server)
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(gate.Close)
	gate.HoldBack("PUB second ", "PUB third ")
	conn, err := net.Dial("tcp", strings.TrimPrefix(gate.URL(), "nats://"))
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { _ = conn.Close() })
	read := func(n int) string {
		text := make([]byte, n)
		_, err := io.ReadFull(arrived, text)
		g.Expect(err).NotTo(HaveOccurred())
		return string(text)
	}

	// The text is cut in two on its way, and what looks like its beginning is not held up for long.
	for _, part := range []string{"PUB first PUB sec", "ret PUB sec"} {
		_, err = io.WriteString(conn, part)
		g.Expect(err).NotTo(HaveOccurred())
	}
	g.Expect(read(21)).To(Equal("PUB first PUB secret "))
	g.Consistently(gate.Held()).ShouldNot(BeClosed())
	_, err = io.WriteString(conn, "ond PUB third PUB fourth")
	g.Expect(err).NotTo(HaveOccurred())
	g.Eventually(gate.Held(), soon).Should(BeClosed())
	gate.Open()
	g.Expect(read(11)).To(Equal("PUB second "))
	g.Eventually(gate.Held(), soon).Should(BeClosed())
	gate.OpenAll()
	g.Expect(read(20)).To(Equal("PUB third PUB fourth"))
}

// A client that is led to other servers would go around the gate.
func TestGateIsAllThatClientsOfAClusterKnow(t *testing.T) {
	g := NewWithT(t)
	servers, err := StartNATSCluster(t.Context(), "", 3)
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(func() { g.Expect(servers.Stop()).To(Succeed()) })
	gate, err := StartGate(servers...)
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(gate.Close)

	nc, err := nats.Connect(gate.URL())
	g.Expect(err).NotTo(HaveOccurred())
	t.Cleanup(nc.Close)
	g.Expect(nc.DiscoveredServers()).To(BeEmpty())
	g.Expect(nc.Servers()).To(HaveLen(3))
}
