package cloud_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/patrick"
)

const (
	projectA = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"
	projectB = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
)

// control starts a node of auth, tns and patrick that connects to others.
func control(t *testing.T, a *taubyte.Authority, dir string, to ...*cloud.Node) *cloud.Node {
	t.Helper()
	var peers []peer.AddrInfo
	for _, n := range to {
		peers = append(peers, peer.AddrInfo{ID: n.Host.ID(), Addrs: n.Host.Addrs()})
	}
	n, err := cloud.Open(t.Context(), dir, cloud.WithServices(taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RolePatrick),
		cloud.WithAuthority(a), cloud.WithHost(taubyte.WithPeers(peers...)), cloud.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = n.Close() })
	for _, other := range to {
		testnet.Eventually(t, func() bool {
			_, err := n.Host.Member(context.Background(), other.Host.ID())
			return err == nil
		}, "not connected")
	}
	return n
}

func gitIn(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@localhost"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustGit(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := gitIn(t, dir, args...)
	require.NoError(t, err, "git %v: %s", args, out)
	return out
}

// source makes a clone of a project with a commit.
func source(t *testing.T, project string) string {
	t.Helper()
	dir := t.TempDir()
	mustGit(t, dir, "init", "-q", "-b", "main")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "config"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config", "config.yaml"), []byte("id: "+project+"\nname: shop\n"), 0o644))
	mustGit(t, dir, "add", ".")
	mustGit(t, dir, "commit", "-qm", "first")
	return dir
}

func jobs(t *testing.T, n *cloud.Node) map[taubyte.Commit]int {
	t.Helper()
	page, err := n.Patrick.Jobs(t.Context(), patrick.Filter{})
	require.NoError(t, err)
	count := map[taubyte.Commit]int{}
	for _, j := range page.Jobs {
		count[j.Commit]++
	}
	return count
}

func TestTwoControlNodesAreOne(t *testing.T) {
	testnet.CheckLeaks(t)
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	dirs := []string{filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")}
	one := control(t, a, dirs[0])
	two := control(t, a, dirs[1], one)
	projects := []string{projectA, projectB, "QmPChd2hVbrJ6bfo3WBcTW4iZnpHm8TEzWkLHmLpXhF68A", "QmNLei78zWmzUdbeRB3CiUfAizWUrbeeZh5K1rhAQKCh51"}
	first := ""
	for i := range 4 { // at either, decided upon by either
		name := fmt.Sprint("shop", i)
		dir, project := source(t, projects[i]), taubyte.ProjectID(projects[i])
		at, other := one, two
		if i%2 == 1 {
			at, other = two, one
		}
		mustGit(t, dir, "commit", "-q", "--allow-empty", "-m", name)
		if i == 0 {
			first = dir
		}
		out := mustGit(t, dir, "push", at.Remote(name), "main")
		require.Contains(t, out, "taubyte: job")
		require.NotContains(t, out, "one node only")
		mustGit(t, dir, "fetch", "-q", other.Remote(name), "main")
		testnet.Eventually(t, func() bool {
			r, err := other.Auth.Repository(t.Context(), auth.NewRepositoryID("local", name))
			return err == nil && r.Project == project
		}, "not registered at the other")
	}

	dir := first
	// The node that took a push is gone with all that it had.
	mustGit(t, dir, "commit", "-q", "--allow-empty", "-m", "last")
	mustGit(t, dir, "push", "-q", one.Remote("shop0"), "main")
	require.NoError(t, one.Close())
	require.NoError(t, os.RemoveAll(dirs[0]))
	head := taubyte.Commit(mustGit(t, dir, "rev-parse", "HEAD")[:40])
	testnet.Eventually(t, func() bool { return jobs(t, two)[head] == 1 }, "no job of the last push")
	require.NoError(t, two.Patrick.Reconcile(t.Context()))
	for commit, n := range jobs(t, two) {
		require.Equal(t, 1, n, "jobs of %s", commit)
	}
	require.Len(t, jobs(t, two), 5)
	mustGit(t, dir, "commit", "-q", "--allow-empty", "-m", "after")
	require.Contains(t, mustGit(t, dir, "push", two.Remote("shop0"), "main"), "this push is on one node only")
}

func TestAFirstPushAtTwoNodesHasOneOwner(t *testing.T) {
	testnet.CheckLeaks(t)
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	one := control(t, a, filepath.Join(t.TempDir(), "a"))
	two := control(t, a, filepath.Join(t.TempDir(), "b"), one)
	for i := range 3 {
		dirs := []string{source(t, fmt.Sprint(projectA, i)), source(t, fmt.Sprint(projectB, i))}
		name := fmt.Sprint("shop", i)
		var wg sync.WaitGroup
		for k, n := range []*cloud.Node{one, two} {
			wg.Go(func() {
				out, err := gitIn(t, dirs[k], "push", n.Remote(name), fmt.Sprint("main:b", k))
				if err != nil {
					t.Errorf("push %d: %v: %s", k, err, out)
				}
			})
		}
		wg.Wait()
		id := auth.NewRepositoryID("local", name)
		testnet.Eventually(t, func() bool {
			x, errX := one.Auth.Repository(t.Context(), id)
			y, errY := two.Auth.Repository(t.Context(), id)
			return errX == nil && errY == nil && x.Project == y.Project
		}, "owners")
		owner, err := one.Auth.Repository(t.Context(), id)
		require.NoError(t, err)
		for _, n := range []*cloud.Node{one, two} {
			page, err := n.Patrick.Jobs(t.Context(), patrick.Filter{Repository: id})
			require.NoError(t, err)
			for _, j := range page.Jobs {
				require.Equal(t, owner.Project, j.Project)
			}
		}
	}
}
