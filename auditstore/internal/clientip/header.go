package clientip

import (
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// XForwardedFor yields the hops that the lines of the header X-Forwarded-For name, the nearest one first, the zero Addr for each
// malformed one.
func XForwardedFor(lines []string) iter.Seq[netip.Addr] { return hops(lines, lastElement, parseHop) }

// Forwarded is XForwardedFor for the header Forwarded of RFC 7239.
func Forwarded(lines []string) iter.Seq[netip.Addr] { return hops(lines, lastQuoted, parseForwarded) }

// hops reads from the right end, which the nearest proxy wrote.
func hops(
	lines []string, last func(line string) (rest, element string, more bool), parse func(element string) (netip.Addr, bool),
) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, line := range slices.Backward(lines) {
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
