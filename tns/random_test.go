package tns_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
)

// links says which nodes reach each other.
type links struct {
	mu  sync.Mutex
	cut map[[2]peer.ID]bool
}

func (l *links) open(a, b peer.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.cut[[2]peer.ID{a, b}]
}

func (l *links) set(a, b peer.ID, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut[[2]peer.ID{a, b}], l.cut[[2]peer.ID{b, a}] = cut, cut
}

// gate lets a host have the connections that there are links for.
type gate struct {
	*links
	self peer.ID
}

func (g *gate) InterceptPeerDial(p peer.ID) bool             { return g.open(g.self, p) }
func (g *gate) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool  { return true }
func (g *gate) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.open(g.self, p)
}
func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// replicas are registries whose links can be cut.
type replicas struct {
	links links
	hosts []*taubyte.NodeHost
	all   []*tns.Service
}

func newReplicas(t testing.TB, n int) *replicas {
	testnet.CheckLeaks(t)
	authority, err := taubyte.NewAuthority()
	require.NoError(t, err)
	r := &replicas{links: links{cut: map[[2]peer.ID]bool{}}}
	for range n {
		g := &gate{links: &r.links}
		p2p, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.ConnectionGater(g), libp2p.DisableRelay(), libp2p.DisableMetrics())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, p2p.Close()) })
		g.self = p2p.ID()
		store := taubyte.MemoryDatastore()
		h, err := taubyte.NewHost(t.Context(), store, taubyte.WithLibp2p(p2p), taubyte.WithAuthority(authority, taubyte.RoleTNS), taubyte.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, h.Close()) })
		r.hosts = append(r.hosts, h)
		s, err := tns.New(t.Context(), h, store, tns.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		r.all = append(r.all, s)
	}
	for i := range n {
		for j := range i {
			r.link(t, i, j)
		}
	}
	return r
}

func (r *replicas) cut(t testing.TB, i, j int) {
	a, b := r.hosts[i], r.hosts[j]
	r.links.set(a.ID(), b.ID(), true)
	testnet.Eventually(t, func() bool {
		_ = a.Network().ClosePeer(b.ID())
		_ = b.Network().ClosePeer(a.ID())
		return a.Network().Connectedness(b.ID()) != network.Connected && b.Network().Connectedness(a.ID()) != network.Connected
	}, "%d and %d are apart", i, j)
}

func (r *replicas) link(t testing.TB, i, j int) {
	a, b := r.hosts[i], r.hosts[j]
	r.links.set(a.ID(), b.ID(), false)
	testnet.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(network.WithForceDirectDial(context.Background(), "link"), 5*time.Second)
		defer cancel()
		return a.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}) == nil
	}, "%d and %d are together", i, j)
}

