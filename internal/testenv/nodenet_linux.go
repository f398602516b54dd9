package testenv

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const dialTimeout = 10 * time.Second

// sysSetns is the number of the system call setns, which package syscall has no name for.
var sysSetns = map[string]uintptr{"amd64": 308, "arm64": 268}

// nodeNetwork is the network of a node as this program takes part in it: it listens and dials in there with sockets of its
// own, and stands in for kube-proxy.
type nodeNetwork struct {
	namespace *os.File

	mu        sync.Mutex
	listeners []net.Listener
}

// joinNetwork takes part in the network of the process that unshare, whose process id is given, has started. What comes
// in by the Unix socket proxy is dialled in that network.
func joinNetwork(unshare int, proxy string) (*nodeNetwork, error) {
	if sysSetns[runtime.GOARCH] == 0 {
		return nil, fmt.Errorf("entering the node's network: not known how on %s", runtime.GOARCH)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", unshare))
	if err != nil {
		return nil, fmt.Errorf("looking for the node's first process: %w", err)
	}
	namespace, err := os.Open(filepath.Join("/proc", strings.TrimSpace(string(children)), "ns/net"))
	if err != nil {
		return nil, fmt.Errorf("opening the node's network: %w", err)
	}
	n := &nodeNetwork{namespace: namespace}
	listener, err := net.Listen("unix", proxy)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listening for the API server: %w", err), n.close())
	}
	n.accept(listener, n.connectRequested)
	return n, nil
}

// inside runs f on a thread that is in the node's network. A socket stays in the network it was made in, so what f has
// opened can be used anywhere. The thread ends with the goroutine, which does not unlock it.
func (n *nodeNetwork) inside(f func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(sysSetns[runtime.GOARCH], n.namespace.Fd(), syscall.CLONE_NEWNET, 0); errno != 0 {
			done <- fmt.Errorf("entering the node's network: %w", errno)
			return
		}
		f()
		done <- nil
	}()
	return <-done
}

func (n *nodeNetwork) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	failed := n.inside(func() { conn, err = (&net.Dialer{}).DialContext(ctx, network, address) })
	return conn, errors.Join(failed, err)
}

// serve listens on an address of the node's network and passes every connection on to where dial leads.
func (n *nodeNetwork) serve(address string, dial func(context.Context) (net.Conn, error)) error {
	var listener net.Listener
	var err error
	failed := n.inside(func() { listener, err = net.Listen("tcp", address) })
	if err := errors.Join(failed, err); err != nil {
		return fmt.Errorf("listening on %s in the node's network: %w", address, err)
	}
	n.accept(listener, func(conn net.Conn) {
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
		defer cancel()
		target, err := dial(ctx)
		if err != nil {
			// As kube-proxy has it where nobody is to be reached: closed without a word.
			_ = conn.(*net.TCPConn).SetLinger(0)
			return
		}
		splice(conn, target)
	})
	return nil
}

func (n *nodeNetwork) accept(listener net.Listener, handle func(net.Conn)) {
	n.mu.Lock()
	n.listeners = append(n.listeners, listener)
	n.mu.Unlock()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				handle(conn)
			}()
		}
	}()
}

// connectRequested serves an HTTP CONNECT, which is how the API server reaches kubelet.
func (n *nodeNetwork) connectRequested(conn net.Conn) {
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil || request.Method != http.MethodConnect {
		return
	}
	target, err := n.dial(context.Background(), "tcp", request.Host)
	if err != nil {
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		_ = target.Close()
		return
	}
	splice(conn, target)
}

// splice copies both ways until one side ends, and closes the target.
func splice(conn, target net.Conn) {
	ended := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{conn, target}, {target, conn}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			ended <- struct{}{}
		}()
	}
	<-ended
	_ = target.Close()
}

func (n *nodeNetwork) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.namespace.Close()
	for _, listener := range n.listeners {
		err = errors.Join(err, listener.Close())
	}
	return err
}

// hostDialer connects to the host of a URL from outside of the node.
func hostDialer(rawURL string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		target, err := url.Parse(rawURL)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", target.Host)
	}
}

// DialContext connects to an address of the node's network, such as a Pod's or a Service's.
func (n *Node) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return n.net.dial(ctx, network, address)
}
