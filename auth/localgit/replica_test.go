package localgit_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/localgit"
	"github.com/taubyte/taubyte/internal/testnet"
)

// cluster is control nodes of one network, and what they told of pushes.
type cluster struct {
	t   *testing.T
	net *testnet.Net

	mu   sync.Mutex
	told []auth.Push
}

// control is one of them.
type control struct {
	c      *cluster
	host   *taubyte.NodeHost
	server *localgit.Server
	web    *httptest.Server
	store  taubyte.Datastore
	dir    string
	closed bool
}

func newCluster(t *testing.T) *cluster { return &cluster{t: t, net: testnet.New(t)} }

// add starts a control node that is connected to others.
func (c *cluster) add(to ...*control) *control {
	c.t.Helper()
	return c.on(taubyte.MemoryDatastore(), c.t.TempDir(), to...)
}

func (c *cluster) on(store taubyte.Datastore, dir string, to ...*control) *control {
	c.t.Helper()
	var peers []peer.AddrInfo
	for _, other := range to {
		peers = append(peers, other.info())
	}
	h, err := taubyte.NewHost(c.t.Context(), store, taubyte.WithAuthority(c.net.Authority, taubyte.RoleAuth, taubyte.RolePatrick),
		taubyte.WithPeers(peers...), taubyte.WithLogger(testnet.Logger(c.t)))
	require.NoError(c.t, err)
	n := &control{c: c, host: h, store: store, dir: dir}
	n.server, err = localgit.New(c.t.Context(), h, store, dir,
		localgit.WithLogger(testnet.Logger(c.t).With("node", h.ID().ShortString())),
		localgit.WithAccess(access()),
		localgit.WithOnPush(func(_ context.Context, _ string, p auth.Push) (string, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.told = append(c.told, p)
			return "heard", nil
		}))
	require.NoError(c.t, err)
	n.web = httptest.NewServer(n.server)
	c.t.Cleanup(n.close)
	for _, other := range to {
		testnet.Eventually(c.t, func() bool {
			_, err := h.Member(context.Background(), other.host.ID())
			return err == nil && h.Network().Connectedness(other.host.ID()) == network.Connected
		}, "not connected")
	}
	return n
}

func (n *control) info() peer.AddrInfo { return peer.AddrInfo{ID: n.host.ID(), Addrs: n.host.Addrs()} }

// close ends the node; nobody hears of it but by its connections.
func (n *control) close() {
	if n.closed {
		return
	}
	n.closed = true
	n.web.CloseClientConnections()
	_ = n.host.Network().Close()
	n.web.Close()
	_ = n.server.Close()
	_ = n.host.Close()
}

func (n *control) remote(name string) string {
	return strings.Replace(n.web.URL, "http://", "http://x:writer@", 1) + "/" + name + ".git"
}

func (n *control) clone(name string) string {
	n.c.t.Helper()
	dir := filepath.Join(n.c.t.TempDir(), "clone")
	git(n.c.t, n.c.t.TempDir(), "clone", "-q", n.remote(name), dir)
	return dir
}

func (n *control) refs(name string) string { return git(n.c.t, n.dir, "ls-remote", n.remote(name)) }

// onDisk are the references in the node's folder.
func (n *control) onDisk(name string) string {
	n.c.t.Helper()
	return git(n.c.t, filepath.Join(n.dir, name+".git"), "for-each-ref", "--format=%(objectname) %(refname)")
}

func (c *cluster) pushes() []auth.Push {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]auth.Push(nil), c.told...)
}