// done reports whether a change was made. One to a branch is refused while what it
// runs can't be had: a link may be cut between the word of it and the thing.
func done(t *rapid.T, err error) bool {
	if errors.Is(err, taubyte.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	require.NoError(t, err)
	return true
}

func quickly(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return do(ctx)
}

// Whatever is published, rolled back and removed on whichever replica, and whichever
// links are cut meanwhile: with all links whole, all replicas say the same, and
// nothing that was acknowledged is lost.
func TestRandomHistoriesConverge(t *testing.T) {
	// A round takes a while on real hosts: fewer than usual, unless more are asked for.
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		require.NoError(t, flag.Set("rapid.checks", "25"))
		defer flag.Set("rapid.checks", checks.DefValue)
	}
	const n = 3
	r := newReplicas(t, n)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		// Projects of this round alone.
		projects := []taubyte.ProjectID{taubyte.ProjectID(fmt.Sprintf("one%d", round)), taubyte.ProjectID(fmt.Sprintf("two%d", round))}
		host := fmt.Sprintf("h%d.example.com", round)
		type key struct {
			project taubyte.ProjectID
			branch  taubyte.Branch
		}
		acknowledged := map[key]map[taubyte.RepositoryID][]uint64{}
		onlyPublish := rapid.Bool().Draw(rt, "only publish")
		order := uint64(0)
		ctx := context.Background()
		drawKey := func() key {
			return key{rapid.SampledFrom(projects).Draw(rt, "project"), rapid.SampledFrom([]taubyte.Branch{"main", "dev"}).Draw(rt, "branch")}
		}
		drawReplica := func(name string) int { return rapid.IntRange(0, n-1).Draw(rt, name) }
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch step := rapid.SampledFrom([]string{"publish", "publish", "publish", "cut", "link", "remove", "rollback", "verify"}).Draw(rt, "step"); step {
			case "publish":
				order++
				k, at := drawKey(), drawReplica("at")
				repository := rapid.SampledFrom([]taubyte.RepositoryID{"local/config", "local/a", "local/b"}).Draw(rt, "repository")
				p := tns.Part{Repository: repository, Order: order, Commit: taubyte.Commit(fmt.Sprint(order))}
				if repository == "local/config" {
					p.Config = project(k.project, host)
				}
				err := quickly(func(ctx context.Context) error {
					_, err := r.all[at].Publish(ctx, k.project, k.branch, p)
					return err
				})
				if !done(rt, err) {
					continue
				}
				if acknowledged[k] == nil {
					acknowledged[k] = map[taubyte.RepositoryID][]uint64{}
				}
				acknowledged[k][repository] = append(acknowledged[k][repository], order)
			case "cut", "link":
				i, j := drawReplica("i"), drawReplica("j")
				if i == j {
					continue
				}
				if step == "cut" {
					r.cut(t, i, j)
				} else {
					r.link(t, i, j)
				}
			case "verify":
				require.NoError(rt, r.all[drawReplica("at")].Verify(ctx, rapid.SampledFrom(projects).Draw(rt, "owner"), host, rapid.Bool().Draw(rt, "verified")))
			case "remove":
				if k, at := drawKey(), drawReplica("at"); !onlyPublish {
					done(rt, quickly(func(ctx context.Context) error { return r.all[at].Remove(ctx, k.project, k.branch) }))
				}
			case "rollback":
				k, s := drawKey(), r.all[drawReplica("at")]
				nth := rapid.IntRange(0, 5).Draw(rt, "nth")
				if history, err := s.History(ctx, k.project, k.branch); err == nil && len(history) > nth && !history[nth].Missing && !onlyPublish {
					done(rt, quickly(func(ctx context.Context) error {
						_, err := s.Rollback(ctx, k.project, k.branch, history[nth].Sequence)
						return err
					}))
				}
			}
		}
		for i := range n {
			for j := range i {
				r.link(t, i, j)
			}
		}

		// Everything that was acknowledged is in the history of every replica.
		for k, repositories := range acknowledged {
			for i, s := range r.all {
				testnet.Eventually(t, func() bool {
					history, err := s.History(ctx, k.project, k.branch)
					if err != nil {
						return false
					}
					for id, orders := range repositories {
						for _, order := range orders {
							if !slices.ContainsFunc(history, func(d *tns.Deployment) bool { return d.Parts[id].Order == order }) {
								return false
							}
						}
					}
					return true
				}, "replica %d has all of %v", i, k)
			}
		}
		// And all say the same.
		view := func(s *tns.Service) string {
			var all []any
			for _, p := range projects {
				for _, b := range []taubyte.Branch{"main", "dev"} {
					d, err := s.Current(ctx, p, b)
					history, _ := s.History(ctx, p, b)
					var commits []string
					for _, d := range history {
						commits = append(commits, fmt.Sprintf("%d %s", d.Sequence, d.Time))
					}
					slices.Sort(commits)
					all = append(all, d, err != nil, commits)
				}
			}
			claims, err := s.Claims(ctx, host)
			all = append(all, claims, err != nil)
			raw, err := json.Marshal(all)
			require.NoError(rt, err)
			return string(raw)
		}
		testnet.Eventually(t, func() bool {
			a := view(r.all[0])
			return a == view(r.all[1]) && a == view(r.all[2])
		}, "all replicas say the same")
		for k, repositories := range acknowledged {
			d, err := r.all[0].Current(ctx, k.project, k.branch)
			if err != nil {
				require.False(rt, onlyPublish, "nobody removed %v", k)
				continue
			}
			for id, orders := range repositories {
				require.GreaterOrEqual(rt, d.Built[id], slices.Max(orders), "what was built is known")
				if onlyPublish {
					require.Equal(rt, slices.Max(orders), d.Parts[id].Order, "the newest build of %s counts", id)
				}
			}
		}
	})
}
