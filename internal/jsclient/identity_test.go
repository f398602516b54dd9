package jsclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/osapi-io/auditstream-operator/api/v1alpha1"
	"github.com/osapi-io/auditstream-operator/internal/natstest"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key, a.pem = a.sign(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: "test"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, parentKey := template, key
	if a.cert != nil {
		parent, parentKey = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// issue returns a certificate and its key for both ends of a connection to this machine.
func (a *authority) issue() (certPEM, keyPEM []byte) {
	a.t.Helper()
	_, key, certPEM := a.sign(&x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return certPEM, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// runTLS starts a server with TLS, which asks for client certificates of an authority, if one is given.
func runTLS(t *testing.T, a, clients *authority, change ...func(*tls.Config)) *natstest.Server {
	t.Helper()
	certPEM, keyPEM := a.issue()
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clients != nil {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, clients.pool()
	}
	for _, f := range change {
		f(cfg)
	}
	return natstest.Run(t, func(o *server.Options) { o.TLS, o.TLSVerify, o.TLSConfig, o.TLSTimeout = true, clients != nil, cfg, 2 })
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	srv := runTLS(t, ca, nil)
	file := tempFile(t, "ca.crt", string(other.pem))
	b := newBench(t)
	cfg := Config{URL: strings.Replace(srv.URL(), "nats://", "tls://", 1), CAFile: file}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	c := b.client(t, cfg)
	eventually(t, "the reason", func() bool { return c.Err() != nil && strings.Contains(c.Err().Error(), "unknown authority") })
	wantWaiting(t, c.Err(), v1alpha1.ReasonNATSUnavailable)
	writeFile(t, file, string(ca.pem))
	eventually(t, "a connection", c.Connected)

	// A nats:// URL follows the server, and a CA file makes TLS a must.
	b.connected(t, Config{URL: srv.URL(), CAFile: file})
	plain := natstest.Run(t)
	refused := b.client(t, Config{URL: plain.URL(), CAFile: file})
	eventually(t, "the refusal", func() bool {
		return refused.Err() != nil && strings.Contains(refused.Err().Error(), "secure connection not available")
	})
}

func TestTLSClientCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	srv := runTLS(t, ca, ca)
	dir := t.TempDir()
	wrongCert, wrongKey := other.issue()
	cfg := Config{
		URL:      strings.Replace(srv.URL(), "nats://", "tls://", 1),
		CAFile:   writeFile(t, filepath.Join(dir, "ca.crt"), string(ca.pem)),
		CertFile: writeFile(t, filepath.Join(dir, "tls.crt"), string(wrongCert)),
		KeyFile:  writeFile(t, filepath.Join(dir, "tls.key"), string(wrongKey)),
	}
	b := newBench(t)
	c := b.client(t, cfg)
	eventually(t, "the refusal", func() bool { return c.Err() != nil && strings.Contains(c.Err().Error(), "--nats-cert") })
	wantWaiting(t, c.Err(), v1alpha1.ReasonAuthenticationFailed)

	certPEM, keyPEM := ca.issue()
	writeFile(t, cfg.CertFile, string(certPEM))
	eventually(t, "the half that does not fit", func() bool { return strings.Contains(b.logText(), "not a certificate and its key") })
	writeFile(t, cfg.KeyFile, string(keyPEM))
	eventually(t, "a connection", c.Connected)

	// A half-written pair does not cost a connection that works.
	nextCert, _ := ca.issue()
	reports := strings.Count(b.logText(), "cannot be used")
	writeFile(t, cfg.CertFile, string(nextCert))
	eventually(t, "the report", func() bool { return strings.Count(b.logText(), "cannot be used") > reports })
	if !c.Connected() {
		t.Error("gave up a connection that works")
	}
}

func TestTLSBefore12IsRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	srv := runTLS(t, ca, nil, func(cfg *tls.Config) {
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	})
	b := newBench(t)
	c := b.client(t, Config{URL: srv.URL(), CAFile: tempFile(t, "ca.crt", string(ca.pem))})
	eventually(t, "the refusal", func() bool {
		err := c.Err()
		return err != nil && strings.Contains(err.Error(), "tls: ")
	})
	if c.Connected() {
		t.Error("connected with TLS 1.1")
	}
}

// decentralised is a server that knows its users by JWT.
type decentralised struct {
	*natstest.Server
	account nkeys.KeyPair
}

func runDecentralised(t *testing.T) *decentralised {
	t.Helper()
	operator, operatorKey := newKey(t, nkeys.CreateOperator)
	account, accountKey := newKey(t, nkeys.CreateAccount)
	_, systemKey := newKey(t, nkeys.CreateAccount)
	claims := jwt.NewAccountClaims(accountKey)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: -1, MemoryStorage: -1, Streams: -1, Consumer: -1}
	resolver := &server.MemAccResolver{}
	for key, c := range map[string]*jwt.AccountClaims{accountKey: claims, systemKey: jwt.NewAccountClaims(systemKey)} {
		token, err := c.Encode(operator)
		if err != nil {
			t.Fatal(err)
		}
		if err := resolver.Store(key, token); err != nil {
			t.Fatal(err)
		}
	}
	operatorClaims := jwt.NewOperatorClaims(operatorKey)
	srv := natstest.Run(t, func(o *server.Options) {
		o.TrustedOperators = []*jwt.OperatorClaims{operatorClaims}
		o.TrustedKeys = nil
		o.AccountResolver = resolver
		o.SystemAccount = systemKey
	})
	return &decentralised{Server: srv, account: account}
}

func newKey(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public
}

// creds returns a credentials file of a new user.
func (d *decentralised) creds(t *testing.T, change func(*jwt.UserClaims)) []byte {
	t.Helper()
	user, public := newKey(t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(public)
	change(claims)
	token, err := claims.Encode(d.account)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	file, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCredsFileIsRenewed(t *testing.T) {
	t.Parallel()
	srv := runDecentralised(t)
	stale := srv.creds(t, func(c *jwt.UserClaims) { c.Expires = time.Now().Add(-time.Hour).Unix() })
	cfg := Config{URL: srv.URL(), CredsFile: tempFile(t, "user.creds", string(stale))}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	c := b.client(t, cfg)
	eventually(t, "the refusal", func() bool { return c.Err() != nil && strings.Contains(c.Err().Error(), "--nats-creds") })
	wantWaiting(t, c.Err(), v1alpha1.ReasonAuthenticationFailed)

	valid := srv.creds(t, func(*jwt.UserClaims) {})
	if err := os.WriteFile(cfg.CredsFile, valid, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a connection", c.Connected)
	if _, err := c.CreateStream(background(t), streamConfig("AUDIT")); err != nil {
		t.Fatal(err)
	}
	for secret := range strings.SplitSeq(string(stale)+string(valid), "\n") {
		if len(secret) > 40 && !strings.Contains(secret, " ") && strings.Contains(b.logText(), secret) {
			t.Error("the log holds a JWT or seed")
		}
	}
}
