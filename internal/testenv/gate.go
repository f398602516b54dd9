package testenv

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Gate stands between a client and the NATS servers that it connects to. It passes everything on until the client sends one of
// the texts that it was given: it holds that back, with what the same connection sends after it, until it is told to open. So
// a test that wants to interfere at a certain moment does not have to be faster than the client.
type Gate struct {
	listeners []net.Listener
	group     sync.WaitGroup

	mu    sync.Mutex
	holds []*hold // those that were not opened yet, in the order in which they take effect
	conns []net.Conn
	done  bool
}

// hold is a text that is held back.
type hold struct {
	text   []byte
	held   chan struct{} // closed once a connection has been stopped
	once   sync.Once
	opened chan struct{} // closed when it may go on
}

// StartGate starts a gate in front of servers, which has an address of its own for each of them. The servers of a cluster must
// not advertise theirs, which would lead the client around the gate.
func StartGate(servers ...*NATSServer) (*Gate, error) {
	g := &Gate{}
	for _, server := range servers {
		target, err := url.Parse(server.URL())
		if err != nil {
			return nil, err
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			g.Close()
			return nil, fmt.Errorf("starting a gate in front of %s: %w", server.Name(), err)
		}
		g.listeners = append(g.listeners, listener)
		g.group.Go(func() { g.accept(listener, target.Host) })
	}
	return g, nil
}

// URL is what the client connects to.
func (g *Gate) URL() string {
	urls := make([]string, len(g.listeners))
	for i, listener := range g.listeners {
		urls[i] = "nats://" + listener.Addr().String()
	}
	return strings.Join(urls, ",")
}

// HoldBack has the texts held back, one after the other: each from when the one before was opened.
func (g *Gate) HoldBack(texts ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, text := range texts {
		g.holds = append(g.holds, &hold{text: []byte(text), held: make(chan struct{}), opened: make(chan struct{})})
	}
}

// Held is closed once the next text is held back.
func (g *Gate) Held() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.holds) == 0 {
		return nil
	}
	return g.holds[0].held
}

// Open lets go on what is held back, up to the next text.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.holds) > 0 {
		close(g.holds[0].opened)
		g.holds = g.holds[1:]
	}
}

// OpenAll lets everything go on, and forgets what was still to be held back.
func (g *Gate) OpenAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.holds {
		close(h.opened)
	}
	g.holds = nil
}

// Close ends all connections.
func (g *Gate) Close() {
	g.OpenAll()
	g.mu.Lock()
	g.done = true
	for _, listener := range g.listeners {
		_ = listener.Close()
	}
	for _, conn := range g.conns {
		_ = conn.Close()
	}
	g.mu.Unlock()
	g.group.Wait()
}

func (g *Gate) next() *hold {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.holds) == 0 {
		return nil
	}
	return g.holds[0]
}

func (g *Gate) accept(listener net.Listener, target string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", target)
		if err != nil { // which is down
			_ = client.Close()
			continue
		}
		if !g.keep(client, server) {
			return
		}
		hangUp := sync.OnceFunc(func() { g.hangUp(client, server) })
		g.group.Go(func() {
			defer hangUp()
			_, _ = io.Copy(client, server)
		})
		g.group.Go(func() {
			defer hangUp()
			g.pass(server, client)
		})
	}
}

func (g *Gate) keep(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done {
		for _, conn := range conns {
			_ = conn.Close()
		}
		return false
	}
	g.conns = append(g.conns, conns...)
	return true
}

func (g *Gate) hangUp(conns ...net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
	g.conns = slices.DeleteFunc(g.conns, func(c net.Conn) bool { return slices.Contains(conns, c) })
}

// pass returns once the client has hung up, or the server. It goes on reading while something is held back, so that the client
// is not held up in sending.
func (g *Gate) pass(server io.Writer, client io.Reader) {
	ended := make(chan struct{})
	defer close(ended)
	chunks := g.read(client, ended)
	var waiting []byte
	var opened chan struct{} // nil while nothing is held back
	for {
		select {
		case chunk, more := <-chunks:
			if !more {
				return
			}
			waiting = append(waiting, chunk...)
		case <-opened:
			opened = nil
		}
		if opened != nil {
			continue
		}
		h, n := g.passable(waiting)
		if _, err := server.Write(waiting[:n]); err != nil {
			return
		}
		waiting = waiting[n:]
		if h != nil {
			opened = h.opened
			h.once.Do(func() { close(h.held) })
		}
	}
}

// read yields what the client sends.
func (g *Gate) read(client io.Reader, ended <-chan struct{}) <-chan []byte {
	chunks := make(chan []byte)
	g.group.Go(func() {
		defer close(chunks)
		for {
			buffer := make([]byte, 32<<10)
			n, err := client.Read(buffer)
			select {
			case chunks <- buffer[:n]:
			case <-ended:
				return
			}
			if err != nil {
				return
			}
		}
	})
	return chunks
}

// passable is how much may go on to the server, up to a text that is held back or to what may be the beginning of it.
func (g *Gate) passable(waiting []byte) (*hold, int) {
	h := g.next()
	if h == nil {
		return nil, len(waiting)
	}
	if i := bytes.Index(waiting, h.text); i >= 0 {
		return h, i
	}
	for n := min(len(waiting), len(h.text)-1); n > 0; n-- {
		if bytes.HasPrefix(h.text, waiting[len(waiting)-n:]) {
			return nil, len(waiting) - n
		}
	}
	return nil, len(waiting)
}
