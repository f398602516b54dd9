package jsclient

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

var connectionLabels = []string{"servers", "identity"}

// labels name a connection. The hash leaves out what the URLs hold of credentials: whoever reads metrics could try
// passwords on it. Identities that differ in nothing else share their series.
func (c Config) labels() []string {
	c.URL = c.String()
	parts := []string{c.URL, c.CredsFile, c.CAFile, c.CertFile, c.KeyFile, c.User, c.PasswordFile, c.TokenFile, c.Domain}
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return []string{c.URL, hex.EncodeToString(sum[:4])}
}

// open, up, lost, down and close follow a connection: it is made, is up, is lost, ends while it is up, is gone.

func (m *metrics) open(cfg Config) {
	m.connections.Inc()
	m.state.WithLabelValues(cfg.labels()...).Add(0)
	m.losses.WithLabelValues(cfg.labels()...).Add(0)
}

func (m *metrics) up(cfg Config) {
	m.connected.Inc()
	m.state.WithLabelValues(cfg.labels()...).Inc()
}

func (m *metrics) lost(cfg Config) {
	m.down(cfg)
	m.losses.WithLabelValues(cfg.labels()...).Inc()
}

func (m *metrics) down(cfg Config) {
	m.connected.Dec()
	m.state.WithLabelValues(cfg.labels()...).Dec()
}

func (m *metrics) close(cfg Config) {
	m.connections.Dec()
	m.state.DeleteLabelValues(cfg.labels()...)
	m.losses.DeleteLabelValues(cfg.labels()...)
}
