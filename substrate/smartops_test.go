package substrate_test

import (
	"encoding/binary"
	"net/http"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
	"github.com/taubyte/taubyte/tns/config"
)

// A smart operation that allows a request with the header X-Key, by the event that the
// resource is used by.
func keyed() []byte {
	m := New(1)
	event := m.Import("taubyte/smartops", "getEventId", "ii:i")
	size := m.SDK("getHttpEventHeadersSize", "iiii:i")
	m.Data(64, "X-Key")
	m.Func("check", "i:i", "",
		Get(0), I32(0), Call(event), If, I32(1), Return, End,
		append(I32(0), Load...), I32(4), I32(64), I32(5), Call(size), If, I32(1), Return, End,
		append(I32(4), Load...), Eqz)
	return m.Bytes()
}

// A smart operation that answers a number.
func says(n int32) []byte {
	m := New(1)
	m.Func("check", "i:i", "", I32(n))
	return m.Bytes()
}

func smartOp(name string, module []byte) thing {
	op := config.SmartOp{Common: config.Common{ID: taubyte.ResourceID("id-" + name), Name: name}, Source: ".", Timeout: 5 * time.Second, Memory: 1 << 20, Call: "check"}
	return thing{id: op.ID, module: module, add: func(r *config.Resources) { r.SmartOps = append(r.SmartOps, op) }}
}

// also changes a thing once it is in the configuration, where it is the last of its kind.
func also(t thing, change func(*config.Resources)) thing {
	add := t.add
	t.add = func(r *config.Resources) {
		add(r)
		change(r)
	}
	return t
}

func functionBy(by taubyte.ResourceID) func(*config.Resources) {
	return func(r *config.Resources) { guardedBy(by)(&r.Functions[len(r.Functions)-1]) }
}

func serviceBy(by taubyte.ResourceID) func(*config.Resources) {
	return func(r *config.Resources) { r.Services[len(r.Services)-1].SmartOps = []taubyte.ResourceID{by} }
}

func websiteBy(by taubyte.ResourceID) func(*config.Resources) {
	return func(r *config.Resources) { r.Websites[len(r.Websites)-1].SmartOps = []taubyte.ResourceID{by} }
}

func guardedBy(by ...taubyte.ResourceID) func(*config.Function) {
	return func(f *config.Function) { f.SmartOps = by }
}

// What a smart operation guards is used only if it says so, and not at all where it
// fails or was never built.
func TestSmartOps(t *testing.T) {
	c := newCloud(t)
	trap := New(1)
	trap.Func("check", "i:i", "", Unreachable)
	c.deploy(
		smartOp("yes", says(0)), smartOp("no", says(7)), smartOp("keyed", keyed()), smartOp("trap", trap.Bytes()), smartOp("unbuilt", nil),
		fn("open", "/open", Pong()),
		fn("yes-fn", "/yes", Pong(), guardedBy("id-yes")),
		fn("no-fn", "/no", Pong(), guardedBy("id-yes", "id-no")),
		fn("keyed-fn", "/keyed", Pong(), guardedBy("id-keyed")),
		fn("trap-fn", "/trap", Pong(), guardedBy("id-trap")),
		fn("unbuilt-fn", "/unbuilt", Pong(), guardedBy("id-unbuilt")),
		also(website("docs", "/docs", map[string]string{"index.html": "docs"}), websiteBy("id-keyed")),
	)
	require.Equal(t, "200 PONG", c.get("/open"))
	require.Equal(t, "200 PONG", c.get("/yes"))
	for range 3 {
		require.Equal(t, 403, c.do(request("GET", "/no")).Code)
		for _, path := range []string{"/keyed", "/docs/"} {
			require.Equal(t, 403, c.do(request("GET", path)).Code, path)
			r := request("GET", path)
			r.Header.Set("X-Key", "mellon")
			require.Equal(t, 200, c.do(r).Code, path)
		}
	}
	require.Equal(t, 500, c.do(request("GET", "/trap")).Code)
	require.Equal(t, http.StatusServiceUnavailable, c.do(request("GET", "/unbuilt")).Code)

	void := New(1)
	void.Func("check", "i:", "")
	require.ErrorIs(t, c.broken(smartOp("void", void.Bytes()), fn("f", "/f", Pong(), guardedBy("id-void"))), taubyte.ErrInvalid)
}

