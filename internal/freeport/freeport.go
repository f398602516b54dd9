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
// others). Such a connection can therefore not take a port between its choice and its use, nor while its server is away.
const (
	firstPort = 20000
	lastPort  = 32000
)

// claims are never given back before the program ends: a server may come again on its port.
var claims struct {
	sync.Mutex
	held []net.PacketConn
}

// Next returns a TCP port on 127.0.0.1 on which nobody listens, and that neither this program nor another one that is running has
// been given. It is safe for concurrent use.
func Next() (int, error) {
	claims.Lock()
	defer claims.Unlock()
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort) // #nosec G404 -- no secret
		address := fmt.Sprintf("127.0.0.1:%d", port)
		// What claims it is the UDP port of the same number, which no server here listens on. Packages are tested at the same time,
		// and one must not draw the port of a server that another has stopped to start it again.
		claim, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		if !isFree(address) {
			_ = claim.Close()
			continue
		}
		claims.held = append(claims.held, claim)
		return port, nil
	}
	return 0, errors.New("no free port found on 127.0.0.1")
}

func isFree(address string) bool {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
