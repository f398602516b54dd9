package jsclient

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

const redacted = "xxxxx"

// splitURLs returns the URLs of a comma separated list, without the empty ones.
func splitURLs(list string) []string {
	var urls []string
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			urls = append(urls, part)
		}
	}
	return urls
}

// splitCredential says whether a list was split within a credential: a part that has one and no scheme, after a part without
// one, is rather the rest of a password with a comma in it than a server of its own.
func splitCredential(urls []string) bool {
	for i, part := range urls {
		if i > 0 && strings.Contains(part, "@") && !strings.Contains(part, "://") && !strings.Contains(urls[i-1], "@") {
			return true
		}
	}
	return false
}

// redactURL removes everything that could be a credential. It cuts at the last @ rather than parsing, because a password
// with a reserved character in it makes the URL unreadable to a parser, or readable as something else.
func redactURL(raw string) string {
	at := strings.LastIndex(raw, "@")
	if at < 0 {
		return raw
	}
	scheme, _, found := strings.Cut(raw[:at], "://")
	if !found {
		return redacted + raw[at:]
	}
	return scheme + "://" + redacted + raw[at:]
}

func redactURLs(list string) string {
	urls := splitURLs(list)
	if splitCredential(urls) {
		return redacted
	}
	for i := range urls {
		urls[i] = redactURL(urls[i])
	}
	return strings.Join(urls, ",")
}

// checkURL says what is wrong with one server URL. It never repeats what the parser says, which quotes parts of the
// URL that may belong to a password.
func checkURL(raw string) (hasUser bool, err error) {
	if !strings.Contains(raw, "://") {
		raw = "nats://" + raw
	}
	shown := redactURL(raw)
	u, parseErr := url.Parse(raw)
	if parseErr != nil {
		return false, fmt.Errorf("%q is not a valid URL: write it as nats://host:4222 or tls://host:4222, with special characters in user and password percent-encoded", shown)
	}
	if !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
		return false, fmt.Errorf("%q has the scheme %q: use nats:// or tls://", shown, u.Scheme)
	}
	if u.Hostname() == "" {
		return false, fmt.Errorf("%q has no host: write it as nats://host:4222", shown)
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return false, fmt.Errorf("%q has more than scheme, host and port: write it as nats://host:4222", shown)
	}
	return u.User != nil, nil
}

// stableText renders a connection error the same way at each try: without the local port, which differs every time and
// would turn each retry into a new condition message.
func stableText(err error) string {
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok {
		if dnsErr.IsNotFound {
			return fmt.Sprintf("looking up %s: no such host", dnsErr.Name)
		}
		return fmt.Sprintf("looking up %s failed", dnsErr.Name)
	}
	text := err.Error()
	if opErr, ok := errors.AsType[*net.OpError](err); ok && opErr.Source != nil {
		stable := *opErr
		stable.Source = nil
		text = strings.Replace(text, opErr.Error(), stable.Error(), 1)
	}
	return text
}
