// Package freeport finds ports for the servers of tests, benches and the demo. It is for them only, and nothing that ships
// imports it.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are drawn from below the range that kernels give to outgoing connections (32768 and up on Linux, 49152 on
// others). Such a connection can therefore not take a port between its choice and its use, and two programs draw the
// same one with a chance of one in twelve thousand.
const (
	firstPort = 20000
	lastPort  = 32000
)

var drawn = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// Next returns a port on 127.0.0.1 on which nobody listens and that this program has not been given before. It is safe for
// concurrent use.
func Next() (int, error) {
	drawn.Lock()
	defer drawn.Unlock()
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort) // #nosec G404 -- no secret
		if drawn.ports[port] || !isFree(port) {
			continue
		}
		drawn.ports[port] = true
		return port, nil
	}
	return 0, errors.New("no free port found on 127.0.0.1")
}

func isFree(port int) bool {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
