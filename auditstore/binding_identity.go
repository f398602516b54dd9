package auditstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"
)

// identity is what a connection authenticates with, as it was at one moment.
type identity struct {
	user, password string
	token          string
	jwt            string
	sign           nats.SignatureHandler
}

// identity reads the credentials, of whichever kind: a rotation may replace one kind by another.
func (b *binding) identity() (identity, error) {
	fromURI, inURI, err := b.uriIdentity()
	if err != nil {
		return identity{}, err
	}
	var ways []string
	if inURI {
		ways = append(ways, b.at(keyURI).name+" (its user)")
	}
	for _, key := range []string{keyCredentials, keyUsername, keyToken} {
		if b.has(key) {
			ways = append(ways, b.at(key).name)
		}
	}
	if len(ways) > 1 {
		return identity{}, fmt.Errorf("%s contradict each other: keep one of them", strings.Join(ways, " and "))
	}
	switch {
	case inURI:
		return fromURI, nil
	case b.has(keyCredentials):
		return b.userJWT()
	case b.has(keyToken):
		token, _, err := b.secret(keyToken)
		return identity{token: token}, err
	}
	return b.userPassword()
}

func (b *binding) uriIdentity() (id identity, given bool, err error) {
	list, given, err := b.text(keyURI)
	if err != nil || !given {
		return identity{}, false, err
	}
	var user *url.Userinfo
	if _, user, err = parseServers(list); err != nil {
		return identity{}, false, fmt.Errorf("%s %w", b.at(keyURI).name, err)
	}
	if user == nil {
		return identity{}, false, nil
	}
	// NATS takes a name without a password for a token.
	password, named := user.Password()
	if !named {
		return identity{token: user.Username()}, true, nil
	}
	return identity{user: user.Username(), password: password}, true, nil
}

func (b *binding) userPassword() (identity, error) {
	user, hasUser, userErr := b.secret(keyUsername)
	password, hasPassword, passwordErr := b.secret(keyPassword)
	if hasUser != hasPassword {
		return identity{}, fmt.Errorf("%s and %s belong together: give both or neither", b.at(keyUsername).name, b.at(keyPassword).name)
	}
	return identity{user: user, password: password}, errors.Join(userErr, passwordErr)
}

// userJWT reads a .creds file once, so that the JWT and the seed are of one version.
func (b *binding) userJWT() (identity, error) {
	content, _, err := b.read(keyCredentials)
	if err != nil {
		return identity{}, err
	}
	wrong := fmt.Errorf("%s is not a NATS credentials file with a user's JWT and seed: use one as `nsc generate creds` writes it",
		b.at(keyCredentials).name)
	var o nats.Options
	if nats.UserCredentialBytes(content)(&o) != nil {
		return identity{}, wrong
	}
	// A file without the lines that frame a JWT is taken for one as a whole.
	jwt, err := o.UserJWT()
	if err != nil || strings.Count(jwt, ".") != 2 || strings.ContainsAny(jwt, " \r\n") {
		return identity{}, wrong
	}
	if _, err := o.SignatureCB([]byte("a nonce")); err != nil {
		return identity{}, wrong
	}
	return identity{jwt: jwt, sign: o.SignatureCB}, nil
}

// credentialNames says what the binding authenticates with, for the message that it is refused.
func (b *binding) credentialNames() []string {
	var names []string
	for _, key := range []string{keyCredentials, keyUsername, keyPassword, keyToken, keyCert, keyPrivateKey} {
		if b.has(key) {
			names = append(names, b.at(key).name)
		}
	}
	if _, inURI, _ := b.uriIdentity(); inURI {
		names = append(names, "the user in "+b.at(keyURI).name)
	}
	return names
}

// rootCAs returns nil where the binding has none, which stands for the system's.
func (b *binding) rootCAs() (*x509.CertPool, error) {
	content, given, err := b.read(keyCA)
	if err != nil || !given {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("%s holds no PEM certificate: put the certificate authority of the servers there", b.at(keyCA).name)
	}
	return pool, nil
}

// neededCAs is rootCAs for a connection that was opened with them: it never falls back to the system's.
func (b *binding) neededCAs() (*x509.CertPool, error) {
	pool, err := b.rootCAs()
	if err == nil && pool == nil {
		err = fmt.Errorf("%s is no longer there: put it back, or open the store anew", b.at(keyCA).name)
	}
	return pool, err
}

func (b *binding) certificate() (tls.Certificate, error) {
	cert, hasCert, certErr := b.read(keyCert)
	key, hasKey, keyErr := b.read(keyPrivateKey)
	switch {
	case certErr != nil || keyErr != nil:
		return tls.Certificate{}, errors.Join(certErr, keyErr)
	case hasCert != hasKey:
		return tls.Certificate{}, fmt.Errorf("%s and %s belong together: give both or neither", b.at(keyCert).name, b.at(keyPrivateKey).name)
	case !hasCert:
		return tls.Certificate{}, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and %s are not a certificate and its key, both PEM: %w: correct what is mounted there",
			b.at(keyCert).name, b.at(keyPrivateKey).name, err)
	}
	return pair, nil
}
