package substrate_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
	"github.com/taubyte/taubyte/tns/config"
)

// another starts a second node of the cloud, which is a substrate node alone, and
// waits until all know of it. There is no hoarder: the first node gives it all content.
func (c *cloud) another(opts ...substrate.Option) *cloud {
	c.Helper()
	c.Cleanup(c.node.ShareBlocks(func(m taubyte.Membership, _ cid.Cid) bool { return m.Has(taubyte.RoleSubstrate) }))
	before := len(c.node.PubSub().ListPeers("/taubyte/substrate/peers/1"))
	other := &cloud{TB: c.TB, net: c.net, registry: c.registry, node: c.net.Node(taubyte.RoleSubstrate)}
	other.service = other.start(opts...)
	testnet.Eventually(c, func() bool {
		return len(other.node.PubSub().ListPeers("/taubyte/substrate/peers/1")) == before+1 && len(c.node.PubSub().ListPeers("/taubyte/substrate/peers/1")) == before+1
	}, "they do not hear each other")
	for _, n := range []*cloud{c, other} {
		finder := n.node.Local(rpc.FinderProtocol).(rpc.Finder)
		testnet.Eventually(c, func() bool { return len(finder.Find("/taubyte/substrate/peers/1")) == before+2 }, "they do not know each other")
	}
	return other
}

// both deploys and waits until two nodes serve it.
func (c *cloud) both(other *cloud, things ...thing) {
	c.Helper()
	sequence := c.publish(things...)
	ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
	defer cancel()
	require.NoError(c, c.service.Serving(ctx, project, "main", sequence))
	require.NoError(c, other.service.Serving(ctx, project, "main", sequence))
}

func service(name, protocol string) thing {
	s := config.Service{Common: config.Common{ID: taubyte.ResourceID("id-" + name), Name: name}, Protocol: protocol}
	return thing{id: s.ID, add: func(r *config.Resources) { r.Services = append(r.Services, s) }}
}

// agent is a function for a command.
func agent(name, protocol, command string, module []byte) thing {
	return fn(name, "", module, func(f *config.Function) {
		f.Type, f.Method, f.Domains, f.Paths, f.Service, f.Command = config.TriggerP2P, "", nil, nil, protocol, command
	})
}

// replies is a guest that answers a command with where it runs and what it was
// told: the CID of the peer, ">" and the data.
func replies() []byte {
	m := New(1)
	fetch := func(name string, at int32) [][]byte {
		size, get := m.SDK(name+"Size", "ii:i"), m.SDK(name, "ii:i")
		return [][]byte{Get(0), I32(0), Call(size), Drop, Get(0), I32(at), Call(get), Drop}
	}
	to, data := fetch("getP2PEventTo", 64), fetch("getP2PEventData", 1024)
	write := m.SDK("writeP2PResponse", "iii:i")
	m.Data(1023, ">")
	code := append(append([][]byte{}, to...), data...)
	// The CID of a peer with an Ed25519 key has 40 bytes: 64…104 are moved before the ">".
	for i := int32(0); i < 40; i += 4 {
		code = append(code, I32(983+i), I32(64+i), Load, Store)
	}
	code = append(code, Get(0), I32(983), I32(0), Load, I32(41), Add, Call(write), Drop)
	m.Func("ping", "i:", "", code...)
	return m.Bytes()
}

// silent is a guest that does nothing for its event.
func silent() []byte {
	m := New(1)
	m.Func("ping", "i:", "")
	return m.Bytes()
}

// asks is a guest that sends a command, from whatever event, and answers an HTTP
// request with the reply; the status is 200 and the errno of sending, or 300 and that of
// making the command. Where other is set it asks another peer, which it discovers.
func asks(protocol, command, data string, other bool) []byte {
	m := New(1)
	make := m.SDK("newCommand", "iiiii:i")
	send := m.SDK("sendCommand", "iiii:i")
	sendTo := m.SDK("sendCommandTo", "iiiii:i")
	read := m.SDK("readCommandResponse", "iii:i")
	discoverSize := m.SDK("discoverPeersSize", "iiii:i")
	discover := m.SDK("discoverPeers", "ii:i")
	write := m.SDK("eventHttpWrite", "iiii:i")
	code := m.SDK("eventHttpRetCode", "ii:i")
	m.Data(64, protocol)
	m.Data(128, command)
	m.Data(192, data)
	body := [][]byte{
		I32(64), I32(int32(len(protocol))), I32(128), I32(int32(len(command))), I32(0), Call(make), Set(1),
		Get(1), If, Get(0), Get(1), I32(300), Add, Call(code), Drop, Return, End,
	}
	if other {
		body = append(body, I32(4), I32(1_000_000_000), I32(8), I32(12), Call(discoverSize), Drop,
			I32(8), Load, I32(2048), Call(discover), Drop,
			I32(0), Load, I32(2050), I32(192), I32(int32(len(data))), I32(4), Call(sendTo), Set(1))
	} else {
		body = append(body, I32(0), Load, I32(192), I32(int32(len(data))), I32(4), Call(send), Set(1))
	}
	body = append(body, Get(0), Get(1), I32(200), Add, Call(code), Drop,
		I32(0), Load, I32(1024), I32(4), Load, Call(read), Drop,
		Get(0), I32(1024), I32(4), Load, I32(16), Call(write), Drop)
	m.Func("ping", "i:", "i", body...)
	return m.Bytes()
}

