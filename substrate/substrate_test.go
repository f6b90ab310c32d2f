package substrate_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/internal/unixfs"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/substrate"
	"github.com/taubyte/taubyte/substrate/internal/wasmtest"
	"github.com/taubyte/taubyte/substrate/wire"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

const (
	project taubyte.ProjectID = "QmRPRQww8rci6fpkK5Tp8NGjyGQUyrTgQm5j7BnFJqi4DW"
	domain  string            = "hello.example.test"
)

// A cloud is a registry and a substrate node on one host.
type cloud struct {
	testing.TB
	net      *testnet.Net
	node     *testnet.Node
	registry *tns.Service
	service  *substrate.Service
	order    uint64
}

func newCloud(t testing.TB, opts ...substrate.Option) *cloud {
	t.Helper()
	c := &cloud{TB: t, net: testnet.New(t)}
	c.node = c.net.Node()
	var err error
	c.registry, err = tns.New(t.Context(), c.node, c.node.Store, tns.WithOpenDomains(), tns.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.registry.Close()) })
	c.service = c.start(opts...)
	return c
}

func (c *cloud) start(opts ...substrate.Option) *substrate.Service {
	c.Helper()
	s, err := substrate.New(c.Context(), c.node, c.node.Store, append([]substrate.Option{substrate.WithLogger(testnet.Logger(c))}, opts...)...)
	require.NoError(c, err)
	c.Cleanup(func() { require.NoError(c, s.Close()) })
	return s
}

// A thing is a resource of a project and what was built for it.
type thing struct {
	add    func(*config.Resources)
	app    func(*config.Project) // in place of add: to an application
	id     taubyte.ResourceID
	module []byte
	files  map[string]string

	project func(*config.Project) // in place of all this
}

func fn(name, path string, module []byte, change ...func(*config.Function)) thing {
	f := config.Function{
		Common: config.Common{ID: taubyte.ResourceID("id-" + name), Name: name},
		Type:   config.TriggerHTTP, Method: "GET", Domains: []taubyte.ResourceID{"id-domain"}, Paths: []string{path},
		Source: ".", Timeout: 10 * time.Second, Memory: 1 << 20, Call: "ping",
	}
	for _, c := range change {
		c(&f)
	}
	return thing{id: f.ID, module: module, add: func(r *config.Resources) { r.Functions = append(r.Functions, f) }}
}

func library(name string, module []byte) thing {
	l := config.Library{Common: config.Common{ID: taubyte.ResourceID("id-" + name), Name: name}}
	return thing{id: l.ID, module: module, add: func(r *config.Resources) { r.Libraries = append(r.Libraries, l) }}
}

func website(name, path string, files map[string]string) thing {
	w := config.Website{Common: config.Common{ID: taubyte.ResourceID("id-" + name), Name: name}, Domains: []taubyte.ResourceID{"id-domain"}, Paths: []string{path}}
	return thing{id: w.ID, files: files, add: func(r *config.Resources) { r.Websites = append(r.Websites, w) }}
}

// publish deploys a project of these things and returns its sequence.
func (c *cloud) publish(things ...thing) uint64 {
	c.Helper()
	ctx := c.Context()
	p := &config.Project{ID: project, Name: "hello"}
	p.Domains = []config.Domain{{Common: config.Common{ID: "id-domain", Name: "domain"}, FQDN: domain, CertType: "auto"}}
	assets := map[taubyte.ResourceID]cid.Cid{}
	for _, t := range things {
		if t.app != nil {
			t.app(p)
		} else {
			if t.project != nil {
				t.project(p)
				continue
			}
			t.add(&p.Resources)
		}
		var root cid.Cid
		var err error
		switch {
		case t.module != nil:
			root, err = unixfs.AddFile(ctx, c.node.Blocks(), bytes.NewReader(t.module))
		case t.files != nil:
			files := fstest.MapFS{}
			for name, text := range t.files {
				files[name] = &fstest.MapFile{Data: []byte(text)}
			}
			root, err = unixfs.AddFS(ctx, c.node.Blocks(), files)
		default:
			continue
		}
		require.NoError(c, err)
		assets[t.id] = root
	}
	c.order++
	d, err := c.registry.Publish(ctx, project, "main", tns.Part{
		Repository: "local/1", Commit: taubyte.Commit(fmt.Sprintf("%040d", c.order)), Order: c.order, Time: time.Now(), Config: p, Assets: assets,
	})
	require.NoError(c, err)
	return d.Sequence
}

