package cloud

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte"
)

// joinLifetime is how long the membership that InitNetwork writes for a node is
// good: long enough to carry the folder to its machine and start it. From then
// on the node has it renewed by the nodes of role auth.
const joinLifetime = 30 * 24 * time.Hour

// A NodeSpec describes one node of a network to be made.
type NodeSpec struct {
	Name     string
	Services []taubyte.Role
	Listen   string // the multiaddr that it listens on and the others dial
	HTTP     string // with gateway: where users come in
	API      string
}

// InitNetwork makes a new network: under dir, a folder for each node with its
// configuration (taubyte.yaml), keys and membership, to be carried to where the
// node runs. Nodes that run auth get the network's root key. A dir that exists
// and is not empty is ErrConflict; on any error nothing is left behind.
func InitNetwork(dir string, nodes []NodeSpec, zone string, development bool) (err error) {
	if err := checkSpecs(nodes); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%w: the folder %s is not empty", taubyte.ErrConflict, dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	made, err := os.MkdirTemp(parent, ".taubyte-init-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)

	authority, err := taubyte.NewAuthority()
	if err != nil {
		return err
	}
	ids := make([]peer.ID, len(nodes))
	for i, n := range nodes {
		if ids[i], err = makeIdentity(filepath.Join(made, n.Name, "data")); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	for i, n := range nodes {
		c := Config{
			Name: n.Name, Data: "data", HTTP: n.HTTP, API: n.API,
			Listen: []string{n.Listen}, Zone: zone, Development: development,
		}
		for _, r := range n.Services {
			c.Services = append(c.Services, string(r))
		}
		for j, other := range nodes {
			if j != i {
				c.Peers = append(c.Peers, other.Listen+"/p2p/"+ids[j].String())
			}
		}
		root := authority
		var signed []byte
		if !slices.Contains(n.Services, taubyte.RoleAuth) {
			if signed, err = authority.Sign(ids[i], n.Name, n.Services, joinLifetime); err != nil {
				return fmt.Errorf("node %s: %w", n.Name, err)
			}
			root = nil
		}
		if err := writeNode(filepath.Join(made, n.Name), c, root, authority.Network(), signed); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	if len(entries) == 0 {
		_ = os.Remove(dir) // an empty folder would be in the way of the rename
	}
	return os.Rename(made, dir)
}

func checkSpecs(nodes []NodeSpec) error {
	if len(nodes) == 0 {
		return fmt.Errorf("%w network: no nodes", taubyte.ErrInvalid)
	}
	names := map[string]bool{}
	auth := false
	for _, n := range nodes {
		if err := taubyte.CheckNodeName(n.Name); err != nil {
			return err
		}
		if names[n.Name] {
			return fmt.Errorf("%w network: two nodes are named %s", taubyte.ErrInvalid, n.Name)
		}
		if len(n.Services) == 0 {
			return fmt.Errorf("%w node %s: it runs no service", taubyte.ErrInvalid, n.Name)
		}
		names[n.Name] = true
		auth = auth || slices.Contains(n.Services, taubyte.RoleAuth)
	}
	if !auth {
		return fmt.Errorf("%w network: no node runs auth, which renews the memberships of the others", taubyte.ErrInvalid)
	}
	return nil
}

func makeIdentity(dir string) (peer.ID, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return "", err
	}
	if err := writeIdentity(dir, key); err != nil {
		return "", err
	}
	return peer.IDFromPrivateKey(key)
}

// writeNode writes a node's folder: its configuration, and by what right it is a
// member. That is the root key where it has that, or else a membership.
func writeNode(dir string, c Config, a *taubyte.Authority, n taubyte.Network, membership []byte) error {
	if a != nil {
		text, err := a.MarshalText()
		if err != nil {
			return err
		}
		c.Authority = "authority.key"
		if err := replaceFile(filepath.Join(dir, c.Authority), append(text, '\n')); err != nil {
			return err
		}
	} else {
		network, err := json.Marshal(n)
		if err != nil {
			return err
		}
		c.Network, c.Membership = "network.json", "membership"
		if err := errors.Join(
			replaceFile(filepath.Join(dir, c.Network), append(network, '\n')),
			replaceFile(filepath.Join(dir, c.Membership), membership),
		); err != nil {
			return err
		}
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, fileConfig), text) // last: with it the node is complete
}