func TestEveryControlNodeServesEveryRepository(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	b := c.add(a)
	dir := work(t, map[string]string{"a": "1"})
	for i := range 6 { // decided upon by either
		name := fmt.Sprint("shop", i)
		at, other := a, b
		if i%2 == 1 {
			at, other = b, a
		}
		head := string(commit(t, dir, map[string]string{"a": fmt.Sprint(i)}))
		out := git(t, dir, "push", at.remote(name), "main")
		require.Contains(t, out, "remote: taubyte: heard")
		require.NotContains(t, out, "one node only")
		require.Contains(t, other.onDisk(name), head+" refs/heads/main", "on the other's disk when it is acknowledged")
		require.Equal(t, head, git(t, other.clone(name), "rev-parse", "HEAD"))
		heads, err := other.server.Heads(t.Context(), auth.Remote{ID: name})
		require.NoError(t, err)
		require.Equal(t, map[taubyte.Branch]taubyte.Commit{"main": taubyte.Commit(head)}, heads)
		text, err := other.server.File(t.Context(), name, taubyte.Commit(head), "a", 100)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), string(text))
	}
	require.Len(t, c.pushes(), 6)

	// Back and forth: tags, a forced push, deletion.
	work := b.clone("shop0")
	commit(t, work, map[string]string{"b": "b"})
	git(t, work, "tag", "-a", "v1", "-m", "v1")
	git(t, work, "push", "-q", a.remote("shop0"), "main", "main:feature/x", "v1")
	require.Equal(t, a.refs("shop0"), b.refs("shop0"))
	require.Contains(t, b.refs("shop0"), "refs/tags/v1^{}")
	git(t, work, "reset", "-q", "--hard", "HEAD~1")
	head := string(commit(t, work, map[string]string{"c": "c"}))
	_, err := tryGit(t, work, "push", "-q", b.remote("shop0"), "main")
	require.Error(t, err)
	git(t, work, "push", "-q", "--force", b.remote("shop0"), "main")
	git(t, work, "push", "-q", b.remote("shop0"), ":feature/x", ":v1")
	require.Equal(t, head+"\tHEAD\n"+head+"\trefs/heads/main", a.refs("shop0"))

	// A branch in the place of a folder of branches, all or nothing.
	git(t, work, "push", "-q", a.remote("shop0"), "main:y/z")
	_, err = tryGit(t, work, "push", "-q", "--atomic", b.remote("shop0"), "main:y", "main:w")
	require.Error(t, err)
	require.NotContains(t, a.refs("shop0"), "refs/heads/w")
	git(t, work, "push", "-q", b.remote("shop0"), ":y/z", "main:y")
	require.Contains(t, a.refs("shop0"), "refs/heads/y")
}

func TestHeadIsABranchThatExists(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	b := c.add(a)
	dir := work(t, map[string]string{"a": "1"})
	git(t, dir, "push", "-q", a.remote("shop"), "main:trunk")
	git(t, dir, "push", "-q", b.remote("shop"), "main:another", "main:main")
	for _, n := range []*control{a, b} {
		require.Equal(t, "trunk", git(t, n.clone("shop"), "branch", "--show-current"))
	}
	git(t, dir, "push", "-q", b.remote("shop"), ":trunk")
	for _, n := range []*control{a, b} {
		require.Equal(t, "main", git(t, n.clone("shop"), "branch", "--show-current"))
	}
}

func TestAnAcknowledgedPushSurvivesItsNode(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	b := c.add(a)
	dir := work(t, map[string]string{"a": "1"})
	head := git(t, dir, "rev-parse", "HEAD")
	for i := range 4 {
		git(t, dir, "push", "-q", a.remote(fmt.Sprint("shop", i)), "main")
	}
	require.NoError(t, b.server.Create(t.Context(), "empty"))
	a.close()
	require.NoError(t, os.RemoveAll(a.dir))
	for i := range 4 {
		require.Equal(t, head, git(t, b.clone(fmt.Sprint("shop", i)), "rev-parse", "HEAD"))
		require.NoError(t, b.server.Source(t.Context(), auth.Remote{ID: fmt.Sprint("shop", i)}, taubyte.Commit(head), &strings.Builder{}))
	}
	require.Len(t, c.pushes(), 4, "each heard of once")

	// The one that is left takes pushes, and says so.
	commit(t, dir, map[string]string{"a": "2"})
	require.Contains(t, git(t, dir, "push", b.remote("shop0"), "main"), "this push is on one node only")

	// A new node becomes a whole one.
	n := c.add(b)
	require.Equal(t, git(t, dir, "rev-parse", "HEAD"), git(t, n.clone("shop0"), "rev-parse", "HEAD"))
	testnet.Eventually(t, func() bool {
		for i := range 4 {
			out, err := tryGit(t, filepath.Join(n.dir, fmt.Sprintf("shop%d.git", i)), "rev-parse", "refs/heads/main")
			if err != nil || len(strings.TrimSpace(out)) != 40 {
				return false
			}
		}
		return true
	}, "not filled")
	require.NotContains(t, git(t, dir, "push", "--force", n.remote("shop1"), "HEAD:x"), "one node only")
	b.close()
	for i := range 4 {
		n.clone(fmt.Sprint("shop", i))
	}
	_, err := n.server.Heads(t.Context(), auth.Remote{ID: "empty"})
	require.NoError(t, err)
}

