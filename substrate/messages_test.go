package substrate_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
	"github.com/taubyte/taubyte/tns/config"
)

// channels is a messaging resource.
func channels(name, match string, change ...func(*config.Messaging)) thing {
	m := config.Messaging{Common: config.Common{ID: taubyte.ResourceID("id-" + name), Name: name}, Match: match, WebSocket: true}
	for _, c := range change {
		c(&m)
	}
	return thing{id: m.ID, add: func(r *config.Resources) { r.Messaging = append(r.Messaging, m) }}
}

// page is what a project has on its host, which makes it known.
var page = fn("page", "/", Pong())

func regex(m *config.Messaging) { m.Regex = true }

// listener is a function that listens on a channel.
func listener(name, channel string, module []byte) thing {
	return fn(name, "", module, func(f *config.Function) {
		f.Type, f.Method, f.Domains, f.Paths, f.Channel = config.TriggerPubSub, "", nil, nil, channel
	})
}

// inApplication puts things into an application.
func inApplication(id taubyte.ApplicationID, things ...thing) []thing {
	var out []thing
	for _, t := range things {
		add := t.add
		t.app = func(p *config.Project) {
			for i := range p.Applications {
				if p.Applications[i].ID == id {
					add(&p.Applications[i].Resources)
					return
				}
			}
			p.Applications = append(p.Applications, config.Application{ID: id, Name: string(id)})
			add(&p.Applications[len(p.Applications)-1].Resources)
		}
		out = append(out, t)
	}
	return out
}

// forwards is a guest that publishes what it gets: from an HTTP request the text, from
// a channel the message with a ">" before it.
func forwards(to, text string) []byte {
	m := New(2)
	kind := m.SDK("getEventType", "ii:")
	size := m.SDK("getMessageDataSize", "ii:i")
	data := m.SDK("getMessageData", "ii:i")
	publish := m.SDK("publishToChannel", "iiii:i")
	code := m.SDK("eventHttpRetCode", "ii:i")
	m.Data(16, to)
	m.Data(512, text)
	m.Data(1023, ">")
	m.Func("ping", "i:", "", Get(0), I32(0), Call(kind), I32(0), Load, I32(2), Eq, If,
		Get(0), I32(0), Call(size), Drop, Get(0), I32(1024), Call(data), Drop,
		I32(16), I32(int32(len(to))), I32(1023), I32(0), Load, I32(1), Add, Call(publish), Drop,
		Else,
		// 200 + the errno of publishing
		Get(0), I32(16), I32(int32(len(to))), I32(512), I32(int32(len(text))), Call(publish), I32(200), Add, Call(code), Drop,
		End)
	return m.Bytes()
}

func hashOf(p taubyte.ProjectID, app taubyte.ApplicationID) string {
	h, _ := multihash.Sum([]byte(string(p)+string(app)), multihash.SHA2_256, -1)
	return base58.Encode(h)
}

// A socket is a WebSocket of a test.
type socket struct {
	testing.TB
	*websocket.Conn
	got chan string // messages, and at last why it ended
}

// site is the node as a web server of its own.
func (c *cloud) site() *httptest.Server {
	s := httptest.NewServer(c.service)
	c.Cleanup(s.Close)
	return s
}

func dial(t testing.TB, base, host, path string, header ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	ws, resp, err := websocket.Dial(t.Context(), strings.Replace(base, "http", "ws", 1)+path, &websocket.DialOptions{Host: host, HTTPHeader: h, HTTPClient: &http.Client{Transport: tr}})
	if resp != nil && resp.Body != nil && err != nil {
		_ = resp.Body.Close()
	}
	return ws, resp, err
}

func open(t testing.TB, base, path string) *socket {
	t.Helper()
	ws, _, err := dial(t, base, domain, path)
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
				s.got <- fmt.Sprintf("closed %d %s", closed.Code, closed.Reason)
				return
			}
			s.got <- string(text)
		}
	}()
	t.Cleanup(func() {
		_ = ws.CloseNow()
		<-done
	})
	return s
}

func (s *socket) next() string {
	s.Helper()
	select {
	case m := <-s.got:
		return m
	case <-time.After(30 * time.Second):
		require.FailNow(s, "nothing came")
		return ""
	}
}

func (s *socket) say(text string) {
	s.Helper()
	kind := websocket.MessageText
	if !utf8.ValidString(text) {
		kind = websocket.MessageBinary
	}
	require.NoError(s, s.Write(s.Context(), kind, []byte(text)))
}

