// Package topology composes a cloud of three nodes, each with a host and a store of
// its own:
//
//	control: auth, tns, patrick, seer    takes pushes, knows what to run
//	build:   monkey, hoarder             builds, and keeps what was built
//	edge:    substrate, gateway          serves users
//
// The same three as processes of the reference server:
//
//	taubyte init --development cluster \
//	    --node control=auth,tns,patrick,seer --node build=monkey,hoarder --node edge=substrate,gateway
//	taubyte start --config cluster/control/taubyte.yaml
//	taubyte start --config cluster/build/taubyte.yaml
//	taubyte start --config cluster/edge/taubyte.yaml
package topology

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
)

// Cloud is the three nodes.
type Cloud struct {
	Control, Build, Edge *cloud.Node
}

// services says what each node runs.
var (
	control = []taubyte.Role{taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RolePatrick, taubyte.RoleSeer}
	build   = []taubyte.Role{taubyte.RoleMonkey, taubyte.RoleHoarder}
	edge    = []taubyte.Role{taubyte.RoleSubstrate, taubyte.RoleGateway}
)

// Open starts the three nodes on folders below dir. They are one network, whose
// root key control has; build and edge know control's address and learn of each
// other from it.
func Open(ctx context.Context, dir string, authority *taubyte.Authority, opts ...cloud.Option) (c *Cloud, err error) {
	c = &Cloud{}
	if c.Control, err = open(ctx, filepath.Join(dir, "control"), authority, control, nil, opts); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	known := peer.AddrInfo{ID: c.Control.Host.ID(), Addrs: c.Control.Host.Addrs()}
	if c.Build, err = open(ctx, filepath.Join(dir, "build"), authority, build, &known, opts); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if c.Edge, err = open(ctx, filepath.Join(dir, "edge"), authority, edge, &known, opts); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func open(ctx context.Context, dir string, a *taubyte.Authority, services []taubyte.Role, known *peer.AddrInfo, opts []cloud.Option) (*cloud.Node, error) {
	own := []cloud.Option{
		cloud.WithDevelopment(),
		cloud.WithName(filepath.Base(dir)),
		cloud.WithServices(services...),
		cloud.WithAuthority(a),
	}
	if known != nil {
		own = append(own, cloud.WithHost(taubyte.WithPeers(*known)))
	}
	return cloud.Open(ctx, dir, append(own, opts...)...)
}

// Close ends the nodes that run.
func (c *Cloud) Close() error {
	var errs []error
	for _, n := range []*cloud.Node{c.Edge, c.Build, c.Control} {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(errs...)
}