func TestPushesAtSeveralNodesAtOnce(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	b := c.add(a)
	nodes := []*control{a, b, c.add(a, b)}
	dir := work(t, map[string]string{"a": "1"})
	git(t, dir, "push", "-q", a.remote("shop"), "main")
	clones := make([]string, len(nodes))
	for i, n := range nodes {
		clones[i] = n.clone("shop")
	}
	for round := range 3 {
		outs, errs := make([]string, len(nodes)), make([]error, len(nodes))
		var wg sync.WaitGroup
		for i, n := range nodes {
			commit(t, clones[i], map[string]string{fmt.Sprint("f", i): fmt.Sprint(round)})
			wg.Go(func() {
				out, err := tryGit(t, clones[i], "push", "-q", n.remote("shop"), fmt.Sprintf("HEAD:b%d-%d", i, round))
				if err != nil {
					t.Errorf("branches of their own: %v: %s", err, out)
				}
				outs[i], errs[i] = tryGit(t, clones[i], "push", "-q", n.remote("shop"), "HEAD:main")
			})
		}
		wg.Wait()
		won := 0
		for i, err := range errs {
			if err == nil {
				won++
				continue
			}
			require.Contains(t, outs[i], "rejected", "%s", outs[i])
			require.Contains(t, outs[i], "fetch first", "%s", outs[i])
		}
		require.Equal(t, 1, won, "%v %v", outs, errs)
		refs := a.refs("shop")
		require.NotContains(t, refs, "refs/conflicts")
		for i, n := range nodes {
			require.Equal(t, refs, n.refs("shop"))
			git(t, clones[i], "pull", "-q", "--rebase", "origin", "main")
		}
	}
}

func TestACutAndItsHealing(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	b := c.add(a)
	dir := work(t, map[string]string{"a": "1"})
	git(t, dir, "push", "-q", a.remote("shop"), "main")
	second := a.clone("shop")
	b.close()
	b = c.on(b.store, b.dir) // it does not find a

	here := string(commit(t, dir, map[string]string{"here": "x"}))
	there := string(commit(t, second, map[string]string{"there": "x"}))
	require.Contains(t, git(t, dir, "push", a.remote("shop"), "main", "main:x"), "one node only")
	require.Contains(t, git(t, second, "push", b.remote("shop"), "main", "main:x/y", "main:z"), "one node only")
	git(t, dir, "push", "-q", a.remote("new"), "main")
	git(t, second, "push", "-q", b.remote("new"), "main:other")

	began := time.Now()
	require.NoError(t, b.host.Connect(t.Context(), a.info()))
	testnet.Eventually(t, func() bool {
		return a.refs("shop") == b.refs("shop") && strings.Contains(a.refs("shop"), "refs/conflicts/") &&
			a.refs("new") == b.refs("new") && strings.Contains(a.refs("new"), "refs/heads/other")
	}, "not healed")
	t.Logf("healed after %s", time.Since(began))
	refs := a.refs("shop")
	require.Contains(t, refs, there+"\trefs/heads/main", "the later one")
	require.Contains(t, refs, there+"\trefs/heads/x/y")
	require.Contains(t, refs, there+"\trefs/heads/z")
	require.Regexp(t, here+`\trefs/conflicts/[^/]+/heads/main\n`, refs+"\n")
	require.Regexp(t, here+`\trefs/conflicts/[^/]+/heads/x\n`, refs+"\n")

	// Who pushes next is told where the other commits are, and takes them in.
	git(t, second, "fetch", "-q", b.remote("shop"), "refs/conflicts/*:refs/conflicts/*")
	lost := git(t, second, "for-each-ref", "--format=%(refname)", "refs/conflicts/*/heads/main")
	commit(t, second, map[string]string{"more": "x"})
	require.Contains(t, git(t, second, "push", b.remote("shop"), "main"), "is at "+lost)
	require.Contains(t, a.refs("shop"), lost)
	git(t, second, "push", "-q", b.remote("shop"), ":"+lost)
	require.NotContains(t, a.refs("shop"), lost)
	require.Equal(t, a.refs("shop"), b.refs("shop"))
}

