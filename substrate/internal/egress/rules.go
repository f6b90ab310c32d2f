package egress

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/taubyte/taubyte"
)

// Rules are a project's own list of what its functions may reach, of what the policy
// allows. A nil *Rules is everything, and empty ones are nothing.
type Rules struct {
	names    map[string]bool
	suffixes []string // with a dot in front
	networks []netip.Prefix
}

// ParseRules reads a list of host names ("api.example.com"), of all names below one
// ("*.example.com") and of addresses or ranges of them ("192.0.2.0/24").
func ParseRules(allow []string) (*Rules, error) {
	r := &Rules{names: map[string]bool{}}
	for _, text := range allow {
		if p, err := netip.ParsePrefix(text); err == nil {
			r.networks = append(r.networks, p.Masked())
			continue
		}
		if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
			a = a.Unmap()
			r.networks = append(r.networks, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		name := canonical(text)
		below, wild := strings.CutPrefix(name, "*.")
		switch {
		case below == "" || strings.ContainsAny(below, "*/: "):
			return nil, fmt.Errorf("%w destination %q", taubyte.ErrInvalid, text)
		case wild:
			r.suffixes = append(r.suffixes, "."+below)
		default:
			r.names[name] = true
		}
	}
	return r, nil
}

func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Name reports whether a host may be reached whatever its address is.
func (r *Rules) Name(host string) bool {
	if r == nil {
		return true
	}
	host = canonical(host)
	if r.names[host] {
		return true
	}
	for _, s := range r.suffixes {
		if strings.HasSuffix(host, s) && len(host) > len(s) {
			return true
		}
	}
	return false
}

// Addr reports whether an address may be reached whatever name leads to it.
func (r *Rules) Addr(a netip.Addr) bool {
	if r == nil {
		return true
	}
	a = a.Unmap().WithZone("")
	for _, n := range r.networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