// deploy publishes and waits until it is served.
func (c *cloud) deploy(things ...thing) {
	c.Helper()
	sequence := c.publish(things...)
	ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
	defer cancel()
	require.NoError(c, c.service.Serving(ctx, project, "main", sequence))
}

// broken publishes what can't be served and returns the reason.
func (c *cloud) broken(things ...thing) error {
	c.Helper()
	sequence := c.publish(things...)
	ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
	defer cancel()
	err := c.service.Serving(ctx, project, "main", sequence)
	require.NoError(c, ctx.Err(), "told at once")
	require.Error(c, err)
	return err
}

func request(method, path string) *http.Request {
	return httptest.NewRequest(method, "http://"+domain+path, nil)
}

func (c *cloud) do(r *http.Request) *httptest.ResponseRecorder {
	c.Helper()
	w := httptest.NewRecorder()
	c.service.ServeHTTP(w, r)
	return w
}

func (c *cloud) get(path string) string {
	c.Helper()
	w := c.do(request("GET", path))
	return fmt.Sprintf("%d %s", w.Code, w.Body.String())
}

// stats asks as the program that embeds the node.
func stats(s *substrate.Service) substrate.Stats {
	st, err := s.Stats(context.Background())
	if err != nil {
		panic(err)
	}
	return st
}

func TestFunctionsAndWebsites(t *testing.T) {
	c := newCloud(t)
	c.deploy(
		fn("ping", "/ping", wasmtest.Pong()),
		website("front", "/", map[string]string{"index.html": "<p>home", "a.js": "1"}),
	)
	require.Equal(t, "200 PONG", c.get("/ping"))
	require.Equal(t, "200 <p>home", c.get("/"))
	require.Equal(t, "200 1", c.get("/a.js"))
	for what, ctx := range testnet.Outsiders(t.Context(), otherProject) {
		_, err := c.service.Stats(ctx)
		require.ErrorIs(t, err, taubyte.ErrForbidden, what)
		require.ErrorIs(t, c.service.Serving(ctx, project, "main", 1), taubyte.ErrForbidden, what)
	}
	require.NoError(t, c.service.Serving(testnet.Reader(t.Context()), project, "main", 1))
	stats := stats(c.service)
	require.Positive(t, stats.Fuel)
	stats.Fuel = 0
	require.Equal(t, substrate.Stats{Deployments: 1, Functions: 1, Websites: 1, Modules: 1, Memory: 1<<16 + 96<<10}, stats)
}

func TestRefusals(t *testing.T) {
	c := newCloud(t)
	c.deploy(fn("ping", "/ping", wasmtest.Pong()), fn("unbuilt", "/unbuilt", nil))
	for _, want := range []struct {
		method, host, path string
		status             int
		why                string
	}{
		{"GET", "nobody.example.test", "/ping", 404, wire.RefusedNoHost},
		{"GET", domain, "/pong", 404, wire.RefusedNoRoute},
		{"DELETE", domain, "/ping", 405, wire.RefusedNoRoute},
		{"GET", domain, "/unbuilt", 503, wire.RefusedNotReady},
	} {
		r := request(want.method, want.path)
		r.Host = want.host
		w := c.do(r)
		require.Equal(t, want.status, w.Code, want)
		require.Equal(t, want.why, w.Header().Get(wire.HeaderRefused), want)
		switch want.status {
		case 405:
			require.Contains(t, w.Header().Get("Allow"), "GET")
		case 503:
			require.NotEmpty(t, w.Header().Get("Retry-After"))
		}
	}
	require.Empty(t, c.do(request("GET", "/ping")).Header().Get(wire.HeaderRefused))
}

// A gateway on another node reaches it; a node of another role does not.
func TestOverTheWire(t *testing.T) {
	c := newCloud(t)
	c.deploy(fn("ping", "/ping", wasmtest.Pong()))
	for role, status := range map[taubyte.Role]int{taubyte.RoleGateway: 200, taubyte.RoleMonkey: 403} {
		rt := rpc.NewTransport(c.net.Node(role), wire.Protocol)
		r := request("GET", "/ping")
		r.URL.Host = c.node.ID().String()
		resp, err := rt.RoundTrip(r)
		require.NoError(t, err)
		require.Equal(t, status, resp.StatusCode, role)
		require.NoError(t, resp.Body.Close())
		rt.Close()
	}
	_, local := c.node.Local(wire.Protocol).(http.Handler)
	require.True(t, local)
}