// So are WebSockets to a channel, and functions that messages are for.
func TestSmartOpsOfChannels(t *testing.T) {
	c := newCloud(t)
	c.deploy(page, smartOp("keyed", keyed()), smartOp("no", says(1)),
		channels("rooms", "rooms", func(m *config.Messaging) { m.SmartOps = []taubyte.ResourceID{"id-keyed"} }),
		channels("answers", "answers"), channels("leak", "leak"),
		fn("end", "/end", forwards("leak", "end")),
		fn("say", "/say", forwards("rooms", "hello")),
		listener("heard", "rooms", forwards("answers", "")),
		also(listener("unheard", "rooms", forwards("leak", "")), functionBy("id-no")),
	)
	site := c.site()
	path := "/ws-" + hashOf(project, "") + "/"
	_, resp, err := dial(t, site.URL, domain, path+"rooms")
	require.Error(t, err)
	require.Equal(t, 403, resp.StatusCode)
	in, _, err := dial(t, site.URL, domain, path+"rooms", "X-Key", "mellon")
	require.NoError(t, err)
	defer in.CloseNow()
	answers, leak := open(t, site.URL, path+"answers"), open(t, site.URL, path+"leak")
	require.Equal(t, 200, c.do(request("GET", "/say")).Code)
	require.Equal(t, ">hello", answers.next())
	require.Equal(t, 200, c.do(request("GET", "/end")).Code)
	require.Equal(t, "end", leak.next(), "the function that is refused has said nothing")
}

// So are services, and functions that commands are for.
func TestSmartOpsOfCommands(t *testing.T) {
	c := newCloud(t)
	c.deploy(append(inApplication("app", smartOp("app-no", says(1)),
		also(service("inner", "/inner/v1"), serviceBy("id-app-no")), agent("inner-agent", "/inner/v1", "hi", replies()),
		fn("inner-ask", "/inner", asks("/inner/v1", "hi", "", false)),
	),
		smartOp("yes", says(0)), smartOp("no", says(1)),
		also(service("open", "/open/v1"), serviceBy("id-yes")), also(service("shut", "/shut/v1"), serviceBy("id-no")),
		agent("free", "/open/v1", "free", replies()),
		also(agent("allowed", "/open/v1", "allowed", replies()), functionBy("id-yes")),
		also(agent("refused", "/open/v1", "refused", replies()), functionBy("id-no")),
		agent("behind", "/shut/v1", "hi", replies()),
		fn("ask-free", "/free", asks("/open/v1", "free", "x", false)),
		fn("ask-allowed", "/allowed", asks("/open/v1", "allowed", "x", false)),
		fn("ask-refused", "/refused", asks("/open/v1", "refused", "x", false)),
		fn("ask-shut", "/shut", asks("/shut/v1", "hi", "x", false)),
	)...)
	for _, path := range []string{"/free", "/allowed"} {
		require.Equal(t, "200 "+peer.ToCid(c.node.ID()).KeyString()+">x", c.get(path), path)
	}
	for _, path := range []string{"/refused", "/shut", "/inner"} {
		require.Equal(t, "243 ", c.get(path), path)
	}
}

// So are functions of timers.
func TestSmartOpsOfTimers(t *testing.T) {
	run, never := newCounter(t), newCounter(t)
	c := newCloud(t, substrate.WithEgress(loopback))
	c.deploy(smartOp("yes", says(0)), smartOp("no", says(1)),
		fn("tick", "", ticker(run.url), every, guardedBy("id-yes")),
		fn("never", "", ticker(never.url), every, guardedBy("id-no")))
	testnet.Eventually(t, func() bool { return run.check(t) >= 2 }, "the one that is allowed does not run")
	require.Zero(t, never.check(t))
}

// So are databases and storages, when a function opens them; the smart operation itself
// opens them unasked.
func TestSmartOpsOfStores(t *testing.T) {
	s := newStore(t)
	s.hoards(s.node)
	s.serves()
	by := func(op taubyte.ResourceID) []taubyte.ResourceID { return []taubyte.ResourceID{op} }
	vault := func(op taubyte.ResourceID) func(*config.Database) {
		return func(d *config.Database) { d.SmartOps = by(op) }
	}
	// An operation that has the database it guards open.
	m := New(1)
	newDatabase := m.SDK("newDatabase", "iii:i")
	m.Data(64, "own")
	m.Func("check", "i:i", "", I32(64), I32(3), I32(16), Call(newDatabase))
	things := []thing{
		smartOp("yes", says(0)), smartOp("no", says(1)), smartOp("opens", m.Bytes()),
		database("open", "open", vault("id-yes")), database("shut", "shut", vault("id-no")), database("own", "own", vault("id-opens")),
		storage("cellar", "cellar", func(st *config.Storage) { st.SmartOps = by("id-no") }),
		keeps("open", value("open", "k")), keeps("shut", value("shut", "k")), keeps("own", value("own", "k")), keeps("cellar", file("cellar", "k")),
	}
	for range 2 {
		s.put(project, "main", "here", things...)
		require.Equal(t, "200 ", s.post("here", "/open", "x"))
		require.Equal(t, "622 ", s.post("here", "/shut", "x"))
		require.Equal(t, "622 ", s.post("here", "/cellar", "x"))
		require.Equal(t, "200 ", s.post("here", "/own", "x"))
	}
}

