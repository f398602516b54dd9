package auditstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// mount is a binding as Kubernetes mounts a Secret: each key is a link into ..data, which is a link to one version, and a new
// version takes its place at once. The old version is then removed.
type mount struct {
	dir     string
	version int
}

func newMount(t *testing.T, k keys) *mount {
	t.Helper()
	m := &mount{dir: t.TempDir()}
	m.swap(t, k)
	for key := range k {
		if err := os.Symlink(filepath.Join("..data", key), filepath.Join(m.dir, key)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *mount) swap(t *testing.T, k keys) {
	t.Helper()
	old := fmt.Sprintf("..v%d", m.version)
	m.version++
	name := fmt.Sprintf("..v%d", m.version)
	writeKeys(t, filepath.Join(m.dir, name), k)
	link := filepath.Join(m.dir, "..data_tmp")
	err := errors.Join(os.Symlink(name, link), os.Rename(link, filepath.Join(m.dir, "..data")), os.RemoveAll(filepath.Join(m.dir, old)))
	if err != nil {
		t.Fatal(err)
	}
}

// operator is the JWT set-up of a server: an operator with one account that has JetStream.
type operator struct {
	account nkeys.KeyPair
	public  string
	system  string
	opts    func(*server.Options)
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	op, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	resolver := &server.MemAccResolver{}
	add := func(jetStream bool) (nkeys.KeyPair, string) {
		pair, err := nkeys.CreateAccount()
		if err != nil {
			t.Fatal(err)
		}
		public := publicKey(t, pair)
		claims := jwt.NewAccountClaims(public)
		if jetStream {
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
		}
		token, err := claims.Encode(op)
		if err != nil {
			t.Fatal(err)
		}
		if err := resolver.Store(public, token); err != nil {
			t.Fatal(err)
		}
		return pair, public
	}
	o := &operator{}
	_, o.system = add(false)
	o.account, o.public = add(true)
	o.opts = func(opts *server.Options) {
		opts.TrustedKeys = []string{publicKey(t, op)}
		opts.AccountResolver = resolver
		opts.SystemAccount = o.system
	}
	return o
}

// shortLife is for credentials that are to expire, and long enough to connect with them before.
const shortLife = 5 * time.Second

// creds is a credentials file of a new user. A life of zero is for ever.
func (o *operator) creds(t *testing.T, life time.Duration) string {
	t.Helper()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewUserClaims(publicKey(t, user))
	if life > 0 {
		claims.Expires = time.Now().Add(life).Unix()
	}
	return credsFile(t, claims, user, o.account)
}

func (o *operator) run(t *testing.T) *controlled {
	t.Helper()
	return runControlled(t, o.opts, nats.UserCredentialBytes([]byte(o.creds(t, 0))))
}

func TestExpiredJWTIsReplacedByTheMountedOne(t *testing.T) {
	o := newOperator(t)
	srv := o.run(t)
	m := newMount(t, srv.keys().with(keys{"credentials": o.creds(t, shortLife)}))
	client, j := openDir(t, m.dir)
	mustWrite(t, client.StreamStore, "a")
	first := client.Conn().Stats().Reconnects
	m.swap(t, srv.keys().with(keys{"credentials": o.creds(t, 0)})) // while the first is still in use
	until(t, "the server to end the connection", func() bool { return strings.Contains(j.String(), "Reconnected to NATS") })
	mustWrite(t, client.StreamStore, "b")
	if got, _ := list(t, client.StreamStore, 5, 0); got != "b a" || client.Conn().Stats().Reconnects == first {
		t.Errorf("the stream holds %q after %d reconnects", got, client.Conn().Stats().Reconnects)
	}
}

func TestExpiredJWTIsRefusedUntilItIsRenewed(t *testing.T) {
	o := newOperator(t)
	srv := o.run(t)
	m := newMount(t, srv.keys().with(keys{"credentials": o.creds(t, shortLife)}))
	client, j := openDir(t, m.dir)
	until(t, "several tries", func() bool { return client.Conn().Stats().Reconnects > 4 })
	// Within its last second the server still takes the JWT, and ends the connection at once.
	until(t, "a refusal that says what to renew", func() bool {
		err := client.Err()
		return errors.Is(err, ErrNotReady) && errors.Is(err, ErrUnauthorized) &&
			strings.Contains(err.Error(), "renew "+filepath.Join(m.dir, "credentials"))
	})
	m.swap(t, srv.keys().with(keys{"credentials": o.creds(t, 0)}))
	mustWrite(t, client.StreamStore, "a")
	if !strings.Contains(strings.ToLower(j.String()), "authentication expired") {
		t.Errorf("the log does not say that the credentials expired:\n%s", j)
	}
}

func TestSpoiltCredentialsAreNamedAndSurvived(t *testing.T) {
	o := newOperator(t)
	srv := o.run(t)
	good := srv.keys().with(keys{"credentials": o.creds(t, 0)})
	m := newMount(t, good)
	client, _ := openDir(t, m.dir)
	m.swap(t, good.with(keys{"credentials": marker}))
	srv.Restart()
	until(t, "the fault", func() bool {
		return strings.Contains(fmt.Sprint(client.Err()), filepath.Join(m.dir, "credentials")+" is not a NATS credentials file")
	})
	m.swap(t, good)
	mustWrite(t, client.StreamStore, "a")
}

func TestRotatedSecretsAreTakenUp(t *testing.T) {
	const old, next = marker + "-1", marker + "-2"
	token := func(secret string) func(*server.Options) {
		return func(o *server.Options) { o.Authorization, o.Username, o.Password = secret, "", "" }
	}
	inURI := func(url, user string) keys { return keys{"uri": strings.Replace(url, "//", "//"+user+"@", 1)} }
	for name, c := range map[string]struct {
		auth, nextAuth func(*server.Options)
		ours           nats.Option
		keys, nextKeys func(url string) keys
	}{
		"password": {password("ada", old), password("eve", next), nats.UserInfo("ada", old),
			func(string) keys { return keys{"username": "ada\n", "password": old + "\n"} },
			func(string) keys { return keys{"username": "eve\n", "password": next + "\n"} }},
		"token": {token(old), token(next), nats.Token(old),
			func(string) keys { return keys{"token": old + "\n"} }, func(string) keys { return keys{"token": next + "\n"} }},
		"user in uri": {password("ada", old), password("ada", next), nats.UserInfo("ada", old),
			func(url string) keys { return inURI(url, "ada:"+old) }, func(url string) keys { return inURI(url, "ada:"+next) }},
		"password to token": {password("ada", old), token(next), nats.UserInfo("ada", old),
			func(url string) keys { return inURI(url, "ada:"+old) }, func(url string) keys { return inURI(url, next) }},
	} {
		t.Run(name, func(t *testing.T) {
			srv := runControlled(t, c.auth, c.ours)
			m := newMount(t, srv.keys().with(c.keys(srv.URL())))
			client, _ := openDir(t, m.dir)
			srv.restartWith(c.nextAuth) // before the mount follows
			until(t, "a refusal", func() bool { return errors.Is(client.Err(), ErrUnauthorized) })
			m.swap(t, srv.keys().with(c.nextKeys(srv.URL())))
			mustWrite(t, client.StreamStore, "a")
		})
	}
}

func TestServerThatMovedIsFollowed(t *testing.T) {
	first := runControlled(t, nil)
	m := newMount(t, first.keys())
	client, _ := openDir(t, m.dir)
	second := runControlled(t, nil)
	first.Stop()
	m.swap(t, second.keys())
	mustWrite(t, client.StreamStore, "a")
	if url := client.Conn().ConnectedUrl(); url != second.URL() {
		t.Errorf("connected to %s, want %s", url, second.URL())
	}
}

// authority signs certificates for 127.0.0.1, of servers and of clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func sign(t *testing.T, name string, parent *authority) (*authority, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	issuer, signer := template, key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, content []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
	}
	return &authority{cert, key, encode("CERTIFICATE", der)}, encode("PRIVATE KEY", private)
}

