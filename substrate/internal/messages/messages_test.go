package messages_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate/internal/messages"
	"github.com/taubyte/taubyte/tns/config"
)

var main = messages.Branch{Project: "project", Branch: "main"}

const protocol = "/taubyte/substrate/test/1"

// A node is a hub on a host, with a server for its sockets.
type node struct {
	*messages.Hub
	host *testnet.Node
	http *httptest.Server
	rpc  *rpc.Server
}

// A cluster is some hubs that know each other.
type cluster struct {
	testing.TB
	net   *testnet.Net
	mu    sync.Mutex
	nodes []*node
}

func newCluster(t testing.TB) *cluster { return &cluster{TB: t, net: testnet.New(t)} }

func (c *cluster) ids() []peer.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []peer.ID
	for _, n := range c.nodes {
		ids = append(ids, n.host.ID())
	}
	return ids
}

// add starts another node.
func (c *cluster) add(change ...func(*messages.Config)) *node {
	c.Helper()
	n := &node{host: c.net.Node(taubyte.RoleSubstrate)}
	conf := messages.Config{
		Host: n.host, Log: testnet.Logger(c), Protocol: protocol, Nodes: c.ids,
		Limit: messages.Limits{Sockets: 20_000, ProjectSockets: 20_000, Message: 256 << 10, Ping: time.Minute},
	}
	for _, f := range change {
		f(&conf)
	}
	var err error
	n.Hub, err = messages.New(conf)
	require.NoError(c, err)
	n.rpc, err = rpc.Serve(n.host, protocol, n.Handler(), taubyte.RoleSubstrate)
	require.NoError(c, err)
	n.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := n.ServeSocket(w, r, messages.Branch{Project: main.Project, Branch: taubyte.Branch(r.URL.Query().Get("branch"))}, r.URL.Query().Get("hash"), r.URL.Query().Get("channel")); err != nil {
			http.Error(w, err.Error(), 404)
		}
	}))
	c.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(c, n.Close(ctx))
		require.NoError(c, n.rpc.Close())
		n.http.Close()
	})
	c.mu.Lock()
	c.nodes = append(c.nodes, n)
	c.mu.Unlock()
	for _, other := range c.nodes {
		testnet.Eventually(c, func() bool { return len(other.host.PubSub().ListPeers(other.Topic())) == len(c.nodes)-1 }, "nodes do not hear each other")
	}
	return n
}

// A ran is a function that has run for a message.
type ran struct {
	node *node
	messages.Message
}

// rules have the channels a…, which WebSockets may listen to, and local ones; a
// function listens on each of the channels "for-…".
func rules(t testing.TB, run func(messages.Function) messages.Runner, change ...func(*config.Project)) *messages.Rules {
	p := &config.Project{ID: main.Project}
	p.Messaging = []config.Messaging{
		{Common: config.Common{Name: "all"}, Match: "^a", Regex: true, WebSocket: true},
		{Common: config.Common{Name: "here"}, Match: "here", Local: true, WebSocket: true},
		{Common: config.Common{Name: "work"}, Match: "work"},
	}
	p.Functions = []config.Function{{Common: config.Common{ID: "worker"}, Type: config.TriggerPubSub, Channel: "work"}}
	for _, f := range change {
		f(p)
	}
	if run == nil {
		run = func(messages.Function) messages.Runner { return nil }
	}
	r, err := messages.NewRules(p, run)
	require.NoError(t, err)
	return r
}

// works has a node's functions tell what they run for.
func (n *node) works(t testing.TB, got chan<- ran) {
	n.Deploy(main, rules(t, func(messages.Function) messages.Runner {
		return func(_ context.Context, m *messages.Message) error {
			got <- ran{n, *m}
			return nil
		}
	}))
}

type socket struct {
	testing.TB
	*websocket.Conn
	got chan string
}

func (n *node) open(t testing.TB, channel string) *socket {
	t.Helper()
	return n.openOn(t, "main", channel)
}