// An instance has its stores open from event to event, and each event is asked about.
func TestSmartOpsOfStoresAtEachUse(t *testing.T) {
	s := newStore(t)
	s.hoards(s.node)
	s.serves()
	once := New(1) // allows the first use and no later one
	once.Func("check", "i:i", "i", append(I32(64), Load...), Set(1), I32(64), I32(1), Store, Get(1))
	by := []taubyte.ResourceID{"id-once"}
	s.put(project, "main", "here", smartOp("once", once.Bytes()),
		database("db", "db", func(d *config.Database) { d.SmartOps = by }), keeps("db", value("db", "k")))
	require.Equal(t, "200 ", s.post("here", "/db", "x"))
	require.Equal(t, "622 ", s.post("here", "/db", "x"))
	require.Equal(t, "622 ", s.post("here", "/db", "x"))
	s.put(project, "main", "here", smartOp("once", once.Bytes()),
		storage("cellar", "cellar", func(st *config.Storage) { st.SmartOps = by }), keeps("cellar", file("cellar", "k")))
	require.Equal(t, "200 ", s.post("here", "/cellar", "x"))
	require.Equal(t, "622 ", s.post("here", "/cellar", "x"))
}

// The functions of taubyte/smartops, all 21: that of the resource that is asked about
// answers, those of other kinds say so, and where nothing is asked about all do.
func TestSmartOpsModule(t *testing.T) {
	c := newCloud(t)
	kinds := []string{"FunctionHttp", "Website", "FunctionP2P", "FunctionPubSub", "Database", "Storage", "Service", "MessagingPubSub", "MessagingWebSocket"}
	node := peer.ToCid(c.node.ID()).Bytes()
	module := func(export string, is int) []byte {
		m := New(1)
		var code [][]byte
		must := func(want int32, do ...[]byte) { // or it traps
			code = append(code, do...)
			code = append(code, I32(want), Eq, Eqz, If, Unreachable, End)
		}
		word := func(at int32, want []byte) {
			must(int32(binary.LittleEndian.Uint32(want)), append(I32(at), Load...))
		}
		none, wrong := int32(0), int32(109)
		if is < 0 {
			none, wrong = 108, 108
		}
		must(none, I32(256), Call(m.Import("taubyte/smartops", "getNodeId", "i:i")))
		must(none, Get(0), I32(512), Call(m.Import("taubyte/smartops", "getEventId", "ii:i")))
		must(none, Get(0), I32(516), Call(m.Import("taubyte/smartops", "getResourceType", "ii:i")))
		if is >= 0 {
			for i := 0; i+4 <= len(node); i += 4 {
				word(int32(256+i), node[i:])
			}
			must(int32(is+1), append(I32(516), Load...))
		}
		for i, kind := range kinds {
			want := wrong
			if i == is {
				want = 0
			}
			must(want, Get(0), I32(520), Call(m.Import("taubyte/smartops", "get"+kind+"NameSize", "ii:i")))
			must(want, Get(0), I32(524), Call(m.Import("taubyte/smartops", "get"+kind+"Name", "ii:i")))
			if i == is {
				must(4, append(I32(520), Load...))
				word(524, []byte("item"))
			}
		}
		m.Func(export, "i:i", "", append(code, I32(0))...)
		return m.Bytes()
	}
	item := also(website("item", "/site", map[string]string{"index.html": "site"}), websiteBy("id-of-site"))
	function := also(fn("item", "/function", Pong(), guardedBy("id-of-function")), func(r *config.Resources) {
		r.Functions[len(r.Functions)-1].ID = "id-item-function"
	})
	function.id = "id-item-function"
	c.deploy(smartOp("of-function", module("check", 0)), smartOp("of-site", module("check", 1)), function, item, fn("plain", "/plain", module("ping", -1)))
	require.Equal(t, "200 PONG", c.get("/function"))
	require.Equal(t, "200 site", c.get("/site/"))
	require.Equal(t, "200 ", c.get("/plain"))
}
