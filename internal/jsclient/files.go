package jsclient

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nkeys"
)

// A password, token, certificate or key larger than this is a wrong path.
const maxFileSize = 1 << 20

// namedFile is a file and the flag that names it.
type namedFile struct{ flag, path string }

func (c Config) files() []namedFile {
	all := []namedFile{
		{"--nats-creds", c.CredsFile},
		{"--nats-ca", c.CAFile},
		{"--nats-cert", c.CertFile},
		{"--nats-key", c.KeyFile},
		{"--nats-password-file", c.PasswordFile},
		{"--nats-token-file", c.TokenFile},
	}
	var used []namedFile
	for _, f := range all {
		if f.path != "" {
			used = append(used, f)
		}
	}
	return used
}

func (f namedFile) read() ([]byte, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.flag, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileSize {
		return nil, fmt.Errorf("%s: %s is not a regular file of at most 1 MiB", f.flag, f.path)
	}
	content, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.flag, err)
	}
	if len(strings.TrimSpace(string(content))) == 0 {
		return nil, fmt.Errorf("%s: %s is empty", f.flag, f.path)
	}
	return content, nil
}

// readSecret reads a password or token. Editors and `kubectl create secret --from-file` leave a newline at its end.
func readSecret(flag, path string) (string, error) {
	content, err := namedFile{flag, path}.read()
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(content), "\r\n"), nil
}

func readJWT(path string) (string, error) {
	content, err := namedFile{"--nats-creds", path}.read()
	if err != nil {
		return "", err
	}
	jwt, err := nkeys.ParseDecoratedJWT(content)
	if err != nil || strings.Count(jwt, ".") != 2 {
		return "", fmt.Errorf("--nats-creds: %s holds no user JWT: use a file as `nsc generate creds` writes it", path)
	}
	return jwt, nil
}

func signNonce(path string, nonce []byte) ([]byte, error) {
	content, err := namedFile{"--nats-creds", path}.read()
	if err != nil {
		return nil, err
	}
	pair, err := nkeys.ParseDecoratedNKey(content)
	if err != nil {
		return nil, fmt.Errorf("--nats-creds: %s holds no user seed: use a file as `nsc generate creds` writes it", path)
	}
	defer pair.Wipe()
	return pair.Sign(nonce)
}

func readCAs(path string) (*x509.CertPool, error) {
	content, err := namedFile{"--nats-ca", path}.read()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("--nats-ca: %s holds no PEM certificate", path)
	}
	return pool, nil
}

func readKeyPair(certPath, keyPath string) (tls.Certificate, error) {
	cert, err := namedFile{"--nats-cert", certPath}.read()
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := namedFile{"--nats-key", keyPath}.read()
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("--nats-cert and --nats-key: %s and %s are not a certificate and its key: %w", certPath, keyPath, err)
	}
	return pair, nil
}

// checkFiles reports the files that a connection could not be made with.
func checkFiles(c Config) error {
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if c.CredsFile != "" {
		_, err := readJWT(c.CredsFile)
		if err == nil {
			_, err = signNonce(c.CredsFile, nil)
		}
		note(err)
	}
	if c.CAFile != "" {
		_, err := readCAs(c.CAFile)
		note(err)
	}
	if c.CertFile != "" && c.KeyFile != "" {
		_, err := readKeyPair(c.CertFile, c.KeyFile)
		note(err)
	}
	if c.PasswordFile != "" {
		_, err := readSecret("--nats-password-file", c.PasswordFile)
		note(err)
	}
	if c.TokenFile != "" {
		_, err := readSecret("--nats-token-file", c.TokenFile)
		note(err)
	}
	return errors.Join(errs...)
}

// fingerprint identifies the content of all files of a configuration. It compares content rather than times or names:
// a mounted Secret is changed by swapping a symbolic link to a directory. It fails when a file cannot be read.
func fingerprint(c Config) ([sha256.Size]byte, error) {
	hash := sha256.New()
	for _, f := range c.files() {
		content, err := f.read()
		if err != nil {
			return [sha256.Size]byte{}, err
		}
		sum := sha256.Sum256(content)
		hash.Write(sum[:])
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}