func (n *node) openOn(t testing.TB, branch, channel string) *socket {
	t.Helper()
	path, ok := rules(t, nil).SocketPath("", channel)
	require.True(t, ok)
	hash := strings.TrimPrefix(strings.Split(path, "/")[0], "ws-")
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	ws, _, err := websocket.Dial(t.Context(), fmt.Sprintf("%s?branch=%s&hash=%s&channel=%s", n.http.URL, branch, hash, channel), &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
	require.NoError(t, err)
	ws.SetReadLimit(1 << 20)
	s := &socket{TB: t, Conn: ws, got: make(chan string, 10_000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, text, err := ws.Read(context.Background())
			if err != nil {
				var closed websocket.CloseError
				errors.As(err, &closed)
				s.got <- fmt.Sprintf("closed %d", closed.Code)
				return
			}
			s.got <- string(text)
		}
	}()
	t.Cleanup(func() { _ = ws.CloseNow(); <-done })
	return s
}

func next[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(30 * time.Second):
		require.FailNow(t, "nothing came")
		panic("")
	}
}

func TestOrderBetweenNodes(t *testing.T) {
	c := newCluster(t)
	var nodes []*node
	for range 3 {
		n := c.add()
		n.Deploy(main, rules(t, nil))
		nodes = append(nodes, n)
	}
	sockets := []*socket{nodes[0].open(t, "a"), nodes[1].open(t, "a"), nodes[2].open(t, "a")}
	here := nodes[1].open(t, "here")
	const n = 300
	var wg sync.WaitGroup
	for i, from := range nodes {
		wg.Go(func() {
			require.NoError(t, from.Publish(main, "here", fmt.Append(nil, "on ", i), messages.Source{}))
			for j := range n {
				require.NoError(t, from.Publish(main, "a", fmt.Append(nil, i, " ", j), messages.Source{}))
			}
		})
	}
	wg.Wait()
	for _, s := range sockets {
		var seen [3]int
		for range 3 * n {
			var from, j int
			_, err := fmt.Sscan(next(t, s.got), &from, &j)
			require.NoError(t, err)
			require.Equal(t, seen[from], j, "of node %d", from)
			seen[from]++
		}
	}
	require.Equal(t, "on 1", next(t, here.got), "what is local stays on its node")
	require.Empty(t, here.got)
}

// Each message is run once, on whatever node; all nodes have their part of them.
func TestOncePerCluster(t *testing.T) {
	c := newCluster(t)
	got := make(chan ran, 10_000)
	for range 3 {
		c.add().works(t, got)
	}
	const n = 300
	for i := range n {
		require.NoError(t, c.nodes[i%3].Publish(main, "work", fmt.Append(nil, i), messages.Source{Depth: 2}))
	}
	count := func(n int) (seen map[string]int, on map[*node]int) {
		seen, on = map[string]int{}, map[*node]int{}
		for range n {
			r := next(t, got)
			require.Equal(t, 3, r.Depth)
			require.Equal(t, "work", r.Channel)
			require.Equal(t, main, r.Branch)
			seen[r.Data]++
			on[r.node]++
		}
		require.Len(t, seen, n)
		return seen, on
	}
	_, on := count(n)
	for _, n := range c.nodes {
		require.Greater(t, on[n], 50)
	}
	require.Empty(t, got)

	// A node that is there and does not answer is passed over: nothing is lost.
	gone := c.nodes[2]
	require.NoError(t, gone.rpc.Close())
	for i := range n {
		require.NoError(t, c.nodes[i%2].Publish(main, "work", fmt.Append(nil, i), messages.Source{Depth: 2}))
	}
	_, on = count(n)
	require.Zero(t, on[gone])
	// So is one that has not got the deployment.
	c.nodes[1].Remove(main)
	for i := range n {
		require.NoError(t, c.nodes[0].Publish(main, "work", fmt.Append(nil, i), messages.Source{Depth: 2}))
	}
	_, on = count(n)
	require.Equal(t, n, on[c.nodes[0]])
	require.Empty(t, got)
	require.Zero(t, c.nodes[0].Stats().Dropped)
}

func TestChoose(t *testing.T) {
	nodes := []peer.ID{"one", "two", "three", "four"}
	first := map[peer.ID]int{}
	for i := range uint64(4000) {
		order := messages.Choose(nodes, "one", i, messages.Function{ID: "f"})
		first[order[0]]++
		require.Contains(t, order, peer.ID("one"))
		without := messages.Choose([]peer.ID{"one", "two", "three"}, "one", i, messages.Function{ID: "f"})
		if order[0] != "four" {
			require.Equal(t, order[0], without[0], "one more node takes its own part and no other")
		}
	}
	for _, n := range nodes {
		require.InDelta(t, 1000, first[n], 150)
	}
	require.Equal(t, []peer.ID{"one"}, messages.Choose(nil, "one", 1, messages.Function{}))
}

