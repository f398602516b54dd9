package clientip_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/osapi-io/auditstream-operator/auditstore/internal/clientip"
)

// The packages that use this one test what a client can send; here are the rules alone.
func TestFind(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for name, test := range map[string]struct {
		remote string
		hops   string
		want   string
	}{
		"no address":       {"@", "192.0.2.1", ""},
		"a stranger":       {"192.0.2.9:1", "192.0.2.1", "192.0.2.9"},
		"a proxy":          {"10.0.0.1:1", "192.0.2.1", "192.0.2.1"},
		"the nearest":      {"10.0.0.1:1", "192.0.2.2 192.0.2.1", "192.0.2.2"},
		"behind a proxy":   {"10.0.0.1:1", "10.0.0.2 192.0.2.1", "192.0.2.1"},
		"behind a mistake": {"10.0.0.1:1", "10.0.0.2 ? 192.0.2.1", "10.0.0.2"},
		"only proxies":     {"10.0.0.1:1", "10.0.0.2 10.0.0.3", "10.0.0.3"},
	} {
		var hops []netip.Addr
		for hop := range strings.FieldsSeq(test.hops) {
			addr, _ := netip.ParseAddr(hop)
			hops = append(hops, addr)
		}
		if got := clientip.Find(test.remote, trusted, slices.Values(hops)); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestHopsAreReadFromTheRight(t *testing.T) {
	want := []netip.Addr{netip.MustParseAddr("2001:db8::1"), {}, netip.MustParseAddr("192.0.2.1")}
	if got := slices.Collect(clientip.XForwardedFor([]string{"192.0.2.1", "unknown, [2001:db8::1]:80"})); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := slices.Collect(clientip.Forwarded([]string{"for=192.0.2.1", `proto=http, for="[2001:db8::1]:80"`})); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := slices.Collect(clientip.Forwarded(nil)); len(got) > 0 {
		t.Errorf("%v of nothing", got)
	}
}

func TestCheck(t *testing.T) {
	good := netip.MustParsePrefix("10.0.0.0/8")
	for want, prefix := range map[string]netip.Prefix{
		"":                       good,
		"the zero prefix":        {},
		"write the IPv4 network": netip.MustParsePrefix("::ffff:10.0.0.0/104"),
		"every client could":     netip.MustParsePrefix("0.0.0.0/0"),
	} {
		err := clientip.Check([]netip.Prefix{good, prefix})
		switch {
		case want == "" && err == nil:
		case want == "" || err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "TrustedProxies[1]"):
			t.Errorf("%v: %v, want %q", prefix, err, want)
		}
	}
}
