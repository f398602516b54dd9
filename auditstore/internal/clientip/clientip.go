package clientip

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
)

// Find returns the client's address without port and zone, or "" where remote, the other end of the connection, has none. Hops are
// looked at only where remote is trusted: the first one that is not trusted is the client.
func Find(remote string, trusted []netip.Prefix, hops iter.Seq[netip.Addr]) string {
	addr, ok := parseRemote(remote)
	if !ok {
		return ""
	}
	if !contains(trusted, addr) {
		return addr.String()
	}
	for hop := range hops {
		// Somebody unknown may have written what stands left of a malformed value, and of the first address that is no proxy.
		if !hop.IsValid() {
			break
		}
		if addr = hop; !contains(trusted, addr) {
			break
		}
	}
	return addr.String()
}

func contains(trusted []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Check says what is wrong with the networks of trusted proxies, which a Config calls TrustedProxies.
func Check(trusted []netip.Prefix) error {
	for i, prefix := range trusted {
		switch {
		case !prefix.IsValid():
			return fmt.Errorf("TrustedProxies[%d] is the zero prefix: make it with netip.ParsePrefix", i)
		case prefix.Addr().Is4In6():
			return fmt.Errorf("TrustedProxies[%d] is %v: write the IPv4 network as such, for instance 10.0.0.0/8", i, prefix)
		case prefix.Bits() == 0:
			return fmt.Errorf("TrustedProxies[%d] is %v: every client could choose its address; name the proxies' networks", i, prefix)
		}
	}
	return nil
}

func parseRemote(value string) (netip.Addr, bool) {
	addr, ok := parseAddr(value)
	return addr.WithZone("").Unmap(), ok
}

func parseAddr(value string) (netip.Addr, bool) {
	if pair, err := netip.ParseAddrPort(value); err == nil {
		return pair.Addr(), true
	}
	addr, err := netip.ParseAddr(value)
	return addr, err == nil
}
