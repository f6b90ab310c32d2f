package egress

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// local are the domains that only a private network has names in: those that are set
// aside for that (RFC 6761, 6762 with its appendix G, 8375, and .internal of ICANN), and
// localdomain, which many machines take for theirs.
var local = []string{"localhost", "local", "internal", "home.arpa", "localdomain", "intranet", "private", "corp", "home", "lan"}

// private reports whether a name is one of a private network: a bare one, which stands for
// one of the node's own domain, one in a domain that is set aside, or the name that an
// address which is not public has in the DNS.
func private(name string) bool {
	name = canonical(name)
	if a, ok := reversed(name); ok {
		return public(a) != nil
	}
	if !strings.Contains(name, ".") {
		return true
	}
	return slices.ContainsFunc(local, func(domain string) bool { return strings.HasSuffix(name, "."+domain) || name == domain })
}

// reversed is the address of which a name is that in the DNS (RFC 1035, 3.5; RFC 3596,
// 2.5), or the first of those of which it is a part.
func reversed(name string) (a netip.Addr, ok bool) {
	if n, ok := below(name, "in-addr.arpa"); ok {
		var b [4]byte
		for i, label := range n {
			v, err := strconv.ParseUint(label, 10, 8)
			if i >= len(b) || err != nil {
				break
			}
			b[i] = byte(v)
		}
		return netip.AddrFrom4(b), true
	}
	if n, ok := below(name, "ip6.arpa"); ok {
		var b [16]byte
		for i, label := range n {
			v, err := strconv.ParseUint(label, 16, 4)
			if i >= 2*len(b) || err != nil {
				break
			}
			b[i/2] |= byte(v) << (4 - 4*(i%2))
		}
		return netip.AddrFrom16(b), true
	}
	return a, false
}

// below are the labels that a name has before a domain, from the last to the first.
func below(name, domain string) ([]string, bool) {
	rest, ok := strings.CutSuffix(name, domain)
	if !ok || rest != "" && !strings.HasSuffix(rest, ".") {
		return nil, false
	}
	labels := strings.Split(strings.TrimSuffix(rest, "."), ".")
	slices.Reverse(labels)
	return labels, true
}
