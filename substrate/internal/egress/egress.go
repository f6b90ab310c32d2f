// Package egress decides what guests may reach: of the public internet what their
// project allows, and nothing of the node's own network.
package egress

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/taubyte/taubyte"
)

// A Policy is what may be reached. The zero Policy is the public internet.
type Policy struct {
	// Allow are networks that may be reached although they are not public.
	Allow []netip.Prefix
	// Resolver resolves names; nil: as the machine does.
	Resolver *net.Resolver
	// Own are the addresses by which others reach this machine, where its interfaces do
	// not have them; nil: there are none such.
	Own func() []netip.Addr
}

// denied are the networks that the functions of net/netip do not name. An address
// within a tunnel's prefix leads to another one, which could be any.
var denied = prefixes(
	"0.0.0.0/8",        // this network
	"100.64.0.0/10",    // carrier-grade NAT
	"168.63.129.16/32", // the host of an Azure machine
	"192.0.0.0/24",     // protocol assignments
	"198.18.0.0/15",    // benchmarks
	"240.0.0.0/4",      // reserved, and broadcast
	"::/96",            // IPv4-compatible
	"64:ff9b::/96",     // NAT64
	"64:ff9b:1::/48",   // NAT64, local
	"100::/64",         // discard
	"2001::/32",        // Teredo
	"2002::/16",        // 6to4
	"fec0::/10",        // site-local
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

// Check returns taubyte.ErrForbidden for an address that may not be reached.
func (p Policy) Check(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	for _, a := range p.Allow {
		if a.Contains(addr) {
			return nil
		}
	}
	if err := public(addr); err != nil {
		return err
	}
	if p.own(addr) {
		return fmt.Errorf("address %s: %w to functions: it is this machine's own", addr, taubyte.ErrForbidden)
	}
	return nil
}

// public returns taubyte.ErrForbidden for an address that is not of the public internet.
func public(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	bad := !addr.IsGlobalUnicast() || addr.IsPrivate()
	for _, d := range denied {
		bad = bad || d.Contains(addr)
	}
	if bad {
		return fmt.Errorf("address %s: %w to functions", addr, taubyte.ErrForbidden)
	}
	return nil
}

// own reports whether an address leads to this machine, whose services trust what comes
// from it more than what comes from elsewhere. Interfaces come and go: they are
// looked at each time, which is little beside a connection.
func (p Policy) own(addr netip.Addr) bool {
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if have, ok := netip.AddrFromSlice(n.IP); ok && have.Unmap() == addr {
				return true
			}
		}
	}
	return p.Own != nil && slices.ContainsFunc(p.Own(), func(a netip.Addr) bool { return a.Unmap().WithZone("") == addr })
}

// A Network is what the functions of one project reach others by. Its connections are
// its own: no other project's rules have allowed them.
type Network struct {
	policy Policy
	rules  *Rules
	client *http.Client
}

// Timeout is the longest that one request of a guest takes.
const Timeout = 30 * time.Second

// Network is the policy for a project with rules. Close ends it.
func (p Policy) Network(rules *Rules) *Network {
	n := &Network{policy: p, rules: rules}
	n.client = &http.Client{
		Timeout: Timeout,
		Transport: &http.Transport{
			DialContext:            n.DialContext,
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  Timeout,
			MaxResponseHeaderBytes: 256 << 10,
			MaxIdleConns:           100,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        30 * time.Second,
		},
	}
	return n
}

// HTTP is the network's HTTP client. It takes no proxy, and looks at each redirect anew.
func (n *Network) HTTP() *http.Client { return n.client }

// Close ends connections that are not in use.
func (n *Network) Close() { n.client.CloseIdleConnections() }

// DialContext connects to what may be reached. A name is resolved before its addresses
// are checked, and the address that was checked is the one that is dialled. A name that
// the rules do not have may lead to an address that they have; where they have
// no addresses it is not even looked up.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	_, err = netip.ParseAddr(host)
	named := err != nil && n.rules.Name(host)
	if err != nil && !named && len(n.rules.networks) == 0 {
		return nil, fmt.Errorf("host %s: %w by the project", host, taubyte.ErrForbidden)
	}
	d := net.Dialer{
		Timeout:  10 * time.Second,
		Resolver: n.policy.Resolver,
		Control: func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if !named && !n.rules.Addr(to.Addr()) {
				return fmt.Errorf("address %s: %w by the project", to.Addr(), taubyte.ErrForbidden)
			}
			return n.policy.Check(to.Addr())
		},
	}
	return d.DialContext(ctx, network, address)
}

// Resolves reports whether a guest may ask a resolver about a name or an address: if it
// may be reached, since a question tells the one who answers it something as well, and if it
// is not one of a private network, which what answers it would tell the guest of.
func (n *Network) Resolves(nameOrAddress string) bool {
	if a, err := netip.ParseAddr(nameOrAddress); err == nil {
		return n.rules.Addr(a) && n.Tells(nameOrAddress)
	}
	return n.rules.Name(nameOrAddress) && n.Tells(nameOrAddress)
}

// Tells reports whether a guest may hear of a name or an address, whoever is asked: of
// private networks it may not.
func (n *Network) Tells(nameOrAddress string) bool {
	if a, err := netip.ParseAddr(nameOrAddress); err == nil {
		return n.policy.Check(a) == nil
	}
	return !private(nameOrAddress)
}