// Who is not of the role, and what is not a frame, is not heard.
func TestForgedGossip(t *testing.T) {
	c := newCluster(t)
	n, peer := c.add(), c.add()
	n.Deploy(main, rules(t, nil))
	peer.Deploy(main, rules(t, nil))
	s := n.open(t, "a")

	stranger := c.net.Node(taubyte.RoleGateway, taubyte.RoleMonkey)
	topic, err := stranger.PubSub().Join(n.Topic())
	require.NoError(t, err)
	defer topic.Close()
	sub, err := topic.Subscribe()
	require.NoError(t, err)
	defer sub.Cancel()
	testnet.Eventually(t, func() bool { return len(topic.ListPeers()) == 2 }, "not heard of")
	require.NoError(t, topic.Publish(t.Context(), messages.Frame(1, 1, main, "a", "forged")))
	require.NoError(t, topic.Publish(t.Context(), []byte("nonsense")))
	// Nor may it ask for what was told, or have something run.
	client := rpc.NewClient(stranger, protocol, nil)
	defer client.Close()
	for method, path := range map[string]string{http.MethodGet: "/messages/frames?epoch=1&from=1&to=2", http.MethodPost: "/messages/run"} {
		_, err := client.Open(t.Context(), n.host.ID(), method, path, bytes.NewReader(messages.Deliver(messages.Function{ID: "worker"}, messages.Message{Branch: main})))
		require.ErrorIs(t, err, taubyte.ErrForbidden)
	}
	require.NoError(t, peer.Publish(main, "a", []byte("true"), messages.Source{}))
	require.Equal(t, "true", next(t, s.got))
	require.Equal(t, uint64(1), n.Stats().Frames)
}

// empty is the size of a frame without messages.
const empty = 17

// told are the frames of a hub that have messages.
func told(n *node) [][]byte {
	return slices.DeleteFunc(n.Frames(), func(f []byte) bool { return len(f) == empty })
}

// What gossip loses is asked of the sender again, and given up where that has gone.
func TestLostFrames(t *testing.T) {
	c := newCluster(t)
	sender, n := c.add(), c.add()
	sender.Deploy(main, rules(t, nil))
	n.Deploy(main, rules(t, nil))
	for i := range 5 { // each in its own frame
		require.NoError(t, sender.Publish(main, "a", fmt.Append(nil, i), messages.Source{}))
		testnet.Eventually(t, func() bool { return len(told(sender)) > i }, "not told")
	}
	testnet.Eventually(t, func() bool { f := sender.Frames(); return len(f[len(f)-1]) == empty }, "does not say how far it is")
	testnet.Eventually(t, func() bool { return n.Stats().Frames == uint64(len(sender.Frames())) }, "not heard")
	other := c.add() // which has heard none of them
	other.Deploy(main, rules(t, nil))
	s := other.open(t, "a")
	frames := told(sender)
	for _, i := range []int{1, 0, 0, 4, 1} {
		require.NoError(t, other.Hear(sender.host.ID(), frames[i]))
	}
	for i := range 5 {
		require.Equal(t, fmt.Sprint(i), next(t, s.got))
	}
	require.Empty(t, s.got)
	require.GreaterOrEqual(t, other.Stats().Repaired, uint64(2))
	require.Zero(t, other.Stats().Lost)

	sender.Forget() // it was started anew
	require.NoError(t, other.Hear(sender.host.ID(), messages.Frame(7, 9, main, "a", "anew")))
	require.Equal(t, "anew", next(t, s.got))
	require.NoError(t, other.Hear(sender.host.ID(), frames[0]), "which is late by a whole life")
	require.NoError(t, other.Hear(sender.host.ID(), messages.Frame(7, 12, main, "a", "later")))
	require.Equal(t, "later", next(t, s.got))
	require.Equal(t, uint64(2), other.Stats().Lost)
	require.Empty(t, s.got)
}