// A node that speaks the protocols and answers none.
func (c *cluster) hung(to ...*control) *testnet.Node {
	c.t.Helper()
	n := c.net.Node(taubyte.RoleAuth, taubyte.RolePatrick)
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for _, p := range []protocol.ID{localgit.Protocol, "/taubyte/git/objects/1", "/taubyte/crdt/1/git"} {
		n.SetStreamHandler(p, func(s network.Stream) {
			wg.Add(1)
			defer wg.Done()
			<-ended
			_ = s.Reset()
		})
	}
	topic, err := n.PubSub().Join("/taubyte/crdt/1/git")
	require.NoError(c.t, err)
	_, err = topic.Subscribe() // it ends with the node
	require.NoError(c.t, err)
	c.t.Cleanup(func() { close(ended); wg.Wait() })
	for _, other := range to {
		require.NoError(c.t, n.Connect(c.t.Context(), other.info()))
		testnet.Eventually(c.t, func() bool {
			known, err := other.host.Peerstore().SupportsProtocols(n.ID(), localgit.Protocol)
			_, errMember := other.host.Member(context.Background(), n.ID())
			return err == nil && errMember == nil && len(known) > 0
		}, "not known")
	}
	return n
}

func TestAHungNodeHoldsNoPushUp(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	dir := work(t, map[string]string{"a": "1"})
	c.hung(a)
	began := time.Now()
	git(t, dir, "push", "-q", a.remote("shop"), "main")
	first := time.Since(began)
	require.Less(t, first, 10*time.Second)
	began = time.Now()
	commit(t, dir, map[string]string{"a": "2"})
	git(t, dir, "push", "-q", a.remote("shop"), "main")
	t.Logf("a push beside a hung node took %s, and the next %s", first, time.Since(began))

	// With another node that lives, it has the push.
	b := c.add(a)
	commit(t, dir, map[string]string{"a": "3"})
	out := git(t, dir, "push", a.remote("shop"), "main")
	require.NotContains(t, out, "one node only")
	require.Contains(t, b.onDisk("shop"), git(t, dir, "rev-parse", "HEAD"))
}

func TestALargePushIsReplicated(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	b := c.add(a)
	noise := make([]byte, 50<<20)
	_, err := rand.Read(noise)
	require.NoError(t, err)
	dir := work(t, map[string]string{"noise": string(noise)})
	began := time.Now()
	out := git(t, dir, "push", b.remote("big"), "main")
	t.Logf("50 MiB on two nodes in %s", time.Since(began))
	require.NotContains(t, out, "one node only")
	require.Contains(t, a.onDisk("big"), git(t, dir, "rev-parse", "HEAD"))
	git(t, filepath.Join(a.dir, "big.git"), "fsck", "--full")
}

