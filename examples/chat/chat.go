// Package chat is a project, in the folders beside this file, and a cloud of three
// nodes to run it on:
//
//	control: all services but substrate    takes the push, and lets users in
//	one, two: substrate                    each with some of the sockets
//
// On one machine, as one node:
//
//	taubyte dev examples/chat
//
// The page opens a WebSocket to the channel "room", at the address that the function
// socket says. Whatever one page sends all others get, on whichever node their
// sockets are. The function count listens on the channel as well: it runs once for
// each message, on one of the two nodes, and what it publishes all pages get.
package chat

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
)

// Cloud is the three nodes.
type Cloud struct {
	Control, One, Two *cloud.Node
}

// Open starts the three nodes on folders below dir. One and Two know the address of
// Control, and learn of each other from it.
func Open(ctx context.Context, dir string, opts ...cloud.Option) (*Cloud, error) {
	authority, err := taubyte.NewAuthority()
	if err != nil {
		return nil, err
	}
	control := slices.DeleteFunc(taubyte.Roles(), func(r taubyte.Role) bool { return r == taubyte.RoleSubstrate })
	open := func(name string, services []taubyte.Role, known ...peer.AddrInfo) (*cloud.Node, error) {
		return cloud.Open(ctx, filepath.Join(dir, name), append([]cloud.Option{
			cloud.WithDevelopment(), cloud.WithName(name), cloud.WithAuthority(authority),
			cloud.WithServices(services...), cloud.WithHost(taubyte.WithPeers(known...)),
		}, opts...)...)
	}
	c := &Cloud{}
	if c.Control, err = open("control", control); err != nil {
		return nil, err
	}
	known := peer.AddrInfo{ID: c.Control.Host.ID(), Addrs: c.Control.Host.Addrs()}
	for name, node := range map[string]**cloud.Node{"one": &c.One, "two": &c.Two} {
		if *node, err = open(name, []taubyte.Role{taubyte.RoleSubstrate}, known); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// Close ends the nodes that run.
func (c *Cloud) Close() error {
	var errs []error
	for _, n := range []*cloud.Node{c.One, c.Two, c.Control} {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(errs...)
}
