package substrate_test

import (
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
	"github.com/taubyte/taubyte/tns/config"
)

// ticker is a guest that posts to a URL when its tick was due.
func ticker(url string) []byte {
	m := New(1)
	due := m.SDK("getTimerEventScheduled", "ii:i")
	client, request := m.SDK("newHttpClient", "i:i"), m.SDK("newHttpRequest", "ii:i")
	setURL, setMethod, setBody := m.SDK("setHttpRequestURL", "iiii:i"), m.SDK("setHttpRequestMethod", "iii:i"), m.SDK("setHttpRequestBody", "iiii:i")
	do := m.SDK("doHttpRequest", "ii:i")
	m.Data(64, url)
	c, r := append(I32(16), Load...), append(I32(20), Load...)
	m.Func("ping", "i:", "",
		Get(0), I32(0), Call(due), If, Unreachable, End,
		I32(16), Call(client), Drop, c, I32(20), Call(request), Drop,
		c, r, I32(64), I32(int32(len(url))), Call(setURL), Drop,
		c, r, I32(2), Call(setMethod), Drop,
		c, r, I32(0), I32(8), Call(setBody), Drop,
		c, r, Call(do), Drop)
	return m.Bytes()
}

// counter counts the ticks that ticker posts.
type counter struct {
	mu   sync.Mutex
	runs map[int64]int
	url  string
}

func newCounter(t *testing.T) *counter {
	c := &counter{runs: map[int64]int{}}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) != 8 {
			t.Error(len(body), err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.runs[int64(binary.LittleEndian.Uint64(body))]++
	}))
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

func (c *counter) check(t *testing.T) (n int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for due, runs := range c.runs {
		require.Equal(t, 1, runs, time.Unix(0, due))
		require.Zero(t, due%int64(time.Second))
	}
	return len(c.runs)
}

func every(f *config.Function) {
	f.Type, f.Method, f.Domains, f.Paths, f.Schedule = config.TriggerTimer, "", nil, nil, "@every 1s"
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// A timer's ticks run once in the cluster, also while a node is lost, another one comes
// and the function is replaced.
func TestTimers(t *testing.T) {
	count := newCounter(t)
	c := newCloud(t, substrate.WithEgress(loopback))
	type member struct {
		node    *testnet.Node
		service *substrate.Service
	}
	add := func() member {
		n := c.net.Node()
		s, err := substrate.New(t.Context(), n, n.Store, substrate.WithLogger(testnet.Logger(t)), substrate.WithEgress(loopback), substrate.WithGrace(time.Second))
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return member{n, s}
	}
	members := []member{{c.node, c.service}, add(), add()}
	c.deploy(fn("tick", "", ticker(count.url), every))
	shared := func() bool {
		return !slices.ContainsFunc(members, func(m member) bool { return stats(m.service).Ticks == 0 })
	}
	testnet.Eventually(t, shared, "not every node runs ticks")
	count.check(t)

	lost := members[1]
	c.net.Forget(lost.node)
	require.NoError(t, lost.node.Close()) // without a word to the others
	_ = lost.service.Close()
	members = []member{members[0], members[2], add()}
	before := count.check(t)
	testnet.Eventually(t, shared, "the new node runs no ticks")
	testnet.Eventually(t, func() bool { return count.check(t) >= before+5 }, "it does not go on")

	// A deployment that replaces the function has the next ticks, one without it ends
	// the timer.
	second := newCounter(t)
	c.deploy(fn("tick", "", ticker(second.url), every))
	testnet.Eventually(t, func() bool { return second.check(t) > 0 }, "the new function runs no ticks")
	c.deploy(fn("ping", "/ping", Pong()))
	testnet.Eventually(t, func() bool { return stats(c.service).Timers == 0 }, "there still is a timer")
	count.mu.Lock()
	defer count.mu.Unlock()
	second.mu.Lock()
	defer second.mu.Unlock()
	for due := range second.runs {
		require.Zero(t, count.runs[due], "run by both")
	}
}