// Branches and projects do not hear each other.
func TestIsolation(t *testing.T) {
	c := newCluster(t)
	one, two := c.add(), c.add()
	preview := messages.Branch{Project: main.Project, Branch: "preview"}
	// The parts of a name are apart: together these would be the same.
	foreign := messages.Branch{Project: main.Project + "m", Branch: "ain"}
	for _, n := range []*node{one, two} {
		for _, id := range []messages.Branch{main, preview, foreign} {
			n.Deploy(id, rules(t, nil))
		}
	}
	mine, theirs := two.open(t, "a"), two.openOn(t, "preview", "a")
	for _, n := range []*node{one, two} {
		require.NoError(t, n.Publish(preview, "a", []byte("preview"), messages.Source{}))
		require.NoError(t, n.Publish(foreign, "a", []byte("foreign"), messages.Source{}))
		require.NoError(t, n.Publish(main, "a", []byte("mine"), messages.Source{}))
	}
	for range 2 {
		require.Equal(t, "mine", next(t, mine.got))
		require.Equal(t, "preview", next(t, theirs.got))
	}
	require.Empty(t, mine.got)
	require.Empty(t, theirs.got)
}

func TestRules(t *testing.T) {
	run := func(messages.Function) messages.Runner {
		return func(context.Context, *messages.Message) error { return nil }
	}
	r := rules(t, run, func(p *config.Project) {
		p.Applications = []config.Application{{ID: "app", Resources: config.Resources{
			Messaging: []config.Messaging{{Match: "own", WebSocket: true}, {Match: "ab", WebSocket: false}},
		}}}
	})
	for _, want := range []struct {
		app     taubyte.ApplicationID
		channel string
		has     bool
		socket  bool
	}{
		{"", "a", true, true}, {"app", "a", true, true}, {"", "ba", false, false}, {"", "work", true, false},
		{"app", "own", true, true}, {"", "own", false, false}, {"other", "own", false, false},
		{"app", "ab", true, true}, // the project's comes first
		{"", "", false, false}, {"", "a" + strings.Repeat("x", 2000), false, false},
	} {
		require.Equal(t, want.has, r.Has(want.app, want.channel), want)
		path, ok := r.SocketPath(want.app, want.channel)
		require.Equal(t, want.socket, ok, want)
		if ok {
			require.Regexp(t, "^ws-Qm[1-9A-HJ-NP-Za-km-z]{44}/"+want.channel+"$", path)
		}
	}
	path, _ := r.SocketPath("", "a/b c?d#e%")
	require.True(t, strings.HasSuffix(path, "/a/b%20c%3Fd%23e%25"), path)
	_, err := messages.NewRules(&config.Project{Resources: config.Resources{Messaging: []config.Messaging{{Match: "(", Regex: true}}}}, run)
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}

// A function that has too much to do loses messages, and no one else waits.
func TestOverload(t *testing.T) {
	c := newCluster(t)
	n := c.add()
	release := make(chan struct{})
	var most, now atomic.Int32
	n.Deploy(main, rules(t, func(messages.Function) messages.Runner {
		return func(context.Context, *messages.Message) error {
			most.Store(max(most.Load(), now.Add(1)))
			<-release
			now.Add(-1)
			return nil
		}
	}))
	s := n.open(t, "a")
	for range 1000 {
		require.NoError(t, n.Publish(main, "work", []byte("x"), messages.Source{}))
	}
	require.NoError(t, n.Publish(main, "a", []byte("quick"), messages.Source{}))
	require.Equal(t, "quick", next(t, s.got))
	st := n.Stats()
	require.Equal(t, 1000, int(st.Dropped)+st.Pending)
	require.Equal(t, 16+256, st.Pending)
	close(release)
	testnet.Eventually(t, func() bool { return n.Stats().Pending == 0 && n.Stats().Run == 16+256 }, "not run")
	require.LessOrEqual(t, most.Load(), int32(16))
}

// What was taken is run before the node is gone.
func TestCloseRuns(t *testing.T) {
	c := newCluster(t)
	n := c.add()
	var runs atomic.Int32
	n.Deploy(main, rules(t, func(messages.Function) messages.Runner {
		return func(context.Context, *messages.Message) error { runs.Add(1); return nil }
	}))
	for range 200 {
		require.NoError(t, n.Publish(main, "work", []byte("x"), messages.Source{}))
	}
	require.NoError(t, n.Close(t.Context()))
	require.Equal(t, int32(200), runs.Load())
	require.ErrorIs(t, n.Publish(main, "work", []byte("x"), messages.Source{}), taubyte.ErrClosed)
}