// What a guest flushes is with the user at once, and a user who leaves ends the
// guest's work, also with a gateway between them.
func TestStreamAndLeaveOverTheWire(t *testing.T) {
	m := wasmtest.New(1)
	write, flush := m.SDK("eventHttpWrite", "iiii:i"), m.SDK("eventHttpFlush", "i:i")
	sleep := m.Import("env", "_sleep", "I:")
	m.Data(0, "first")
	m.Func("ping", "i:", "", wasmtest.Get(0), wasmtest.I32(0), wasmtest.I32(5), wasmtest.I32(8), wasmtest.Call(write), wasmtest.Drop,
		wasmtest.Get(0), wasmtest.Call(flush), wasmtest.Drop, wasmtest.I64(int64(time.Hour)), wasmtest.Call(sleep))
	c := newCloud(t)
	c.deploy(fn("stream", "/stream", m.Bytes(), func(f *config.Function) { f.Timeout = time.Hour }))

	rt := rpc.NewTransport(c.net.Node(taubyte.RoleGateway), wire.Protocol)
	defer rt.Close()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r := request("GET", "/stream").WithContext(ctx)
	r.URL.Host = c.node.ID().String()
	resp, err := rt.RoundTrip(r)
	require.NoError(t, err)
	buf := make([]byte, 5)
	_, err = io.ReadFull(resp.Body, buf)
	require.NoError(t, err)
	require.Equal(t, "first", string(buf))
	require.Equal(t, 1, stats(c.service).InFlight)
	leave()
	require.NoError(t, resp.Body.Close())
	testnet.Eventually(t, func() bool { return stats(c.service).InFlight == 0 }, "still at work")
}

// While deployments come and go no request fails, and none is answered by
// something that was never deployed. What is replaced is given back.
func TestSwitchUnderLoad(t *testing.T) {
	c := newCloud(t)
	version := func(n int) []thing {
		return []thing{
			fn("ping", "/ping", wasmtest.Say("ping", fmt.Sprintf("version %d", n))),
			website("front", "/", map[string]string{"index.html": fmt.Sprintf("version %d", n)}),
		}
	}
	c.deploy(version(0)...)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range 4 {
		path := []string{"/ping", "/"}[i%2]
		wg.Go(func() {
			for !stop.Load() {
				if got := c.get(path); !strings.HasPrefix(got, "200 version ") {
					t.Errorf("%s: %s", path, got)
					return
				}
			}
		})
	}
	for n := 1; n <= 8; n++ {
		c.deploy(version(n)...)
		require.Equal(t, fmt.Sprintf("200 version %d", n), c.get("/ping"))
		require.Equal(t, fmt.Sprintf("200 version %d", n), c.get("/"))
	}
	stop.Store(true)
	wg.Wait()
	testnet.Eventually(t, func() bool {
		s := stats(c.service)
		return s.Deployments == 1 && s.Modules == 1
	}, "the old ones are kept")
}

// A function that is called a lot, or takes long, goes on with its old code until the new one
// is compiled; one that takes little goes over before, and whoever asks notices nothing.
func TestSwitchWhileCompiling(t *testing.T) {
	c := newCloud(t)
	version := func(n, turns int) thing {
		return fn("ping", "/ping", working(fmt.Sprintf("version %d", n), turns))
	}
	for n, turns := range []int{1, 1, 1 << 20, 1 << 20, 1 << 20} {
		c.deploy(version(n, turns))
		if n > 2 { // the one before was dear
			require.Zero(t, stats(c.service).Interpreted)
		}
		require.Equal(t, fmt.Sprintf("200 version %d", n), c.get("/ping"))
	}
	testnet.Eventually(t, func() bool { return stats(c.service).Interpreted == 0 }, "compiled")
}

// working is a function that counts to so many and answers.
func working(text string, turns int) []byte {
	m := wasmtest.New(1)
	write := m.SDK("eventHttpWrite", "iiii:i")
	m.Data(1024, text)
	m.Func("ping", "i:", "i",
		[]byte{0x03, 0x40}, // loop
		wasmtest.Get(1), wasmtest.I32(1), []byte{0x6a}, []byte{0x22, 0x01}, wasmtest.I32(int32(turns)), []byte{0x49}, wasmtest.BrIf(0),
		[]byte{0x0b},
		wasmtest.Get(0), wasmtest.I32(1024), wasmtest.I32(int32(len(text))), wasmtest.I32(0), wasmtest.Call(write), wasmtest.Drop)
	return m.Bytes()
}

