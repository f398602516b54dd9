package audithttp

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// clientAddress is the address of the connection, or, where that is a trusted proxy's, what the trusted proxies say.
func (a *auditor) clientAddress(r *http.Request) string {
	addr, ok := parseRemote(r.RemoteAddr)
	if !ok {
		return ""
	}
	if !a.trusted(addr) {
		return addr.String()
	}
	for hop := range a.hops(r.Header) {
		// Somebody unknown may have written what stands left of a malformed value, and of the first address that is no proxy.
		if !hop.IsValid() {
			break
		}
		if addr = hop; !a.trusted(addr) {
			break
		}
	}
	return addr.String()
}

func (a *auditor) trusted(addr netip.Addr) bool {
	return slices.ContainsFunc(a.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// hops yields the addresses of the header from the right end to the left one, the zero Addr for each malformed value.
func (a *auditor) hops(header http.Header) func(yield func(netip.Addr) bool) {
	name, last := "X-Forwarded-For", lastElement
	parse := parseHop
	if a.cfg.ProxyHeader == Forwarded {
		name, last, parse = "Forwarded", lastQuoted, parseForwarded
	}
	return func(yield func(netip.Addr) bool) {
		for _, line := range slices.Backward(header.Values(name)) {
			for more := true; more; {
				var element string
				line, element, more = last(line)
				addr, ok := parse(strings.Trim(element, " \t"))
				if !ok {
					addr = netip.Addr{}
				}
				if !yield(addr) {
					return
				}
			}
		}
	}
}

// lastElement splits off what stands behind the last comma.
func lastElement(line string) (rest, element string, more bool) {
	i := strings.LastIndexByte(line, ',')
	if i < 0 {
		return "", line, false
	}
	return line[:i], line[i+1:], true
}

// lastQuoted is lastElement where commas within double quotes do not count. It reads from the right so that a quote which a client
// leaves open cannot swallow what the proxies have added.
func lastQuoted(line string) (rest, element string, more bool) {
	quoted := false
	for i := len(line) - 1; i >= 0; i-- {
		switch {
		case line[i] == '"':
			quoted = !quoted
		case line[i] == ',' && !quoted:
			return line[:i], line[i+1:], true
		}
	}
	return "", line, false
}

// parseForwarded returns the address of the one parameter "for" of an element. It takes no escapes: an address needs none.
func parseForwarded(element string) (addr netip.Addr, ok bool) {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, found := strings.Cut(strings.Trim(pair, " \t"), "=")
		if !found || strings.Contains(value, `\`) {
			return netip.Addr{}, false
		}
		if !strings.EqualFold(name, "for") {
			continue
		}
		if unquoted, isQuoted := strings.CutPrefix(value, `"`); isQuoted {
			if value, found = strings.CutSuffix(unquoted, `"`); !found {
				return netip.Addr{}, false
			}
		}
		if addr.IsValid() {
			return netip.Addr{}, false
		}
		if addr, ok = parseHop(value); !ok {
			return netip.Addr{}, false
		}
	}
	return addr, ok
}

// parseHop reads an address as proxies write it: alone, in brackets, and with a port.
func parseHop(value string) (netip.Addr, bool) {
	if inner, isBracketed := strings.CutPrefix(value, "["); isBracketed && strings.HasSuffix(inner, "]") {
		value = strings.TrimSuffix(inner, "]")
		// Brackets are for IPv6.
		if !strings.Contains(value, ":") {
			return netip.Addr{}, false
		}
	}
	addr, ok := parseAddr(value)
	// A zone means something on the host that wrote it only, and could hold any text.
	return addr.Unmap(), ok && addr.Zone() == ""
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
