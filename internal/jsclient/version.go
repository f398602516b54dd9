package jsclient

import (
	"fmt"
	"strings"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/failure"
)

// The oldest server that AuditStream works with.
const (
	minMajor = 2
	minMinor = 12
)

// CheckServer returns nil when the connected server is new enough, a *failure.Waiting of reason ServerTooOld when it is
// not, and what Err returns when there is no connection. It is Waiting because an upgrade mends it without a change of
// any resource.
//
// A version that cannot be read is let through, as is a server that only leads to the JetStream domain asked for: its
// version says nothing of the domain's.
func (c *Client) CheckServer() error {
	if err := c.Err(); err != nil {
		return err
	}
	version, domain := c.state.server()
	if c.cfg.Domain != "" && c.cfg.Domain != domain {
		return nil
	}
	return checkVersion(version)
}

func checkVersion(version string) error {
	var major, minor int
	if n, _ := fmt.Sscanf(strings.TrimPrefix(version, "v"), "%d.%d", &major, &minor); n < 2 {
		return nil
	}
	if major > minMajor || (major == minMajor && minor >= minMinor) {
		return nil
	}
	return &failure.Waiting{
		Reason: v1alpha1.ReasonServerTooOld,
		After:  slowRetry,
		Err:    fmt.Errorf("NATS server %s: AuditStream needs %d.%d or newer; upgrade the server", version, minMajor, minMinor),
	}
}

func (s *state) server() (version, domain string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version, s.domain
}
