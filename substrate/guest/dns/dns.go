// Package dns looks names up.
package dns

import (
	"strconv"
	"strings"

	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Resolver looks names up by the host's servers, or by one of its own.
type Resolver uint32

// New makes a resolver. Make it once and keep it: each takes a handle of the
// host.
func New() (Resolver, error) {
	var id uint32
	err := sdk.DnsNewResolver(&id).Err()
	return Resolver(id), err
}

// Use has the resolver ask the server at address ("9.9.9.9:53") over network
// ("udp" or "tcp").
func (r Resolver) Use(address, network string) error {
	return sdk.DnsRerouteResolver(uint32(r), address, network).Err()
}

// Reset has the resolver ask the host's servers again.
func (r Resolver) Reset() error { return sdk.DnsResetResolver(uint32(r)).Err() }

// TXT gives the text records of a name.
func (r Resolver) TXT(name string) ([]string, error) {
	return sdk.Strings(
		func(n *uint32) errno.Errno { return sdk.DnsLookupTxTSize(uint32(r), name, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.DnsLookupTxT(uint32(r), name, b) })
}

// Names gives the names of an IP address.
func (r Resolver) Names(address string) ([]string, error) {
	return sdk.Strings(
		func(n *uint32) errno.Errno { return sdk.DnsLookupAddressSize(uint32(r), address, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.DnsLookupAddress(uint32(r), address, b) })
}

// CNAME gives the name that name stands for in the end.
func (r Resolver) CNAME(name string) (string, error) {
	return sdk.Text(
		func(n *uint32) errno.Errno { return sdk.DnsLookupCNAMESize(uint32(r), name, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.DnsLookupCNAME(uint32(r), name, b) })
}

// MX is a mail server.
type MX struct {
	Host       string
	Preference uint16
}

// MX gives the mail servers of a name.
func (r Resolver) MX(name string) ([]MX, error) {
	list, err := sdk.Strings(
		func(n *uint32) errno.Errno { return sdk.DnsLookupMXSize(uint32(r), name, n) },
		func(b *byte, _ uint32) errno.Errno { return sdk.DnsLookupMX(uint32(r), name, b) })
	var servers []MX
	for _, text := range list {
		host, preference, _ := strings.Cut(strings.TrimSuffix(text, "/"), "/")
		n, bad := strconv.ParseUint(preference, 10, 16)
		if bad != nil {
			return servers, bad
		}
		servers = append(servers, MX{host, uint16(n)})
	}
	return servers, err
}