// Text comes out as text and binary as binary. What is no text ends the socket that says
// it is, and nobody gets it.
func TestTextAndBinary(t *testing.T) {
	c := newCloud(t)
	c.deploy(page, channels("rooms", "^room/[a-z]+$", regex))
	path := "/ws-" + hashOf(project, "") + "/room/a"
	base := c.site().URL
	one, _, err := dial(t, base, domain, path)
	require.NoError(t, err)
	defer func() { _ = one.CloseNow() }()
	two, _, err := dial(t, base, domain, path)
	require.NoError(t, err)
	defer func() { _ = two.CloseNow() }()
	for _, m := range []struct {
		kind websocket.MessageType
		text string
	}{
		{websocket.MessageText, "grüße"}, {websocket.MessageBinary, "\x00\xff"}, {websocket.MessageBinary, "grüße"}, {websocket.MessageText, ""},
		{websocket.MessageBinary, ""}, {websocket.MessageText, "\x00"}, {websocket.MessageText, strings.Repeat("ü", 1<<13)},
	} {
		require.NoError(t, one.Write(t.Context(), m.kind, []byte(m.text)))
		kind, got, err := two.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, m.kind, kind)
		require.Equal(t, m.text, string(got))
	}
	require.NoError(t, one.Write(t.Context(), websocket.MessageText, []byte("\xff\xfe")))
	_ = one.Write(t.Context(), websocket.MessageText, []byte("nor what follows"))
	_, _, err = one.Read(t.Context())
	require.Equal(t, websocket.StatusInvalidFramePayloadData, websocket.CloseStatus(err), err)
	three, _, err := dial(t, base, domain, path)
	require.NoError(t, err)
	defer func() { _ = three.CloseNow() }()
	require.NoError(t, three.Write(t.Context(), websocket.MessageText, []byte("next")))
	_, got, err := two.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, "next", string(got))
}

func TestWebSockets(t *testing.T) {
	c := newCloud(t)
	c.deploy(page, channels("rooms", "^room/[a-z]+$", regex), channels("quiet", "quiet", func(m *config.Messaging) { m.WebSocket = false }))
	s := c.site()
	path := "/ws-" + hashOf(project, "") + "/room/a"
	one, two, other := open(t, s.URL, path), open(t, s.URL, path), open(t, s.URL, "/ws-"+hashOf(project, "")+"/room/b")

	// Everybody else on the channel gets it, in order, and as it was.
	binary := strings.Repeat("\x00\xff", 50_000)
	for i := range 100 {
		one.say(fmt.Sprint(i))
	}
	one.say(binary)
	two.say("and back")
	for i := range 100 {
		require.Equal(t, fmt.Sprint(i), two.next())
	}
	require.Equal(t, binary, two.next())
	require.Equal(t, "and back", one.next())
	other.say("elsewhere")

	for path, status := range map[string]int{
		"/ws-" + hashOf(project, "") + "/quiet":     404,
		"/ws-" + hashOf(project, "") + "/room/A1":   404,
		"/ws-" + hashOf(project, "app") + "/room/a": 404,
		"/ws-" + hashOf("other", "") + "/room/a":    404,
		"/ws-nonsense/room/a":                       404,
	} {
		_, resp, err := dial(t, s.URL, domain, path)
		require.Error(t, err)
		require.Equal(t, status, resp.StatusCode, path)
	}
	w := c.do(request("GET", path))
	require.Equal(t, 426, w.Code, "no upgrade")

	// Pages of other sites are kept out, those of the project's are not.
	for origin, status := range map[string]int{
		"https://evil.example.test": 403, "null": 403, "http://" + domain + ".evil.test": 403,
		"https://" + domain: 101, "https://" + strings.ToUpper(domain): 101,
	} {
		ws, resp, err := dial(t, s.URL, domain, path, "Origin", origin)
		require.Equal(t, status, resp.StatusCode, origin)
		if err == nil {
			require.NoError(t, ws.CloseNow())
		}
	}

	// A client that is just gone leaves nothing.
	require.NoError(t, one.CloseNow())
	require.NoError(t, two.Close(websocket.StatusNormalClosure, ""))
	require.Equal(t, "closed 1000 ", two.next())
	testnet.Eventually(t, func() bool {
		return stats(c.service).Messages.Sockets == 1 && stats(c.service).Messages.Channels == 1
	}, "they are kept")

	// A new deployment leaves sockets alone whose channel is still there.
	kept, gone := open(t, s.URL, path), other
	c.deploy(page, channels("rooms", "^room/a$", regex))
	require.Equal(t, `{"message":null,"error":"the channel is gone"}`, gone.next())
	require.Equal(t, "closed 1008 the channel is gone", gone.next())
	again := open(t, s.URL, path)
	again.say("still here?")
	require.Equal(t, "still here?", kept.next())

	// A node that stops says so.
	require.NoError(t, c.service.Close())
	require.Equal(t, "closed 1012 this node stops: connect again", kept.next())
	require.Zero(t, stats(c.service).Messages.Sockets)
}

