package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

// JoinNetwork makes a new node of a running network: with a token of "taubyte member
// add" (auth.Service.AddMember) and nothing else. Under dir it writes what "taubyte
// start" needs: the configuration (taubyte.yaml), keys and membership. Of spec it takes
// where the node listens; its name and services are what the token says, and the
// returned spec has them. A node that runs auth gets the network's root key.
//
// When it fails, the new node's identity stays in dir, so that calling it again with
// the same token works even when the answer to the first call was lost. Errors are
// those of auth.Join; ErrConflict also where dir holds a node already.
func JoinNetwork(ctx context.Context, token, dir string, spec NodeSpec) (NodeSpec, error) {
	config := filepath.Join(dir, fileConfig)
	if _, err := os.Stat(config); err == nil {
		return spec, fmt.Errorf("%w: %s is there already: choose another folder", taubyte.ErrConflict, config)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return spec, err
	}
	data := filepath.Join(dir, "data")
	key, err := readIdentity(data)
	switch {
	case err == nil: // of an earlier try
	case !errors.Is(err, fs.ErrNotExist):
		return spec, err
	case len(entries) > 0:
		return spec, fmt.Errorf("%w: the folder %s is not empty", taubyte.ErrConflict, dir)
	default:
		if _, err := makeIdentity(data); err != nil {
			return spec, err
		}
		if key, err = readIdentity(data); err != nil {
			return spec, err
		}
	}
	a, err := auth.Join(ctx, token, key)
	if err != nil {
		if errors.Is(err, taubyte.ErrInvalid) && len(entries) == 0 { // nobody was asked
			_ = os.RemoveAll(data)
			_ = os.Remove(dir)
		}
		return spec, err
	}
	spec.Name, spec.Services = a.Name, a.Roles
	spec.Listen = cmp.Or(spec.Listen, "/ip4/127.0.0.1/tcp/4001")
	spec.API = cmp.Or(spec.API, "127.0.0.1:4002")
	spec.HTTP = cmp.Or(spec.HTTP, "127.0.0.1:8080")
	c := Config{
		Name: a.Name, Data: "data", Listen: []string{spec.Listen}, Peers: a.Peers, API: spec.API,
		Zone: a.Settings.Zone, Development: a.Settings.Development, VerifiedOnly: a.Settings.VerifiedOnly,
	}
	if slices.Contains(a.Roles, taubyte.RoleGateway) {
		c.HTTP = spec.HTTP
	}
	for _, r := range a.Roles {
		c.Services = append(c.Services, string(r))
	}
	return spec, writeNode(dir, c, a.Authority, a.Network, a.Membership)
}
