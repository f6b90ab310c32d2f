package testcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// A CrowdFigure is what it took to have many users on one page at the same time.
type CrowdFigure struct {
	Open     int           // sockets that were open at the end
	Failed   int           // that were not opened, or ended
	Took     time.Duration // until all were open
	Why      []string      // some of the failures
	First    time.Duration // from a user's message until the first other one had it,
	Median   time.Duration // until half had it,
	Last     time.Duration // and until all had
	Received int           // by how many it was received
	// Memory is how much more resident memory each node's process has, by its name.
	Memory map[string]int64
}

func (f CrowdFigure) String() string {
	s := fmt.Sprintf("%d sockets open after %s, %d failed %v; a message: first after %s, half %s, all %d %s",
		f.Open, f.Took.Round(100*time.Millisecond), f.Failed, f.Why, f.First.Round(time.Microsecond), f.Median.Round(time.Millisecond), f.Received, f.Last.Round(time.Millisecond))
	for name, n := range f.Memory {
		s += fmt.Sprintf("; %s %.1f KB a socket", name, float64(n)/1e3/float64(max(f.Open, 1)))
	}
	return s
}

// crowdAddrs are the addresses that a crowd comes from: one of its own has no more than a
// client's share of a gateway.
const crowdAddrs = 100

// Crowd opens n WebSockets of a copy of the example chat through one gateway, from 100
// addresses, keeps all of them, and sends one message to all. The machine has to allow
// the test and the gateway n open files each. Linux has so many addresses of loopback.
func (c *Cluster) Crowd(p *Project, g *Node, n int) CrowdFigure {
	c.t.Helper()
	var clients []*http.Client
	for i := range crowdAddrs {
		d := c.dialer(i)
		if c.wire == nil {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}), 0))
		}
		t := &http.Transport{DialContext: d.DialContext}
		defer t.CloseIdleConnections()
		clients = append(clients, &http.Client{Transport: t})
	}
	status, path, err := send(context.Background(), clients[0], http.MethodGet, g.users, p.Host(), "/socket", nil)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, status)

	f := CrowdFigure{Memory: map[string]int64{}}
	before := map[string]int64{}
	for _, node := range c.nodes {
		before[node.Name] = node.resident()
	}
	ctx, leave := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer leave()
	var mu sync.Mutex
	var got []time.Time
	var open atomic.Int64
	word := []byte("is everybody there?")
	sockets := make([]*websocket.Conn, n)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if f.Failed++; len(f.Why) < 3 && err != nil {
			text, _, _ := strings.Cut(err.Error(), "\n")
			f.Why = append(f.Why, text)
		}
	}
	read := func(ws *websocket.Conn) {
		defer open.Add(-1)
		defer ws.CloseNow()
		for {
			_, text, err := ws.Read(ctx)
			if err != nil {
				if ctx.Err() == nil {
					fail(err)
				}
				return
			}
			if bytes.Equal(text, word) {
				mu.Lock()
				got = append(got, time.Now())
				mu.Unlock()
			}
		}
	}
	began := time.Now()
	places := make(chan struct{}, 64)
	var dials sync.WaitGroup
	for i := range n {
		places <- struct{}{}
		dials.Go(func() {
			defer func() { <-places }()
			dial, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			ws, resp, err := websocket.Dial(dial, "ws://"+g.users+"/"+string(path), &websocket.DialOptions{
				Host: p.Host(), HTTPHeader: http.Header{"Origin": {"http://" + p.Host()}}, HTTPClient: clients[i%crowdAddrs],
			})
			if err != nil {
				if resp != nil {
					err = errors.Join(errors.New(resp.Status), err)
				}
				fail(err)
				return
			}
			sockets[i] = ws
			open.Add(1)
			wg.Go(func() { read(ws) })
		})
	}
	dials.Wait()
	f.Took = time.Since(began)
	time.Sleep(2 * time.Second) // until what opening them took is given back
	for _, node := range c.nodes {
		f.Memory[node.Name] = node.resident() - before[node.Name]
	}
	i := slices.IndexFunc(sockets, func(ws *websocket.Conn) bool { return ws != nil })
	require.GreaterOrEqual(c.t, i, 0, "%v", f.Why)
	sent := time.Now()
	require.NoError(c.t, sockets[i].Write(ctx, websocket.MessageText, word))
	for have, since := 0, time.Now(); time.Since(since) < 10*time.Second && have < int(open.Load()); time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		if len(got) > have {
			have, since = len(got), time.Now()
		}
		mu.Unlock()
	}
	mu.Lock()
	defer mu.Unlock()
	f.Open, f.Received = int(open.Load()), len(got)
	if len(got) > 0 {
		slices.SortFunc(got, time.Time.Compare)
		f.First, f.Median, f.Last = got[0].Sub(sent), got[len(got)/2].Sub(sent), got[len(got)-1].Sub(sent)
	}
	return f
}

// resident is the process's resident memory in bytes, 0 where that is not known.
func (n *Node) resident() int64 {
	p := n.running()
	if p == nil {
		return 0
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), "VmRSS:")
	kb, _ := strconv.ParseInt(strings.TrimSpace(strings.SplitN(rest, "kB", 2)[0]), 10, 64)
	return kb << 10
}
