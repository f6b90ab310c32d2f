package cloud

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

// withMembershipFile makes the node a member by a file that an authority's holder
// signed. Once it is connected it has the membership renewed by the nodes that run
// auth, and keeps the new one in the file.
func withMembershipFile(n taubyte.Network, path string) Option {
	m := &membershipFile{path: path}
	return func(o *options) {
		o.host = append(o.host, taubyte.WithMembership(n, m.source))
		o.membership = m
	}
}

type membershipFile struct {
	path string
	auth atomic.Pointer[auth.Client] // once the host is up
}

// source is a taubyte.MembershipSource.
func (m *membershipFile) source(ctx context.Context, _ peer.ID) ([]byte, error) {
	client := m.auth.Load()
	if client == nil {
		signed, err := os.ReadFile(m.path)
		if err != nil {
			return nil, fmt.Errorf("membership: %w", err)
		}
		return signed, nil
	}
	signed, err := client.RenewMembership(ctx)
	if err != nil {
		return nil, err
	}
	if err := replaceFile(m.path, signed); err != nil {
		return nil, fmt.Errorf("keeping the membership: %w", err)
	}
	return signed, nil
}

// publicIP is the address that users dial for a listener, "" where only this
// machine can.
func publicIP(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	ip := net.ParseIP(host)
	if ip == nil || ip.IsUnspecified() {
		return ""
	}
	return ip.String()
}
