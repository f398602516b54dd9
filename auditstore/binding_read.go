package auditstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
)

// A key larger than this is a wrong path.
const maxKeySize = 1 << 20

// has says whether the key is there, readable or not.
func (b *binding) has(key string) bool {
	p := b.at(key)
	if p.path == "" {
		return p.value != ""
	}
	_, err := os.Lstat(p.path)
	return p.needed || !errors.Is(err, fs.ErrNotExist)
}

// read returns the content of the key. It never waits, as reading a named pipe would.
func (b *binding) read(key string) (content []byte, given bool, err error) {
	if !b.has(key) {
		return nil, false, nil
	}
	p := b.at(key)
	if p.path == "" {
		return []byte(p.value), true, nil
	}
	info, err := os.Stat(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, true, fmt.Errorf("%s does not exist: mount it, or remove the key", p.name)
	case err != nil:
		return nil, true, unreadable(p, err)
	case info.IsDir():
		return nil, true, fmt.Errorf("%s is a directory: it has to be a file", p.name)
	case !info.Mode().IsRegular() || info.Size() > maxKeySize:
		return nil, true, fmt.Errorf("%s is not a regular file of at most 1 MiB: correct what is mounted there", p.name)
	}
	if content, err = os.ReadFile(p.path); err != nil {
		return nil, true, unreadable(p, err)
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, true, fmt.Errorf("%s is empty: fill it, or remove the key", p.name)
	}
	return content, true, nil
}

// unreadable leaves out of the cause what was taken for a path. The place's name has it where it may be shown.
func unreadable(p keyPlace, err error) error {
	if of, is := errors.AsType[*fs.PathError](err); is {
		err = of.Err
	}
	return fmt.Errorf("%s cannot be read: %w: let the user that the workload runs as (uid %d) read it", p.name, err, os.Getuid())
}

// text returns a key of one line, without the space around it.
func (b *binding) text(key string) (value string, given bool, err error) {
	content, given, err := b.read(key)
	return strings.TrimSpace(string(content)), given, err
}

// secret returns a key that may begin or end with a space, without the newline that editors and
// kubectl create secret --from-file leave at the end.
func (b *binding) secret(key string) (value string, given bool, err error) {
	content, given, err := b.read(key)
	return strings.TrimRight(string(content), "\r\n"), given, err
}

// bindingTarget is where a binding leads to.
type bindingTarget struct {
	servers []serverURL
	stream  string
	subject string
	domain  string
}

func (b *binding) target() (bindingTarget, error) {
	var t bindingTarget
	var missing []string
	var errs []error
	for _, key := range []struct {
		name     string
		required bool
		take     func(value string) error
	}{
		{keyURI, true, func(value string) (err error) { t.servers, _, err = parseServers(value); return err }},
		{keyStream, true, func(value string) error { t.stream = value; return checkStreamName(value) }},
		{keySubject, true, func(value string) error { t.subject = value; return checkSubject(value) }},
		{keyDomain, false, func(value string) error { t.domain = value; return checkDomain(value) }},
	} {
		value, given, err := b.text(key.name)
		if err == nil && given {
			if err = key.take(value); err != nil {
				err = fmt.Errorf("%s %w", b.at(key.name).name, err)
			}
		}
		if err != nil {
			errs = append(errs, err)
		} else if key.required && !given {
			missing = append(missing, b.at(key.name).name)
		}
	}
	if len(missing) > 0 {
		errs = append(errs, fmt.Errorf("%s lacks %s: add what is missing", b.name, strings.Join(missing, " and ")))
	}
	return t, errors.Join(errs...)
}

func checkStreamName(value string) error {
	if !literalSubject(value) || strings.ContainsAny(value, "./\\") {
		return fmt.Errorf("is %q: give the name of a stream, without dots, wildcards, slashes and spaces", value)
	}
	return nil
}

func checkSubject(value string) error {
	if !literalSubject(value) {
		return fmt.Errorf("is %q: give literal tokens divided by dots, like \"audit\" or \"audit.api\", without wildcards", value)
	}
	return nil
}

func checkDomain(value string) error {
	if !literalSubject(value) || strings.Contains(value, ".") {
		return fmt.Errorf("is %q: give a JetStream domain, which is one subject token", value)
	}
	return nil
}

// serverURL is one NATS server, without a credential.
type serverURL struct {
	scheme, host string // host has a port
}

func (s serverURL) String() string { return s.scheme + "://" + s.host }

func (s serverURL) isTLS() bool       { return s.scheme == "tls" || s.scheme == "wss" }
func (s serverURL) isWebSocket() bool { return s.scheme == "ws" || s.scheme == "wss" }

// defaultPorts are nats.go's.
var defaultPorts = map[string]string{"nats": "4222", "tls": "4222", "ws": "80", "wss": "443"}

// parseServers takes the credentials out of the list, so that nobody who shows a server can show them. Its errors never repeat
// the list: a parser that stumbles over a password takes part of it for something else.
func parseServers(list string) (servers []serverURL, user *url.Userinfo, err error) {
	parts := slices.DeleteFunc(strings.Split(list, ","), func(part string) bool { return strings.TrimSpace(part) == "" })
	for i, part := range parts {
		s, u, err := parseServer(strings.TrimSpace(part))
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("is not right in URL %d of %d, which %w", i+1, len(parts), err)
		case i > 0 && !sameUser(u, user):
			return nil, nil, errors.New("has servers with different credentials, or with and without: give all the same; a comma in a password is written as %2C")
		case i > 0 && s.isWebSocket() != servers[0].isWebSocket():
			return nil, nil, errors.New("mixes WebSocket with other URLs: use one kind")
		}
		user = u
		if !slices.Contains(servers, s) {
			servers = append(servers, s)
		}
	}
	if len(servers) == 0 {
		return nil, nil, errors.New("holds no URL: write it as nats://host:4222, several divided by commas")
	}
	return servers, user, nil
}

func sameUser(a, b *url.Userinfo) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func parseServer(raw string) (serverURL, *url.Userinfo, error) {
	if !strings.Contains(raw, "://") {
		raw = "nats://" + raw
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return serverURL{}, nil, errors.New("is not valid: write it as nats://host:4222 or tls://host:4222, " +
			"with special characters in user and password percent-encoded")
	case defaultPorts[u.Scheme] == "":
		return serverURL{}, nil, errors.New("has a scheme that is not NATS's: use nats:// or tls:// (or ws:// or wss://)")
	case u.Hostname() == "":
		return serverURL{}, nil, errors.New("has no host: write it as nats://host:4222")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return serverURL{}, nil, errors.New("has more than scheme, host and port: write it as nats://host:4222")
	}
	port := u.Port()
	if port == "" {
		port = defaultPorts[u.Scheme]
	}
	return serverURL{scheme: u.Scheme, host: net.JoinHostPort(u.Hostname(), port)}, u.User, nil
}