// A deployment that can't be served leaves what was served, and the reason is
// told.
func TestBrokenDeployment(t *testing.T) {
	c := newCloud(t)
	c.deploy(fn("ping", "/ping", wasmtest.Pong()))
	for module, why := range map[string]string{"no module": "malformed", string(wasmtest.Say("other", "x")): "exports no function"} {
		err := c.broken(fn("ping", "/ping", []byte(module)))
		require.ErrorIs(t, err, taubyte.ErrInvalid)
		require.ErrorContains(t, err, why)
		require.Equal(t, "200 PONG", c.get("/ping"))
	}
	c.deploy(fn("ping", "/ping", wasmtest.Say("ping", "again")))
	require.Equal(t, "200 again", c.get("/ping"))
}

func TestRemoved(t *testing.T) {
	c := newCloud(t)
	c.deploy(fn("ping", "/ping", wasmtest.Pong()))
	require.Equal(t, "200 PONG", c.get("/ping"))
	require.NoError(t, c.registry.Remove(t.Context(), project, "main"))
	testnet.Eventually(t, func() bool {
		left := stats(c.service)
		left.Fuel = 0 // which counts for ever
		return strings.HasPrefix(c.get("/ping"), "404") && left == substrate.Stats{}
	}, "still there")
}

// Imports are resolved by the names of the project's resources, and by nothing
// else.
func TestLibraries(t *testing.T) {
	lib := wasmtest.New(0)
	lib.Func("letter", ":i", "", wasmtest.I32('L'))
	user := func(from string) []byte {
		m := wasmtest.New(1)
		letter := m.Import(from, "letter", ":i")
		write := m.SDK("eventHttpWrite", "iiii:i")
		m.Func("ping", "i:", "", wasmtest.I32(0), wasmtest.Call(letter), wasmtest.Store,
			wasmtest.Get(0), wasmtest.I32(0), wasmtest.I32(1), wasmtest.I32(8), wasmtest.Call(write), wasmtest.Drop)
		return m.Bytes()
	}
	c := newCloud(t)
	c.deploy(library("lib", lib.Bytes()), fn("ping", "/ping", user("libraries/lib")))
	require.Equal(t, "200 L", c.get("/ping"))

	for from, why := range map[string]string{
		"libraries/other":            "does not have",
		"libraries/id-lib":           "does not have",
		"functions/ping":             "circle",
		"http://169.254.169.254/lib": "imports from",
	} {
		require.ErrorContains(t, c.broken(library("lib", lib.Bytes()), fn("ping", "/ping", user(from))), why, from)
		require.Equal(t, "200 L", c.get("/ping"))
	}
	c.deploy(library("lib", wasmtest.Pong()), fn("ping", "/ping", nil, func(f *config.Function) { f.Source = "libraries/id-lib" }))
	require.Equal(t, "200 PONG", c.get("/ping"), "a function whose code is a library's")
}

// One module for many functions is compiled once.
func TestModuleIsShared(t *testing.T) {
	c := newCloud(t)
	var things []thing
	for i := range 20 {
		things = append(things, fn(fmt.Sprintf("f%d", i), fmt.Sprintf("/%d", i), wasmtest.Pong()))
	}
	c.deploy(things...)
	for i := range 20 {
		require.Equal(t, "200 PONG", c.get(fmt.Sprintf("/%d", i)))
	}
	s := stats(c.service)
	require.Equal(t, 20, s.Functions)
	require.Equal(t, 1, s.Modules)
}

func sleeper() []byte {
	m := wasmtest.New(1)
	sleep := m.Import("env", "_sleep", "I:")
	m.Func("ping", "i:", "", wasmtest.I64(int64(time.Hour)), wasmtest.Call(sleep))
	return m.Bytes()
}

func TestBusyAndTimeout(t *testing.T) {
	c := newCloud(t, substrate.WithLimits(substrate.Limits{Concurrency: 1, Queue: 1}))
	c.deploy(fn("slow", "/slow", sleeper(), func(f *config.Function) { f.Timeout = 500 * time.Millisecond }))
	var busy, late atomic.Int32
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			w := c.do(request("GET", "/slow"))
			switch {
			case w.Code == 503 && w.Header().Get(wire.HeaderRefused) == wire.RefusedBusy && w.Header().Get("Retry-After") != "":
				busy.Add(1)
			case w.Code == 504:
				late.Add(1)
			default:
				t.Error(w.Code, w.Header())
			}
		})
	}
	wg.Wait()
	require.GreaterOrEqual(t, late.Load(), int32(1))
	require.GreaterOrEqual(t, busy.Load(), int32(1))
}