func TestPubSub(t *testing.T) {
	c := newCloud(t)
	c.deploy(append(inApplication("app",
		listener("inner", "news", forwards("inner-out", "")),
		channels("app-only", "inner-out"),
		fn("inner-say", "/inner", forwards("inner-out", "from the application")),
	),
		channels("main", "^(news|out)$", regex), channels("loop", "loop"), channels("circle", "^(tick|tock)$", regex),
		listener("echo", "news", forwards("out", "")),
		listener("own", "loop", forwards("loop", "")),
		listener("tick", "tick", forwards("tock", "")), listener("tock", "tock", forwards("tick", "")),
		fn("say", "/say", forwards("news", "hello")),
		fn("say-nothing", "/nothing", forwards("nobody", "hello")),
		fn("say-inner", "/outer", forwards("inner-out", "hello")),
		fn("say-tick", "/tick", forwards("tick", "")),
	)...)
	s := c.site()
	ws := "/ws-" + hashOf(project, "") + "/"
	news, out, loop := open(t, s.URL, ws+"news"), open(t, s.URL, ws+"out"), open(t, s.URL, ws+"loop")
	inner := open(t, s.URL, "/ws-"+hashOf(project, "app")+"/inner-out")
	shared := open(t, s.URL, "/ws-"+hashOf(project, "app")+"/news")

	// A function that publishes reaches sockets and functions: those that one
	// messaging resource connects with the channel, each once.
	require.Equal(t, "200 ", c.get("/say"))
	require.Equal(t, "hello", news.next())
	require.Equal(t, "hello", shared.next(), "an application shares the project's channels")
	// "main" stands for both channels, and so who listens on "news" also hears "out",
	// but not what it said itself.
	require.Equal(t, ">hello", out.next())
	require.ElementsMatch(t, []string{">hello", ">>hello"}, []string{inner.next(), inner.next()})
	select {
	case m := <-out.got:
		require.Fail(t, "more was said", m)
	default:
	}

	require.Equal(t, "221 ", c.get("/nothing"), "a channel that nothing stands for")
	require.Equal(t, "221 ", c.get("/outer"), "the project does not see an application's")
	require.Equal(t, "200 ", c.get("/inner"))
	require.Equal(t, "from the application", inner.next())

	// Nobody hears itself: not the function, not the socket.
	loop.say("x")
	require.Equal(t, ">x", loop.next())
	before := stats(c.service).Messages.Run

	// Two functions that answer each other do not go on for ever.
	require.Equal(t, "200 ", c.get("/tick"))
	testnet.Eventually(t, func() bool {
		m := stats(c.service).Messages
		return m.Run >= before+32 && m.Pending == 0
	}, "not ended")
	require.Zero(t, stats(c.service).Messages.Dropped)
	select {
	case m := <-loop.got:
		require.Fail(t, "more was said", m)
	default:
	}
}

func TestSlowSocket(t *testing.T) {
	c := newCloud(t)
	c.deploy(page, channels("room", "room"))
	s := c.site()
	path := "/ws-" + hashOf(project, "") + "/room"
	slow, _, err := dial(t, s.URL, domain, path)
	require.NoError(t, err)
	defer slow.CloseNow()
	speaker, quick := open(t, s.URL, path), open(t, s.URL, path)

	// slow reads nothing: it is given up, and nobody waits for it.
	big := strings.Repeat("x", 200_000)
	for i := 0; stats(c.service).Messages.Slow == 0; i++ {
		require.Less(t, i, 1000)
		speaker.say(big)
		require.Equal(t, big, quick.next())
	}
	// What it finds when it reads again is the reason.
	slow.SetReadLimit(1 << 20)
	last := ""
	for {
		_, text, err := slow.Read(t.Context())
		if err != nil {
			require.Equal(t, websocket.StatusTryAgainLater, websocket.CloseStatus(err), err)
			break
		}
		last = string(text)
	}
	require.Equal(t, `{"message":null,"error":"too slow: messages were lost"}`, last)
	testnet.Eventually(t, func() bool { return stats(c.service).Messages.Sockets == 2 }, "still there")
}

