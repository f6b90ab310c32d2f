package rpc_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/libp2p/go-libp2p/p2p/net/gostream"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
)

func TestWhoAsksCrosses(t *testing.T) {
	nw := testnet.New(t)
	server := nw.Node()
	serve(t, server, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := taubyte.PrincipalOf(r.Context())
		rpc.Reply(w, struct {
			taubyte.Principal
			From string
		}{p, p.Node.Peer.String()}, nil, codes)
	}))
	monkey, substrate := nw.Node(taubyte.RoleMonkey), nw.Node(taubyte.RoleSubstrate)
	type seen struct {
		taubyte.Principal
		From string
	}
	ask := func(h taubyte.Host, p taubyte.Principal) (got seen, err error) {
		return got, client(t, h).CallPeer(taubyte.WithPrincipal(t.Context(), p), server.ID(), http.MethodGet, "/", nil, &got)
	}
	user := taubyte.Principal{Kind: taubyte.KindUser, Name: "ann", Verb: taubyte.VerbRead, Projects: []taubyte.ProjectID{"shop"}}
	for _, h := range []taubyte.Host{monkey, substrate} {
		got, err := ask(h, user)
		require.NoError(t, err)
		require.Equal(t, seen{user, h.ID().String()}, got)
		for _, own := range []taubyte.Principal{taubyte.Administrator(), {Kind: taubyte.KindNode, Name: "other"}} {
			got, err = ask(h, own)
			require.NoError(t, err)
			require.Equal(t, taubyte.KindNode, got.Kind, "an administrator is none elsewhere, and a node is who it is")
			require.Equal(t, h.ID().String(), got.Name)
		}
	}
	job, function := taubyte.Principal{Kind: taubyte.KindJob, Job: "j"}, taubyte.Principal{Kind: taubyte.KindFunction, Resource: "f"}
	for _, c := range []struct {
		from taubyte.Host
		p    taubyte.Principal
		may  bool
	}{{monkey, job, true}, {substrate, job, false}, {substrate, function, true}, {monkey, function, false}, {monkey, taubyte.Principal{}, false}} {
		_, err := ask(c.from, c.p)
		if c.may {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, taubyte.ErrForbidden, "%v", c.p)
		}
	}
	// The header itself: nobody may claim to be a node or an administrator, what can't be
	// read is no call at all, and what a stranger wrote goes no further.
	status := func(tr http.RoundTripper, said string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+server.ID().String()+"/", nil)
		require.NoError(t, err)
		req.Header.Set("Taubyte-Principal", said)
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	raw := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return gostream.Dial(ctx, monkey, server.ID(), proto)
	}, DisableKeepAlives: true}
	tr := rpc.NewTransport(monkey, proto)
	t.Cleanup(tr.Close)
	for said, want := range map[string]int{`{"kind":"administrator"}`: http.StatusForbidden, `{"kind":"node"}`: http.StatusForbidden,
		`{}`: http.StatusForbidden, `{`: http.StatusBadRequest, `{"kind":"user"}`: http.StatusOK} {
		require.Equal(t, want, status(raw, said), said)
		require.Equal(t, http.StatusOK, status(tr, said), said)
	}
}