// serveTLS has the server show a certificate of the authority and ask for one.
func serveTLS(t *testing.T, ca *authority) func(*server.Options) {
	t.Helper()
	leaf, key := sign(t, "server", ca)
	pair, err := tls.X509KeyPair([]byte(leaf.pem), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return func(o *server.Options) {
		o.TLS, o.TLSTimeout = true, 5
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	}
}

func tlsKeys(t *testing.T, ca *authority) keys {
	t.Helper()
	leaf, key := sign(t, "client", ca)
	return keys{"ca.crt": ca.pem, "tls.crt": leaf.pem, "tls.key": key}
}

func TestRotatedCertificatesAreTakenUp(t *testing.T) {
	old, _ := sign(t, "old", nil)
	next, _ := sign(t, "next", nil)
	srv := runControlled(t, nil)
	srv.restartWith(serveTLS(t, old))
	m := newMount(t, srv.keys().with(tlsKeys(t, old)))
	client, _ := openDir(t, m.dir)
	mustWrite(t, client.StreamStore, "a")
	if _, err := client.Conn().TLSConnectionState(); err != nil {
		t.Fatal(err)
	}
	srv.restartWith(serveTLS(t, next))
	until(t, "the old authority to fail", func() bool {
		text := fmt.Sprint(client.Err())
		return strings.Contains(text, "unknown authority") && strings.Contains(text, filepath.Join(m.dir, "ca.crt"))
	})
	m.swap(t, srv.keys().with(tlsKeys(t, next)))
	mustWrite(t, client.StreamStore, "b")

	// The system's authorities never take the place of the binding's.
	withoutCA := srv.keys().with(tlsKeys(t, next))
	delete(withoutCA, "ca.crt")
	m.swap(t, withoutCA.with(keys{"other": "x"}))
	if err := os.Remove(filepath.Join(m.dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	srv.Restart()
	until(t, "the missing authority", func() bool {
		return strings.Contains(fmt.Sprint(client.Err()), filepath.Join(m.dir, "ca.crt")+" is no longer there")
	})
}

func TestOpenSaysWhatIsWrongWithTLS(t *testing.T) {
	ca, _ := sign(t, "ca", nil)
	other, _ := sign(t, "other", nil)
	plain, secure := runControlled(t, nil), runControlled(t, nil)
	secure.restartWith(serveTLS(t, ca))
	withoutCert := keys{"ca.crt": ca.pem}
	for name, c := range map[string]struct {
		srv  *controlled
		keys keys
		want string
		is   error
	}{
		"no TLS there":          {plain, withoutCert, "the server has no TLS", ErrNotReady},
		"no TLS for tls://":     {plain, keys{"uri": strings.Replace(plain.URL(), "nats://", "tls://", 1)}, "the server has no TLS", ErrNotReady},
		"another authority":     {secure, keys{"ca.crt": other.pem}, "ca.crt", ErrNotReady},
		"no authority":          {secure, nil, "ca.crt", ErrNotReady},
		"no certificate":        {secure, withoutCert, "has no credentials: add", ErrUnauthorized},
		"another's certificate": {secure, tlsKeys(t, other).with(withoutCert), "tls.crt and ", ErrUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJournal(t)
			_, err := Open(untilLogged(t, j, c.want), FromDirectory(c.srv.binding(t, c.keys)), logTo(j), quickly())
			wantIs(t, err, ErrNotReady, c.is)
			if !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("the error %q does not say %q", err, c.want)
			}
		})
	}
}
