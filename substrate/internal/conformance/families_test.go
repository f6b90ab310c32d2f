package conformance_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// Every family, from stock Go by the SDK of this repository.
func TestGuestSDK(t *testing.T) {
	c := newCloud(t)
	module := stockGo(t, "testdata/guest")
	c.function("guest", module, at("http", "redirect", "fetch", "log", "dns", "self", "memory", "publish", "command",
		"database", "storage", "content", "ipfs", "globals"))
	c.function("listener", module, on(config.TriggerPubSub, "onMessage"), func(f *config.Function) { f.Channel = "rooms/a/b" })
	c.function("greeter", module, on(config.TriggerP2P, "onCommand"), func(f *config.Function) { f.Service, f.Command = "/greeting/v1", "greet" })
	c.function("ticker", module, on(config.TriggerTimer, "onTick"), func(f *config.Function) { f.Schedule = "@every 1s" })
	op := config.SmartOp{Common: config.Common{ID: "id-op", Name: "op"}, Source: ".", Timeout: 20 * time.Second, Memory: 64 << 20, Call: "allow"}
	c.config.SmartOps = append(c.config.SmartOps, op)
	c.asset(op.ID, module)
	c.function("guarded", module, func(f *config.Function) { f.SmartOps = []taubyte.ResourceID{op.ID} })
	require.NoError(t, c.deploy())

	require.Equal(t, 403, c.post("/guarded", "").Code)
	require.Equal(t, 500, c.post("/guarded", "", "X-Key", "mellon").Code, "it is reached, and knows no such path")
	c.logged("asked about guarded of kind 1")
	w := c.post("/guest/http?one=1&two=2%203", "sent", "X-Word", "first", "X-Word", "second", "User-Agent", "tester")
	require.Equal(t, 418, w.Code, w.Body)
	require.Equal(t, "short and stout", w.Body.String())
	require.Equal(t, []string{"one", "two"}, w.Header()["X-Answer"])
	require.True(t, w.Flushed)
	w = c.post("/guest/redirect", "")
	require.Equal(t, 303, w.Code)
	require.Equal(t, "/elsewhere", w.Header().Get("Location"))
	for _, family := range []struct{ name, body, want string }{
		{"fetch", far(t).URL, "ok"},
		{"log", "", "ok"},
		{"dns", nameServer(t), "ok"},
		{"self", "", string(project)},
		{"memory", "", "ok"},
		{"publish", "all", "ok"},
		{"command", "", "ok"},
		{"database", "", "ok"},
		{"storage", "", "ok"},
		{"content", "", "ok"},
		{"ipfs", "", "ok"},
		{"globals", "", "ok"},
	} {
		t.Run(family.name, func(t *testing.T) {
			for range 2 {
				w := c.post("/guest/"+family.name, family.body)
				require.Equal(t, 200, w.Code, w.Body)
				require.Equal(t, family.want, w.Body.String())
			}
		})
	}
	c.logged(`heard \"all\"`)
	c.logged(`level=WARN msg="said at a level"`)
	c.logged("tick in step: true")
}

