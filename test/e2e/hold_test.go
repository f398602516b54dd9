package e2e

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// hold stands between an operator and NATS. It passes everything on until the operator has asked for one thing and then asks for
// another, which it holds back, with all that the operator sends after it.
type hold struct {
	listener net.Listener
	server   string
	first    []byte
	second   []byte
	// held is closed once something is held back.
	held  chan struct{}
	once  sync.Once
	group sync.WaitGroup
}

// holdBack makes a hold that ends with the spec. What is asked for are subjects of NATS's API.
func holdBack(ctx context.Context, first, second string) *hold {
	GinkgoHelper()
	server, err := url.Parse(env.nats.URL())
	Expect(err).NotTo(HaveOccurred())
	h := &hold{server: server.Host, first: []byte(first + " "), second: []byte(second + " "), held: make(chan struct{})}
	h.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	h.group.Go(h.accept)
	DeferCleanup(func() {
		_ = h.listener.Close()
		h.group.Wait()
	})
	return h
}

// url is what the operator connects to.
func (h *hold) url() string { return "nats://" + h.listener.Addr().String() }

func (h *hold) accept() {
	for {
		operator, err := h.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", h.server)
		if err != nil {
			_ = operator.Close()
			continue
		}
		h.group.Go(func() {
			defer func() { _ = operator.Close() }()
			_, _ = io.Copy(operator, server)
		})
		h.group.Go(func() {
			defer func() { _ = server.Close() }()
			h.pass(server, operator)
		})
	}
}

// pass returns once the operator is gone.
func (h *hold) pass(server io.Writer, operator io.Reader) {
	var seen []byte // what may hold the beginning of what is looked for
	asked, holding := false, false
	buffer := make([]byte, 64<<10)
	for {
		n, err := operator.Read(buffer)
		if err != nil {
			return
		}
		seen = append(seen, buffer[:n]...)
		if i := bytes.Index(seen, h.first); i >= 0 {
			seen, asked = seen[i+len(h.first):], true
		}
		if asked && bytes.Contains(seen, h.second) {
			holding = true
			h.once.Do(func() { close(h.held) })
		}
		seen = bytes.Clone(seen[max(0, len(seen)-len(h.first)-len(h.second)):])
		if holding {
			continue
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}