func TestRequestTooLarge(t *testing.T) {
	c := newCloud(t, substrate.WithLimits(substrate.Limits{RequestBody: 10}))
	c.deploy(fn("ping", "/ping", wasmtest.Pong(), func(f *config.Function) { f.Method = "POST" }))
	for size, status := range map[int]int{10: 200, 11: 413} {
		r := httptest.NewRequest("POST", "http://"+domain+"/ping", strings.NewReader(strings.Repeat("x", size)))
		require.Equal(t, status, c.do(r).Code)
	}
}

// Stopping and starting on the same store and cache is an ordinary event.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	c := newCloud(t, substrate.WithCacheDir(dir))
	c.deploy(fn("ping", "/ping", wasmtest.Pong()))
	require.Equal(t, "200 PONG", c.get("/ping"))
	require.NoError(t, c.service.Close())
	require.NoError(t, c.service.Close())
	require.Nil(t, c.node.Local(wire.Protocol))
	w := c.do(request("GET", "/ping"))
	require.Equal(t, 503, w.Code)
	require.Equal(t, wire.RefusedDraining, w.Header().Get(wire.HeaderRefused))

	c.service = c.start(substrate.WithCacheDir(dir))
	testnet.Eventually(t, func() bool { return c.get("/ping") == "200 PONG" }, "not served again")
}

// Close waits for what is under way, and cuts what goes on for too long.
func TestCloseCuts(t *testing.T) {
	c := newCloud(t, substrate.WithGrace(50*time.Millisecond))
	c.deploy(fn("slow", "/slow", sleeper(), func(f *config.Function) { f.Timeout = time.Hour }))
	done := make(chan int)
	go func() { done <- c.do(request("GET", "/slow")).Code }()
	testnet.Eventually(t, func() bool { return stats(c.service).InFlight == 1 }, "not begun")
	require.NoError(t, c.service.Close())
	<-done
}

// What a new node of a failing start leaves is nothing.
func TestFailingStart(t *testing.T) {
	c := newCloud(t)
	_, err := substrate.New(t.Context(), c.node, c.node.Store, substrate.WithLogger(testnet.Logger(t)))
	require.ErrorIs(t, err, taubyte.ErrConflict, "one on a host")
	c.deploy(fn("ping", "/ping", wasmtest.Pong()))
	require.Equal(t, "200 PONG", c.get("/ping"))
}

func TestStreamingWebsite(t *testing.T) {
	c := newCloud(t)
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
	c.deploy(website("front", "/", map[string]string{"index.html": "home", "big.bin": big}))
	s := httptest.NewServer(c.service)
	defer s.Close()
	r, err := http.NewRequest("GET", s.URL+"/big.bin", nil)
	require.NoError(t, err)
	r.Host = domain
	r.Header.Set("Range", "bytes=1048570-")
	resp, err := s.Client().Do(r)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 206, resp.StatusCode)
	require.Equal(t, "abcdef", string(body))
}

// Another node asks whether a deployment is served.
func TestClient(t *testing.T) {
	c := newCloud(t)
	sequence := c.publish(fn("ping", "/ping", wasmtest.Pong()))
	client := substrate.NewClient(c.net.Node(taubyte.RoleAuth))
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, client.Serving(ctx, project, "main", sequence))
	require.Equal(t, "200 PONG", c.get("/ping"))
	stats, err := client.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, stats.Functions)

	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, client.Serving(soon, project, "main", sequence+1), context.DeadlineExceeded)

	local := substrate.NewClient(c.node)
	defer local.Close()
	require.NoError(t, local.Serving(ctx, project, "main", sequence))
}

// Other nodes hear what this one runs, and which modules it has compiled.
func TestReports(t *testing.T) {
	c := newCloud(t)
	other, err := seer.Join(t.Context(), c.net.Node(taubyte.RoleGateway), seer.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer other.Close()
	c.deploy(fn("ping", "/ping", wasmtest.Pong()))
	module, err := unixfs.AddFile(t.Context(), c.node.Blocks(), bytes.NewReader(wasmtest.Pong()))
	require.NoError(t, err)
	testnet.Eventually(t, func() bool {
		n, ok := other.Node(c.node.ID())
		return ok && slices.Contains(n.Services, wire.Protocol) && wire.Warm(n.Load.Warm, module)
	}, "not heard")
}
