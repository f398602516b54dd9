package audithttp_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/osapi-io/auditstream-operator/auditstore/audithttp"
)

func prefixes(values ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, value := range values {
		all = append(all, netip.MustParsePrefix(value))
	}
	return all
}

const proxy = "10.0.0.1:4000"

func TestClientAddress(t *testing.T) {
	store := newStore(t)
	trusted := prefixes("10.0.0.0/8", "fd00::/8")
	const xff, forwarded = audithttp.XForwardedFor, audithttp.Forwarded
	tests := []struct {
		name, remote string
		trusted      []netip.Prefix
		header       audithttp.ProxyHeader
		lines        []string
		want         string
	}{
		{"the connection's", "192.0.2.1:1234", nil, xff, nil, "192.0.2.1"},
		{"nobody is trusted by default", proxy, nil, xff, []string{"192.0.2.1"}, "10.0.0.1"},
		{"a stranger is not believed", "192.0.2.1:1", trusted, xff, []string{"198.51.100.1"}, "192.0.2.1"},
		{"a proxy is", proxy, trusted, xff, []string{"198.51.100.1"}, "198.51.100.1"},
		{"what the client made up is not", proxy, trusted, xff, []string{"203.0.113.7, 198.51.100.1"}, "198.51.100.1"},
		{"past trusted hops", proxy, trusted, xff, []string{"203.0.113.7, 198.51.100.1, 10.9.9.9,fd00::1"}, "198.51.100.1"},
		{"over lines", proxy, trusted, xff, []string{"203.0.113.7, 198.51.100.1", "10.9.9.9"}, "198.51.100.1"},
		{"all are trusted", proxy, trusted, xff, []string{"10.3.3.3, 10.2.2.2"}, "10.3.3.3"},
		{"no header", proxy, trusted, xff, nil, "10.0.0.1"},
		{"not an address", proxy, trusted, xff, []string{"198.51.100.1, nonsense"}, "10.0.0.1"},
		{"not an address behind a hop", proxy, trusted, xff, []string{"198.51.100.1, nonsense, 10.2.2.2"}, "10.2.2.2"},
		{"an empty value", proxy, trusted, xff, []string{"198.51.100.1, "}, "10.0.0.1"},
		{"an empty line", proxy, trusted, xff, []string{"198.51.100.1", ""}, "10.0.0.1"},
		{"a zone", proxy, trusted, xff, []string{"198.51.100.1, fe80::1%evil"}, "10.0.0.1"},
		{"brackets without IPv6", proxy, trusted, xff, []string{"[198.51.100.1]"}, "10.0.0.1"},
		{"a port", proxy, trusted, xff, []string{"198.51.100.1:77"}, "198.51.100.1"},
		{"IPv6", "[fd00::2]:1", trusted, xff, []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 in brackets", proxy, trusted, xff, []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"IPv6 with a port", proxy, trusted, xff, []string{"[2001:db8::1]:77"}, "2001:db8::1"},
		{"IPv4 as IPv6", "[::ffff:10.0.0.1]:1", trusted, xff, []string{"198.51.100.1, ::ffff:10.1.1.1"}, "198.51.100.1"},
		{"the connection's zone", "[fe80::1%eth0]:1", nil, xff, nil, "fe80::1"},
		{"without a port", "192.0.2.1", nil, xff, nil, "192.0.2.1"},
		{"a Unix socket", "@", trusted, xff, []string{"198.51.100.1"}, ""},

		{"Forwarded", proxy, trusted, forwarded, []string{`for=203.0.113.7, for=198.51.100.1;proto=https;by=10.0.0.1`}, "198.51.100.1"},
		{"Forwarded past trusted hops", proxy, trusted, forwarded, []string{`for=198.51.100.1, For="[fd00::1]:80"`, `for=10.2.2.2`}, "198.51.100.1"},
		{"Forwarded with a comma in quotes", proxy, trusted, forwarded, []string{`for=198.51.100.1, host="a,b";for=10.2.2.2`}, "198.51.100.1"},
		{"Forwarded with an open quote", proxy, trusted, forwarded, []string{`for="203.0.113.7, for=198.51.100.1`}, "198.51.100.1"},
		{"Forwarded quoted half", proxy, trusted, forwarded, []string{`for="198.51.100.1`}, "10.0.0.1"},
		{"Forwarded twice", proxy, trusted, forwarded, []string{`for=198.51.100.1;for=203.0.113.7`}, "10.0.0.1"},
		{"Forwarded with an escape", proxy, trusted, forwarded, []string{`for="198.51.100.\1"`}, "10.0.0.1"},
		{"Forwarded with escaped quotes from the client", proxy, trusted, forwarded,
			[]string{`for=198.51.100.1;host="x\", for=203.0.113.7;y=\""`}, "10.0.0.1"},
		{"Forwarded unknown", proxy, trusted, forwarded, []string{`for=198.51.100.1, for=unknown`}, "10.0.0.1"},
		{"Forwarded without for", proxy, trusted, forwarded, []string{`for=198.51.100.1, proto=http`}, "10.0.0.1"},
	}
	for _, test := range tests {
		cfg := audithttp.Config{TrustedProxies: test.trusted, ProxyHeader: test.header}
		r := httptest.NewRequest(http.MethodGet, "/x", http.NoBody)
		r.RemoteAddr = test.remote
		name, other := "X-Forwarded-For", "Forwarded"
		if test.header == forwarded {
			name, other = other, name
		}
		r.Header[name] = test.lines
		r.Header.Set(other, "for=203.0.113.99")
		audited(t, store, cfg, func(_ http.ResponseWriter, r *http.Request) { r.Header.Del(name) }).ServeHTTP(httptest.NewRecorder(), r)
	}
	for i, entry := range await(t, store, len(tests)) {
		if test := tests[len(tests)-1-i]; entry.SourceIP != test.want {
			t.Errorf("%s: %q, want %q", test.name, entry.SourceIP, test.want)
		}
	}
}

func FuzzClientAddress(f *testing.F) {
	for _, seed := range []string{"198.51.100.1, 10.0.0.2", `for="[::1]:80";by=_x, for=10.0.0.2`, `for="`, ",,", "[", `"`} {
		f.Add(seed)
	}
	sink := make(chan string, 1)
	f.Fuzz(func(t *testing.T, value string) {
		for _, header := range []audithttp.ProxyHeader{audithttp.XForwardedFor, audithttp.Forwarded} {
			cfg := audithttp.Config{TrustedProxies: prefixes("10.0.0.0/8"), ProxyHeader: header}
			// The proxy's own word stands right of anything that a client can send.
			r := httptest.NewRequest(http.MethodGet, "/x", http.NoBody)
			r.RemoteAddr = proxy
			r.Header["X-Forwarded-For"] = []string{value + ", 198.51.100.1"}
			r.Header["Forwarded"] = []string{value + ", for=198.51.100.1"}
			audited(t, sourceSink(sink), cfg, func(http.ResponseWriter, *http.Request) {}).ServeHTTP(httptest.NewRecorder(), r)
			if got := <-sink; got != "198.51.100.1" {
				t.Errorf("%q: %q", value, got)
			}
		}
	})
}

func TestNewRefuses(t *testing.T) {
	store := newStore(t)
	for name, test := range map[string]struct {
		change func(*audithttp.Config)
		want   string
	}{
		"no user":             {func(c *audithttp.Config) { c.User = nil }, "User is nil"},
		"failure mode":        {func(c *audithttp.Config) { c.OnFailure = 7 }, "OnFailure is 7"},
		"rejections":          {func(c *audithttp.Config) { c.Rejections = 7 }, "Rejections is 7"},
		"proxy header":        {func(c *audithttp.Config) { c.ProxyHeader = 7 }, "ProxyHeader is 7"},
		"header, no proxies":  {func(c *audithttp.Config) { c.ProxyHeader = audithttp.Forwarded }, "name the TrustedProxies"},
		"timeout":             {func(c *audithttp.Config) { c.WriteTimeout = -time.Second }, "WriteTimeout is -1s"},
		"buffer":              {func(c *audithttp.Config) { c.BufferLimit = -1 }, "BufferLimit is -1"},
		"buffer, fail open":   {func(c *audithttp.Config) { c.BufferLimit = 1 }, "only FailClosed"},
		"zero prefix":         {func(c *audithttp.Config) { c.TrustedProxies = []netip.Prefix{{}} }, "TrustedProxies[0] is the zero prefix"},
		"everybody":           {func(c *audithttp.Config) { c.TrustedProxies = prefixes("::1/128", "0.0.0.0/0") }, "TrustedProxies[1] is 0.0.0.0/0"},
		"IPv4 as IPv6":        {func(c *audithttp.Config) { c.TrustedProxies = prefixes("::ffff:10.0.0.0/104") }, "write the IPv4 network"},
		"exclude, empty":      {func(c *audithttp.Config) { c.Exclude = []string{""} }, `Exclude[0] is ""`},
		"exclude, relative":   {func(c *audithttp.Config) { c.Exclude = []string{"/a", "b"} }, `Exclude[1] is "b"`},
		"exclude, slash":      {func(c *audithttp.Config) { c.Exclude = []string{"/a/"} }, `Exclude[0] is "/a/"`},
		"exclude, parameter":  {func(c *audithttp.Config) { c.Exclude = []string{"/a;b"} }, `Exclude[0] is "/a;b"`},
		"exclude, everything": {func(c *audithttp.Config) { c.Exclude = []string{"/"} }, "excludes everything"},
	} {
		cfg := audithttp.Config{User: nobody}
		test.change(&cfg)
		if _, err := audithttp.New(store, cfg); !errors.Is(err, audithttp.ErrInvalidConfig) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := audithttp.New(nil, audithttp.Config{User: nobody}); !errors.Is(err, audithttp.ErrInvalidConfig) {
		t.Errorf("no store: %v", err)
	}
}
