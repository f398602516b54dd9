package jsclient

import (
	"errors"
	"fmt"
	"strings"
)

// Config is the identity of a connection. It is comparable: equal configurations share a connection.
type Config struct {
	// URL is one server URL, or several separated by commas.
	URL string
	// CredsFile holds a user's JWT and seed as one file.
	CredsFile string
	// CAFile holds the certificate authorities that the servers' certificates are checked against, as PEM.
	CAFile string
	// CertFile and KeyFile are the client certificate, for servers that ask for one.
	CertFile, KeyFile string
	// User and PasswordFile authenticate by name and password.
	User, PasswordFile string
	// TokenFile authenticates by token.
	TokenFile string
	// Domain is the JetStream domain. Empty is the domain of the connected server.
	Domain string
}

// String returns the servers' URLs without credentials.
func (c Config) String() string { return redactURLs(c.URL) }

// Validate reports everything that is wrong with the configuration, by flag: contradictions, unreadable URLs, and files
// that do not exist or do not hold what they should.
func (c Config) Validate() error {
	return errors.Join(c.check(), checkFiles(c))
}

// check is the part of Validate that holds for as long as the process runs, whatever becomes of the files.
func (c Config) check() error {
	hasUser, urlErr := c.checkURLs()
	return errors.Join(urlErr, c.checkCombination(hasUser), c.checkDomain())
}

func (c Config) checkURLs() (hasUser bool, err error) {
	urls := splitURLs(c.URL)
	if len(urls) == 0 {
		return false, errors.New("--nats-url is empty: set it to the server's URL, such as nats://nats:4222")
	}
	if splitCredential(urls) {
		return true, fmt.Errorf("--nats-url: %q has a comma within user or password, which separates servers: percent-encode it as %%2C, "+
			"and begin each server with nats:// or tls://", c)
	}
	var errs []error
	websockets := 0
	for _, raw := range urls {
		user, err := checkURL(raw)
		if err != nil {
			errs = append(errs, fmt.Errorf("--nats-url: %w", err))
		}
		hasUser = hasUser || user
		if strings.HasPrefix(raw, "ws://") || strings.HasPrefix(raw, "wss://") {
			websockets++
		}
	}
	if websockets > 0 && websockets < len(urls) {
		errs = append(errs, fmt.Errorf("--nats-url: %q mixes WebSocket with other URLs: use one kind", c))
	}
	return hasUser, errors.Join(errs...)
}

func (c Config) checkCombination(urlHasUser bool) error {
	var errs []error
	if (c.User == "") != (c.PasswordFile == "") {
		errs = append(errs, fmt.Errorf("--nats-user (%q) and --nats-password-file (%q) belong together: set both or neither", c.User, c.PasswordFile))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, fmt.Errorf("--nats-cert (%q) and --nats-key (%q) belong together: set both or neither", c.CertFile, c.KeyFile))
	}
	var ways []string
	for _, way := range []struct {
		flag string
		used bool
	}{
		{"--nats-creds", c.CredsFile != ""},
		{"--nats-user", c.User != "" || c.PasswordFile != ""},
		{"--nats-token-file", c.TokenFile != ""},
		{"credentials in --nats-url", urlHasUser},
	} {
		if way.used {
			ways = append(ways, way.flag)
		}
	}
	if len(ways) > 1 {
		errs = append(errs, fmt.Errorf("%s contradict each other: use one of them", strings.Join(ways, " and ")))
	}
	return errors.Join(errs...)
}

func (c Config) checkDomain() error {
	if strings.ContainsAny(c.Domain, ".*> \t\r\n") {
		return fmt.Errorf("--nats-domain: %q is not a JetStream domain: it must be one subject token, without dots, spaces and wildcards", c.Domain)
	}
	return nil
}

// apiPrefix is what the subjects of the JetStream API begin with.
func (c Config) apiPrefix() string {
	if c.Domain == "" {
		return "$JS.API."
	}
	return "$JS." + c.Domain + ".API."
}

// credentialFlags names the flags that the operator authenticates with, for messages.
func (c Config) credentialFlags() string {
	switch {
	case c.CredsFile != "":
		return "--nats-creds"
	case c.User != "":
		return "--nats-user and --nats-password-file"
	case c.TokenFile != "":
		return "--nats-token-file"
	case c.CertFile != "":
		return "--nats-cert and --nats-key"
	default:
		return "--nats-url, no other credentials are set"
	}
}