// Every family, from code for the public go-sdk, and the examples that it comes with.
func TestPublicSDK(t *testing.T) {
	c := newCloud(t)
	module := stockGo(t, withExamples(t, "testdata/public"))
	c.function("public", module, at("http", "redirect", "fetch", "log", "dns", "self", "memory", "ethereum", "publish", "command",
		"database", "storage", "ipfs", "globals"))
	c.function("example", module, func(f *config.Function) { f.Call = "exampleHTTP" })
	c.function("keeper", module, func(f *config.Function) { f.Call = "exampleDatabase" })
	c.function("listener", module, on(config.TriggerPubSub, "examplePubSub"), func(f *config.Function) { f.Channel = "rooms/example" })
	c.function("greeter", module, on(config.TriggerP2P, "exampleP2P"), func(f *config.Function) { f.Service, f.Command = "/greeting/v1", "greet" })
	require.NoError(t, c.deploy())

	w := c.post("/example?username=sam", "Hello, world!", "Content-Type", "application/json", "User-Agent", "tester")
	require.Equal(t, "200 Hello from the other side!", fmt.Sprintf("%d %s", w.Code, w.Body))
	for _, line := range []string{"Body: Hello, world!", "Headers: [Content-Type User-Agent]", "Username: sam", "example http returned 0"} {
		c.logged(line)
	}

	require.Equal(t, 200, c.post("/keeper", "").Code)
	c.logged("example database returned 0")

	w = c.post("/public/http?one=1&two=2%203", "sent", "X-Word", "first", "User-Agent", "tester")
	require.Equal(t, "418 ok", fmt.Sprintf("%d %s", w.Code, w.Body))
	require.Equal(t, "one", w.Header().Get("X-Answer"))
	w = c.post("/public/redirect", "")
	require.Equal(t, 307, w.Code)
	require.Equal(t, "/elsewhere", w.Header().Get("Location"))
	for name, body := range map[string]string{"fetch": far(t).URL, "dns": nameServer(t), "self": "", "memory": "", "ethereum": "", "publish": "", "command": "",
		"database": "", "storage": "", "ipfs": "", "globals": ""} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				w := c.post("/public/"+name, body)
				require.Equal(t, "200 ok", fmt.Sprintf("%d %s", w.Code, w.Body))
			}
		})
	}
	for _, line := range []string{"Data: Hello, world!", "Channel: rooms/example", "example pubsub returned 0", "Command: greet", "example p2p returned 0"} {
		c.logged(line)
	}
}

func TestRust(t *testing.T) {
	c := newCloud(t)
	module := rust(t, "testdata/rust/guest.rs", "wasm32-unknown-unknown")
	for _, export := range []string{"http", "fetch", "views", "panics"} {
		c.function(export, module, func(f *config.Function) { f.Call = export })
	}
	require.NoError(t, c.deploy())
	url := far(t).URL
	for range 2 {
		w := c.post("/http", "longer than a buffer", "X-Word", "mellon")
		require.Equal(t, "201 mellon: longer than a buffer", fmt.Sprintf("%d %s", w.Code, w.Body))
		w = c.post("/fetch", url)
		require.Equal(t, `200 far got "by reference"`, fmt.Sprintf("%d %s", w.Code, w.Body))
		c.answers("/views", "seen")
		require.Equal(t, 500, c.post("/panics", "").Code)
	}
}

// AssemblyScript starts a module by wasm's start section or, as its shim for WASI
// does, by _start.
func TestAssemblyScript(t *testing.T) {
	c := newCloud(t)
	c.function("section", assemblyScript(t, "testdata/assemblyscript/guest.ts"))
	c.function("exported", assemblyScript(t, "testdata/assemblyscript/guest.ts", "--exportStart", "_start"))
	require.NoError(t, c.deploy())
	for range 2 {
		for _, path := range []string{"/section", "/exported"} {
			w := c.post(path+"?name=you", "")
			require.Equal(t, "200 hello you of "+string(project), fmt.Sprintf("%d %s", w.Code, w.Body))
			require.Equal(t, "AssemblyScript", w.Header().Get("X-Made-By"))
		}
	}
}

// nameServer is a DNS server with a few records. It returns its address.
func nameServer(t testing.TB) string {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	records := map[uint16][]string{
		dns.TypeTXT:   {"records.example.test. TXT one", "records.example.test. TXT two"},
		dns.TypePTR:   {"7.2.0.192.in-addr.arpa. PTR a.example.test."},
		dns.TypeA:     {"records.example.test. CNAME target.example.test.", "target.example.test. A 192.0.2.7"},
		dns.TypeAAAA:  {"records.example.test. CNAME target.example.test."},
		dns.TypeCNAME: {"records.example.test. CNAME target.example.test."},
		dns.TypeMX:    {"records.example.test. MX 20 n.example.test.", "records.example.test. MX 10 m.example.test."},
	}
	started := make(chan struct{})
	s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		a := new(dns.Msg).SetReply(q)
		for _, text := range records[q.Question[0].Qtype] {
			rr, err := dns.NewRR(text)
			if err == nil {
				a.Answer = append(a.Answer, rr)
			}
		}
		_ = w.WriteMsg(a)
	})}
	go func() { _ = s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = s.Shutdown() })
	return pc.LocalAddr().String()
}
