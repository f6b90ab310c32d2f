package tns

import (
	"context"
	"fmt"
	"strings"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
)

// The names of nodes, which no project can have in the zone, a key for each:
//
//	/nodes/<name>
//
// Every node of the registry writes those of the members that it knows, and all write
// the same. A name stays when its node is gone: resolvers remember it.
const nodesPrefix = "/nodes"

// lookingForNodes is how often the names of members are looked at. A node asks for the
// name of each that connects, and forgets none that holds.
const lookingForNodes = 2 * time.Second

// isReserved reports whether a name of the zone is the cluster's own: all names at once, the
// zone's own, a service's, a name server's, or a node's. Who shows that it owns the zone
// itself may have the zone's name.
func (f *feed) isReserved(c *HostClaim) bool {
	zone := f.opts.zone
	if zone == "" {
		return false
	}
	label, ok := strings.CutSuffix(c.Host, "."+zone)
	if !ok {
		return c.Host == zone && !c.Verified
	}
	if strings.Contains(label, ".") {
		return false
	}
	if label == "*" || f.nodes[label] {
		return true
	}
	_, err := taubyte.ParseRole(label)
	return err == nil || label == "console" || label == "api" || isNameServer(label)
}

// isNameServer reports whether a label is one of those by which seer names the servers of
// the zone: ns, ns1, ns2 …
func isNameServer(label string) bool {
	number, ok := strings.CutPrefix(label, "ns")
	return ok && strings.Trim(number, "0123456789") == ""
}

// reserve takes names of nodes from the projects that have them.
func (f *feed) reserve(names []string) {
	f.mu.Lock()
	var lost []Claim
	for _, name := range names {
		if f.nodes[name] {
			continue
		}
		f.nodes[name] = true
		if f.opts.zone != "" {
			lost = append(lost, f.reclaim(name+"."+f.opts.zone)...)
		}
	}
	f.mu.Unlock()
	f.tell(lost)
}

// nodeNames reads the names of nodes from the store.
func (s *Service) nodeNames(ctx context.Context) error {
	results, err := s.store.Query(ctx, query.Query{Prefix: nodesPrefix, KeysOnly: true})
	if err != nil {
		return err
	}
	defer results.Close()
	var names []string
	for r := range results.Next() {
		if r.Error != nil {
			return r.Error
		}
		names = append(names, strings.TrimPrefix(r.Key, nodesPrefix+"/"))
	}
	s.feed.reserve(names)
	return nil
}

// followNodes keeps the names of nodes current: those that others write, and those of the
// members that this node knows.
func (s *Service) followNodes(ctx context.Context, events <-chan crdt.Event) {
	look := time.NewTicker(lookingForNodes)
	defer look.Stop()
	for {
		if err := s.nameNodes(ctx); err != nil && ctx.Err() == nil {
			s.opts.log.Warn("names of nodes not recorded", "err", err)
		}
		select {
		case e, ok := <-events:
			switch {
			case !ok:
				return
			case !e.Lost:
				s.feed.reserve([]string{strings.TrimPrefix(e.Key.String(), nodesPrefix+"/")})
			default:
				if err := s.nodeNames(ctx); err != nil && ctx.Err() == nil {
					s.opts.log.Warn("names of nodes not read", "err", err)
				}
			}
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// nameNodes records the names of members that are not recorded yet.
func (s *Service) nameNodes(ctx context.Context) error {
	for _, m := range s.host.Members().All() {
		if m.Name == "" || taubyte.CheckNodeName(m.Name) != nil || s.feed.hasNode(m.Name) {
			continue
		}
		if err := s.store.Put(ctx, ds.RawKey(nodesPrefix+"/"+m.Name), []byte{1}); err != nil {
			return fmt.Errorf("recording node %s: %w", m.Name, err)
		}
		s.feed.reserve([]string{m.Name})
	}
	return nil
}

func (f *feed) hasNode(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[name]
}