func TestANodeThatIsBehindPassesOn(t *testing.T) {
	c := newCluster(t)
	a := c.add()
	b := c.add(a)
	dir := work(t, map[string]string{"a": "1"})
	git(t, dir, "push", "-q", a.remote("shop"), "main")
	packs := filepath.Join(b.dir, "shop.git", "objects", "pack")
	require.NoError(t, os.Rename(packs, packs+".away"))
	require.NoError(t, os.WriteFile(packs, nil, 0o600)) // it can take no pack
	head := string(commit(t, dir, map[string]string{"a": "2"}))
	require.Contains(t, git(t, dir, "push", a.remote("shop"), "main"), "one node only")
	require.Equal(t, head, git(t, b.clone("shop"), "rev-parse", "HEAD"), "answered by the other")
	head = string(commit(t, dir, map[string]string{"a": "3"}))
	git(t, dir, "push", "-q", b.remote("shop"), "main")
	require.Contains(t, a.onDisk("shop"), head, "passed on")

	a.close()
	resp, err := http.Get(b.web.URL + "/shop.git/info/refs?service=git-upload-pack")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.web.URL+"/shop.git/info/refs?service=git-upload-pack", nil)
	require.NoError(t, err)
	req.SetBasicAuth("x", "writer")
	resp, err = http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	http.DefaultClient.CloseIdleConnections()
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode, "never what is old, nor \"not found\"")
	require.NotEmpty(t, resp.Header.Get("Retry-After"))
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	b := newBench(t)
	dir := work(t, map[string]string{"a": "a"})
	git(t, dir, "push", "-q", b.remote("writer", "shop"), "main")
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/shop.git/git-receive-pack", r)
	require.NoError(t, err)
	req.SetBasicAuth("x", "writer")
	ended := make(chan struct{})
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	go func() {
		defer close(ended)
		if resp, err := tr.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	line := strings.Repeat("0", 40) + " " + strings.Repeat("1", 40) + " refs/heads/x\x00report-status"
	_, err = fmt.Fprintf(w, "%04x%s0000PACK\x00\x00\x00\x02\x00\x00\x00\x05", len(line)+4, line)
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, b.server.Close())
	require.Less(t, time.Since(began), 20*time.Second)
	_ = w.CloseWithError(io.ErrUnexpectedEOF)
	<-ended
	_, err = b.server.Heads(t.Context(), auth.Remote{ID: "shop"})
	require.ErrorIs(t, err, taubyte.ErrClosed)
}

func TestRepositoriesOfBeforeAreTakenIn(t *testing.T) {
	c := newCluster(t)
	old := t.TempDir()
	git(t, old, "init", "-q", "--bare", "-b", "trunk", "shop.git")
	dir := work(t, map[string]string{"a": "1"})
	git(t, dir, "push", "-q", filepath.Join(old, "shop.git"), "main:trunk")
	a := c.on(taubyte.MemoryDatastore(), old)
	b := c.add(a)
	clone := b.clone("shop")
	require.Equal(t, "trunk", git(t, clone, "branch", "--show-current"))
	commit(t, clone, map[string]string{"b": "b"})
	git(t, clone, "push", "-q", "origin", "trunk")
	require.Contains(t, a.onDisk("shop"), git(t, clone, "rev-parse", "HEAD"))
}

func TestManySmallPushesArePutTogether(t *testing.T) {
	b := newBench(t)
	dir := work(t, map[string]string{"a": "a"})
	for i := range 33 {
		commit(t, dir, map[string]string{"a": fmt.Sprint(i)})
		git(t, dir, "push", "-q", b.remote("writer", "shop"), "main")
	}
	testnet.Eventually(t, func() bool {
		packs, err := filepath.Glob(filepath.Join(b.dir, "shop.git", "objects", "pack", "*.pack"))
		require.NoError(t, err)
		return len(packs) < 10
	}, "packs are not put together")
	git(t, filepath.Join(b.dir, "shop.git"), "fsck", "--full")
	clone := filepath.Join(t.TempDir(), "clone")
	git(t, t.TempDir(), "clone", "-q", b.remote("reader", "shop"), clone)
	require.Equal(t, git(t, dir, "rev-parse", "HEAD"), git(t, clone, "rev-parse", "HEAD"))
}