func TestPublishRefused(t *testing.T) {
	c := newCluster(t)
	n := c.add()
	require.ErrorIs(t, n.Publish(main, "a", nil, messages.Source{}), messages.ErrNoChannel)
	n.Deploy(main, rules(t, nil))
	require.ErrorIs(t, n.Publish(main, "b", nil, messages.Source{}), messages.ErrNoChannel)
	require.ErrorIs(t, n.Publish(main, "a", make([]byte, 256<<10+1), messages.Source{}), taubyte.ErrTooLarge)
	require.ErrorIs(t, n.Publish(main, "a", nil, messages.Source{Depth: messages.MaxDepth}), messages.ErrCircle)
	// More than may be on its way is refused, and the publisher told.
	big := make([]byte, 256<<10)
	var err error
	for range 1000 {
		if err = n.Publish(main, "a", big, messages.Source{}); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, messages.ErrBusy)
	require.NotZero(t, n.Stats().Refused)
	testnet.Eventually(t, func() bool { return n.Publish(main, "a", big, messages.Source{}) == nil }, "never again")
}

// A socket whose other side is gone without a word is found out.
func TestDeadSocket(t *testing.T) {
	c := newCluster(t)
	n := c.add(func(c *messages.Config) { c.Limit.Ping = 50 * time.Millisecond })
	n.Deploy(main, rules(t, nil))
	alive := n.open(t, "a")
	path, _ := rules(t, nil).SocketPath("", "a")
	hash := strings.TrimPrefix(strings.Split(path, "/")[0], "ws-")
	dead, _, err := websocket.Dial(t.Context(), n.http.URL+"?branch=main&channel=a&hash="+hash, nil)
	require.NoError(t, err)
	defer dead.CloseNow() // it reads nothing, and so answers no ping
	testnet.Eventually(t, func() bool { return n.Stats().Sockets == 1 }, "still there")
	require.NoError(t, n.Publish(main, "a", []byte("x"), messages.Source{}))
	require.Equal(t, "x", next(t, alive.got))
}

// Frames say of each message whether it is text, also to nodes that knew of none.
func TestFramesOfText(t *testing.T) {
	text, binary := messages.FrameOfText(1, 1, main, "a", "grüße"), messages.Frame(1, 1, main, "a", "grüße")
	head := len(messages.Frame(1, 1, main, "a", "grüße")) - len(binary) + 17
	both := slices.Concat(text, binary[head:], text[head:])
	for _, frame := range [][]byte{text, binary, both} {
		out, err := messages.Decode(frame)
		require.NoError(t, err)
		require.Equal(t, frame, out)
	}
	_, err := messages.Decode(append(slices.Clone(binary), 0, 0, 0, 0, 0))
	require.ErrorIs(t, err, taubyte.ErrInvalid, "it ends before its text")
	_, err = messages.Decode(append(slices.Clone(binary), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}

func FuzzFrame(f *testing.F) {
	f.Add(messages.FrameOfText(1, 1, main, "a", "text"))
	f.Add(messages.Frame(1, 1, main, "a", "data"))
	f.Add(messages.Frame(1<<63, 1<<40, messages.Branch{}, "", ""))
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, raw []byte) {
		out, err := messages.Decode(raw)
		if err != nil {
			require.ErrorIs(t, err, taubyte.ErrInvalid)
			return
		}
		again, err := messages.Decode(out)
		require.NoError(t, err)
		require.Equal(t, out, again)
	})
}

func FuzzDelivery(f *testing.F) {
	f.Add(messages.Deliver(messages.Function{Application: "app", ID: "f"}, messages.Message{Branch: main, Scope: "s", Channel: "c", Data: "d", Depth: 3}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		to, m, err := messages.Delivered(raw)
		if err != nil {
			require.ErrorIs(t, err, taubyte.ErrInvalid)
			return
		}
		to2, m2, err := messages.Delivered(messages.Deliver(to, m))
		require.NoError(t, err)
		require.Equal(t, to, to2)
		require.Equal(t, m, m2)
	})
}
