package tns_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
)

func TestPreparationsAreBounded(t *testing.T) {
	testnet.CheckLeaks(t)
	const projects, most = 300, 64
	var now, peak, bad, done atomic.Int64
	release := make(chan struct{})
	prepare := func(ctx context.Context, d *tns.Deployment) error {
		n := now.Add(1)
		defer now.Add(-1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		if d.Project < "Qm00000000000000000000000000000000000000000100" {
			bad.Add(1)
			return errors.New("what nobody has")
		}
		select {
		case <-release:
		case <-ctx.Done():
			return ctx.Err()
		}
		done.Add(1)
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tab, err := tns.NewTable(ctx, once{many{projects: projects, routes: 1}}, tns.WithPrepare(prepare), tns.WithTableLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer tab.Close()
	testnet.Eventually(t, func() bool { return now.Load() >= most }, "as many as may are at work")
	close(release)
	testnet.Eventually(t, func() bool { return done.Load() == projects-100 }, "those that fail hold up none")
	testnet.Eventually(t, func() bool { return bad.Load() > 200 }, "and are tried again")
	require.LessOrEqual(t, peak.Load(), int64(2*most))
	require.Equal(t, tns.Found, tab.Lookup("p299.example.com", "/path/0", "GET").Status)
	require.Equal(t, tns.NoHost, tab.Lookup("p0.example.com", "/path/0", "GET").Status)
}

// once tells of deployments and then of nothing more.
type once struct{ many }

func (o once) Watch(ctx context.Context, _ string) (<-chan tns.Change, error) {
	ch := make(chan tns.Change)
	go func() {
		defer close(ch)
		for i := range o.projects {
			select {
			case ch <- o.deployment(i, 1):
			case <-ctx.Done():
				return
			}
		}
		select {
		case ch <- tns.Change{Ready: true, Token: "t"}:
		case <-ctx.Done():
			return
		}
		<-ctx.Done()
	}()
	return ch, nil
}

// A node that hangs keeps its connections. Who follows it goes on with another.
func TestANodeThatHangsIsLeft(t *testing.T) {
	nw := testnet.New(t)
	edge := nw.Node(taubyte.RoleSubstrate)
	hung := nw.Node(taubyte.RoleTNS)
	var asked atomic.Int64
	server, err := rpc.Serve(hung, tns.Protocol, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		s, err := rpc.NewStream(w)
		if err == nil {
			_ = s.Send(tns.Change{Ready: true, Token: "hung-1"})
		}
		<-r.Context().Done()
	}))
	require.NoError(t, err)
	defer server.Close()
	client := tns.NewClient(edge)
	defer client.Close()
	tab := table(t, client)
	testnet.Eventually(t, func() bool { age, heard := tab.Age(); return heard && age == 0 && asked.Load() == 1 }, "it is heard once")
	s := service(t, nw.Node(taubyte.RoleTNS), tns.WithOpenDomains())
	claim(t, s, shop, "main", 1, "h.example.com")
	testnet.Eventually(t, func() bool { return asked.Load() > 1 || tab.Serving(shop, "main") == 1 }, "its silence is noticed")
	owns(t, tab, "h.example.com", shop)
}

// A slash that was written as %2F is data (RFC 3986, 2.2): no route of another path is
// taken for it.
func TestSlashesThatAreData(t *testing.T) {
	for target, want := range map[string]string{
		"/x/y": "/x/y", "/x%2Fy": "/x%2Fy", "/x%2fy": "/x%2Fy", "/a%20b/c%2Fd%20e": "/a b/c%2Fd e", "/%2F": "/%2F", "/%2Fx": "/%2Fx",
		"/x%252Fy": "/x%2Fy", "/caf%C3%A9": "/café", "/a%2Bb%2Fc": "/a+b%2Fc", "/": "/", "/x/%2e%2e/y": "/x/../y",
	} {
		u, err := url.Parse("http://example.com" + target + "?q=%2F")
		require.NoError(t, err)
		require.Equal(t, want, tns.RequestPath(u), target)
	}
	require.Zero(t, testing.AllocsPerRun(10, func() { tns.RequestPath(&url.URL{Path: "/x/y"}) }))
}
