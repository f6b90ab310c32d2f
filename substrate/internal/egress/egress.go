// Package egress decides which addresses guests may reach: the public internet,
// and nothing of the node's own network.
package egress

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/taubyte/taubyte"
)

// A Policy is what may be reached. The zero Policy is the public internet.
type Policy struct {
	// Allow are networks that may be reached although they are not public.
	Allow []netip.Prefix
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
	bad := !addr.IsGlobalUnicast() || addr.IsPrivate()
	for _, d := range denied {
		bad = bad || d.Contains(addr)
	}
	if bad {
		return fmt.Errorf("address %s: %w to functions", addr, taubyte.ErrForbidden)
	}
	return nil
}

// Dialer connects to what the policy allows. Names are resolved before they are
// checked, and the address that was checked is the one that is dialled.
func (p Policy) Dialer() *net.Dialer {
	return &net.Dialer{
		Timeout: 10 * time.Second,
		Control: func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return p.Check(to.Addr())
		},
	}
}

// Timeout is the longest that one request of a guest takes.
const Timeout = 30 * time.Second

// Client is an HTTP client of its own connections that reaches what the policy
// allows, on each redirect anew, and no proxy. CloseIdleConnections ends it.
func (p Policy) Client() *http.Client {
	d := p.Dialer()
	return &http.Client{
		Timeout: Timeout,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return d.DialContext(ctx, network, addr)
			},
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  Timeout,
			MaxResponseHeaderBytes: 256 << 10,
			MaxIdleConns:           100,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        30 * time.Second,
		},
	}
}