func TestSocketLimits(t *testing.T) {
	c := newCloud(t, substrate.WithLimits(substrate.Limits{ProjectSockets: 2, Message: 100}))
	c.deploy(page, channels("room", "room"))
	s := c.site()
	path := "/ws-" + hashOf(project, "") + "/room"
	one := open(t, s.URL, path)
	open(t, s.URL, path)
	_, resp, err := dial(t, s.URL, domain, path)
	require.Error(t, err)
	require.Equal(t, 503, resp.StatusCode)
	one.say(strings.Repeat("x", 101))
	require.Contains(t, one.next(), "closed 1009")
	testnet.Eventually(t, func() bool { return stats(c.service).Messages.Sockets == 1 }, "still there")
	open(t, s.URL, path)
}

// On two nodes everybody hears everybody, and a function runs once for a message.
func TestMessagesAcrossNodes(t *testing.T) {
	c := newCloud(t)
	other := c.another()
	things := []thing{page, channels("main", "^(in|out)$", regex), listener("echo", "in", forwards("out", ""))}
	c.both(other, things...)
	path := "/ws-" + hashOf(project, "") + "/"
	here, there := c.site(), other.site()
	in := []*socket{open(t, here.URL, path+"in"), open(t, there.URL, path+"in")}
	out := []*socket{open(t, here.URL, path+"out"), open(t, there.URL, path+"out")}
	const n = 50
	for i := range n {
		in[i%2].say(fmt.Sprint(i))
	}
	for at, s := range in {
		for i := range n / 2 { // what the other said, in order
			require.Equal(t, fmt.Sprint(2*i+1-at), s.next())
		}
	}
	for _, s := range out {
		seen := map[string]bool{}
		for range n {
			seen[s.next()] = true
		}
		require.Len(t, seen, n)
		require.Empty(t, s.got)
	}
	require.NotZero(t, stats(c.service).Messages.Run)
	require.NotZero(t, stats(other.service).Messages.Run)
	require.Equal(t, uint64(n), stats(c.service).Messages.Run+stats(other.service).Messages.Run)

	// One node goes: its sockets are told, and functions run on the other.
	require.NoError(t, other.service.Close())
	require.Contains(t, in[1].next(), "closed 1012")
	for i := range n {
		in[0].say(fmt.Sprint("again ", i))
	}
	for range n {
		require.Contains(t, out[0].next(), ">again ")
	}
	require.Empty(t, out[0].got)
	require.Zero(t, stats(c.service).Messages.Dropped)
}

// Users come through gateways: one on the node itself, or one on another.
func TestSocketsThroughGateway(t *testing.T) {
	c := newCloud(t)
	path := "/ws-" + hashOf(project, "") + "/room"
	for _, at := range []*testnet.Node{c.node, c.net.Node(taubyte.RoleGateway)} {
		c.deploy(page, channels("room", "room"))
		g, err := gateway.New(t.Context(), at, at.Store, gateway.WithListen("127.0.0.1:0"), gateway.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, g.Close()) })
		one, two := open(t, "http://"+g.Addr(), path), open(t, "http://"+g.Addr(), path)
		big := strings.Repeat("x", 200_000)
		for _, text := range []string{"hello", big, ""} {
			one.say(text)
			require.Equal(t, text, two.next())
		}
		two.say("back")
		require.Equal(t, "back", one.next())
		_, resp, err := dial(t, "http://"+g.Addr(), domain, path+"s")
		require.Error(t, err)
		require.Equal(t, 404, resp.StatusCode)
		require.NoError(t, one.CloseNow())
		c.deploy(page) // the channel is gone
		require.Equal(t, `{"message":null,"error":"the channel is gone"}`, two.next())
		require.Equal(t, "closed 1008 the channel is gone", two.next())
		testnet.Eventually(t, func() bool { return stats(c.service).Messages.Sockets == 0 }, "still there")
	}
}