func TestCommands(t *testing.T) {
	c := newCloud(t)
	other := c.another()
	there := func(n *cloud, text string) string {
		return "200 " + peer.ToCid(n.node.ID()).KeyString() + ">" + text
	}
	c.both(other, append(inApplication("app",
		service("inner", "/inner/v1"),
		agent("inner-agent", "/inner/v1", "hi", replies()),
		fn("inner-ask", "/inner", asks("/inner/v1", "hi", "inner", false)),
	),
		service("greetings", "/greetings/v1"),
		agent("greet", "/greetings/v1", "hi", replies()),
		agent("mute", "/greetings/v1", "mute", silent()),
		agent("loop", "/greetings/v1", "loop", asks("/greetings/v1", "loop", "", false)),
		agent("hidden", "/unknown/v1", "hi", replies()),
		fn("any", "/any", asks("/greetings/v1", "hi", "hello", false)),
		fn("to", "/to", asks("/greetings/v1", "hi", strings.Repeat("x", 500), true)),
		fn("ask-mute", "/mute", asks("/greetings/v1", "mute", "", false)),
		fn("ask-loop", "/loop", asks("/greetings/v1", "loop", "", false)),
		fn("nobody", "/nobody", asks("/greetings/v1", "nothing", "", false)),
		fn("unknown", "/unknown", asks("/unknown/v1", "hi", "", false)),
		fn("outer", "/outer", asks("/inner/v1", "hi", "", false)),
	)...)

	require.Equal(t, there(c, "hello"), c.get("/any"), "near by")
	require.Equal(t, there(other, "hello"), other.get("/any"))
	require.Equal(t, there(other, strings.Repeat("x", 500)), c.get("/to"))
	require.Equal(t, there(c, strings.Repeat("x", 500)), other.get("/to"))
	require.Equal(t, there(c, "inner"), c.get("/inner"))

	for path, errno := range map[string]int{
		"/nobody": 200 + 43, "/mute": 200 + 49,
		// No service of the configuration: another application's, or none at all.
		"/unknown": 300 + 45, "/outer": 300 + 45,
	} {
		require.Contains(t, c.get(path), fmt.Sprint(errno), path)
	}

	// A circle ends, and those in it are told.
	require.NotEmpty(t, c.get("/loop"))
	testnet.Eventually(t, func() bool { return stats(c.service).InFlight == 0 }, "still going round")

	// A node that is gone is passed over, and is not asked for.
	require.NoError(t, other.service.Close())
	require.Equal(t, there(c, "hello"), c.get("/any"))
	require.Contains(t, c.get("/to"), "243")
}

// Only substrate nodes have commands run.
func TestCommandsAreForSubstrate(t *testing.T) {
	c := newCloud(t)
	c.deploy(page, service("greetings", "/greetings/v1"), agent("greet", "/greetings/v1", "hi", replies()))
	as := func(ctx context.Context, roles ...taubyte.Role) (string, error) {
		client := rpc.NewClient(c.net.Node(roles...), "/taubyte/substrate/peers/1", nil)
		defer client.Close()
		resp, err := client.Open(ctx, c.node.ID(), http.MethodPost,
			"/commands/run?branch=main&command=hi&depth=1&protocol=/greetings/v1&project="+string(project), strings.NewReader("x"))
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	ask := func(roles ...taubyte.Role) (string, error) { return as(t.Context(), roles...) }
	reply, err := ask(taubyte.RoleSubstrate)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(reply, ">x"), reply)
	_, err = ask(taubyte.RoleGateway, taubyte.RoleMonkey, taubyte.RoleHoarder)
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	// Of functions, those of the branch.
	own := taubyte.Principal{Kind: taubyte.KindFunction, Projects: []taubyte.ProjectID{project}, Branch: "main", Resource: "f"}
	reply, err = as(taubyte.WithPrincipal(t.Context(), own), taubyte.RoleSubstrate)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(reply, ">x"), reply)
	foreign, branch, inner := own, own, own
	foreign.Projects, branch.Branch, inner.Application = []taubyte.ProjectID{otherProject}, "dev", "app"
	for _, p := range []taubyte.Principal{foreign, branch, inner} {
		_, err = as(taubyte.WithPrincipal(t.Context(), p), taubyte.RoleSubstrate)
		require.ErrorIs(t, err, taubyte.ErrForbidden)
	}
}
