package vm_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
)

// reply answers with the 4 bytes at address 0.
func reply(write uint32) [][]byte {
	return [][]byte{Get(0), I32(0), I32(4), I32(8), Call(write), Drop}
}

func TestInitialisers(t *testing.T) {
	e := engine(t)
	set := func(text string) []byte { // puts text at address 0
		return append(append(I32(0), I32(int32(text[0])|int32(text[1])<<8|int32(text[2])<<16|int32(text[3])<<24)...), Store...)
	}
	for name, c := range map[string]struct {
		build func(m *Module)
		want  string
	}{
		"none":    {func(m *Module) {}, "zero"},
		"reactor": {func(m *Module) { m.Func("_initialize", ":", "", set("init")); m.Func("_start", ":", "", Unreachable) }, "init"},
		"command": {func(m *Module) { m.Func("_start", ":", "", set("main")) }, "main"},
		"command that says it is ready, and goes on for ever": {func(m *Module) {
			m.Func("_start", ":", "", set("main"), Call(1), Loop, Br(0), End)
		}, "main"},
		"command that exits with 0": {func(m *Module) { m.Func("_start", ":", "", set("exit"), I32(0), Call(2), Unreachable) }, "exit"},
		"start section":             {func(m *Module) { m.Start(m.Func("", ":", "", set("sect"))) }, "sect"},
		"ready means nothing to an event": {func(m *Module) {
			m.Func("more", "i:", "", append([][]byte{set("evnt"), Call(1)}, reply(0)...)...)
		}, "evnt"},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(1)
			write := m.SDK("eventHttpWrite", "iiii:i")
			m.Import("env", "_ready", ":")
			m.Import("wasi_snapshot_preview1", "proc_exit", "i:")
			m.Data(0, "zero")
			c.build(m)
			m.Func("ping", "i:i", "", append(reply(write), I32(1))...) // a result is ignored
			call := "ping"
			if strings.Contains(name, "event") {
				call = "more"
			}
			f := function(t, e, m.Bytes(), call)
			for range 2 {
				w := get(t, f, "/")
				require.Equal(t, 200, w.Code)
				require.Equal(t, c.want, w.Body.String())
			}
		})
	}
}

// failing is a guest that does something bad on /bad and answers otherwise.
func failing(bad func(m *Module) [][]byte) []byte {
	m := New(1)
	write := m.SDK("eventHttpWrite", "iiii:i")
	path := m.SDK("getHttpEventPathSize", "ii:i")
	m.Import("wasi_snapshot_preview1", "proc_exit", "i:")
	m.Import("env", "_sleep", "I:")
	m.Data(0, "fine")
	code := [][]byte{Get(0), I32(16), Call(path), Drop, I32(16), Load, I32(4), Eq, If}
	code = append(code, bad(m)...)
	code = append(code, End)
	m.Func("ping", "i:", "", append(code, reply(write)...)...)
	return m.Bytes()
}

// A call that fails costs that call alone, and tells the user nothing of why.
func TestFailures(t *testing.T) {
	e := engine(t)
	for name, c := range map[string]struct {
		status int
		bad    func(m *Module) [][]byte
	}{
		"trap":      {500, func(*Module) [][]byte { return [][]byte{Unreachable} }},
		"recursion": {500, func(m *Module) [][]byte { f := m.Func("", ":", "", Call(4)); return [][]byte{Call(f)} }},
		"exit code": {500, func(*Module) [][]byte { return [][]byte{I32(3), Call(2)} }},
		"out of memory": {500, func(*Module) [][]byte {
			return [][]byte{I32(1000), Grow, I32(-1), Eq, If, Unreachable, End}
		}},
		"endless loop": {504, func(*Module) [][]byte { return [][]byte{Loop, Br(0), End} }},
		"endless recursion of loops": {504, func(m *Module) [][]byte {
			f := m.Func("", ":", "", Loop, Br(0), End)
			return [][]byte{Loop, Call(f), Br(0), End}
		}},
		"sleep": {504, func(*Module) [][]byte { return [][]byte{I64(int64(time.Hour)), Call(3)} }},
		"trap after a write": {500, func(*Module) [][]byte {
			return [][]byte{Get(0), I32(0), I32(4), I32(8), Call(0), Drop, Unreachable}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := function(t, e, failing(c.bad), "ping", func(s *vm.Spec) {
				if c.status == 504 {
					s.Timeout = 300 * time.Millisecond
				}
			})
			require.Equal(t, "fine", get(t, f, "/").Body.String())
			for range 2 {
				w := get(t, f, "/bad")
				require.Equal(t, c.status, w.Code)
				require.Less(t, len(w.Body.String()), 40)
				require.NotContains(t, w.Body.String(), "wasm")
				idle, work := f.Warm()
				require.Zero(t, idle, "a broken instance is not used again")
				require.Zero(t, work)
			}
			require.Equal(t, "fine", get(t, f, "/").Body.String())
		})
	}
}

func TestExitWithZeroIsNoFailure(t *testing.T) {
	f := function(t, engine(t), failing(func(*Module) [][]byte { return [][]byte{I32(0), Call(2)} }), "ping")
	require.Equal(t, 200, get(t, f, "/bad").Code)
	idle, _ := f.Warm()
	require.Zero(t, idle)
}

// An instantiation that fails wedges nobody.
func TestFailingStart(t *testing.T) {
	e := engine(t)
	for name, code := range map[string][]byte{"trap": Unreachable, "loop": append(append([]byte{}, Loop...), append(Br(0), End...)...)} {
		t.Run(name, func(t *testing.T) {
			m := New(1)
			m.Func("_initialize", ":", "", code)
			m.Func("ping", "i:", "")
			f := function(t, e, m.Bytes(), "ping", func(s *vm.Spec) { s.Concurrency, s.Queue, s.Timeout = 2, 100, 300*time.Millisecond })
			var wg sync.WaitGroup
			for range 12 {
				wg.Go(func() {
					w := httptest.NewRecorder()
					err := f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
					if err == nil && w.Code < 500 {
						t.Error(w.Code)
					}
				})
			}
			wg.Wait()
			_, work := f.Warm()
			require.Zero(t, work)
		})
	}
}

func TestStartSectionHasADeadline(t *testing.T) {
	m := New(1)
	m.Start(m.Func("", ":", "", Loop, Br(0), End))
	m.Func("ping", "i:", "")
	f := function(t, engine(t), m.Bytes(), "ping", func(s *vm.Spec) { s.Timeout = 200 * time.Millisecond })
	require.Equal(t, 504, get(t, f, "/").Code)
}

// What a user gets when the guest dies in the middle of a long answer does not
// look like a whole one.
func TestCutAnswer(t *testing.T) {
	f := function(t, engine(t), failing(func(*Module) [][]byte {
		return [][]byte{Get(0), I32(0), I32(40_000), I32(50_000), Call(0), Drop, Unreachable}
	}), "ping")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = f.ServeHTTP(w, r) }))
	defer s.Close()
	r, err := s.Client().Get(s.URL + "/bad")
	if err == nil {
		_, err = r.Body.Read(make([]byte, 1<<20))
		for err == nil {
			_, err = r.Body.Read(make([]byte, 1<<20))
		}
		_ = r.Body.Close()
	}
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// A server of HTTP/2 may read what it was given to write after the write has
// returned. What it reads is never a memory that is another guest's by then.
func TestWritesAreDetached(t *testing.T) {
	f := function(t, engine(t), failing(func(*Module) [][]byte {
		return [][]byte{Get(0), I32(0), I32(40_000), I32(50_000), Call(0), Drop}
	}), "ping")
	for major, distinct := range map[int]bool{1: false, 2: true} {
		w := &keeping{ResponseRecorder: httptest.NewRecorder()}
		for range 2 {
			r := httptest.NewRequest(http.MethodGet, "/bad", nil)
			r.ProtoMajor = major
			require.NoError(t, f.ServeHTTP(w, r))
		}
		seen := map[*byte]bool{}
		for _, p := range w.kept {
			seen[&p[0]] = true
		}
		require.Greater(t, len(w.kept), 1)
		require.Equal(t, distinct, len(seen) == len(w.kept))
	}
}

// keeping is a writer that breaks the rule, as that of HTTP/2 does for a moment.
type keeping struct {
	*httptest.ResponseRecorder
	kept [][]byte
}

func (k *keeping) Write(p []byte) (int, error) {
	k.kept = append(k.kept, p)
	return k.ResponseRecorder.Write(p)
}

// The queue is bounded: beyond it a call is turned away at once, and a place that
// becomes free goes to who waits.
func TestQueue(t *testing.T) {
	f := function(t, engine(t), failing(func(*Module) [][]byte { return [][]byte{I64(int64(300 * time.Millisecond)), Call(3)} }), "ping",
		func(s *vm.Spec) { s.Concurrency, s.Queue = 2, 3 })
	results := make(chan error, 20)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			results <- f.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/bad", nil))
		})
	}
	wg.Wait()
	close(results)
	busy := 0
	for err := range results {
		if err != nil {
			require.ErrorIs(t, err, vm.ErrBusy)
			require.ErrorIs(t, err, taubyte.ErrUnavailable)
			busy++
		}
	}
	require.GreaterOrEqual(t, busy, 1)
	require.LessOrEqual(t, busy, 5)
	idle, work := f.Warm()
	require.LessOrEqual(t, idle, 2)
	require.Zero(t, work)
}

// A guest that waits for a body that does not come is answered for in time, and
// one that answers while it reads can do so.
func TestBodiesOverTheNetwork(t *testing.T) {
	m := New(1)
	write := m.SDK("eventHttpWrite", "iiii:i")
	read := m.SDK("readHttpEventBody", "iiii:i")
	m.Func("ping", "i:", "i", Loop,
		Get(0), I32(100), I32(60_000), I32(0), Call(read), Set(1),
		Get(0), I32(100), I32(0), Load, I32(8), Call(write), Drop,
		Get(1), Eqz, BrIf(0), End)
	e := engine(t)
	serve := func(timeout time.Duration) *httptest.Server {
		f := function(t, e, m.Bytes(), "ping", func(s *vm.Spec) { s.Timeout = timeout; s.Limits.Body, s.Limits.Output = 1<<24, 1<<24 })
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = f.ServeHTTP(w, r) }))
		t.Cleanup(s.Close)
		return s
	}
	big := strings.Repeat("echo", 1<<20)
	s := serve(time.Minute)
	r, err := s.Client().Post(s.URL, "text/plain", strings.NewReader(big))
	require.NoError(t, err)
	back, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	require.Equal(t, len(big), len(back))
	require.Equal(t, big, string(back))

	s = serve(300 * time.Millisecond)
	never, stall := io.Pipe()
	defer stall.Close()
	r, err = s.Client().Post(s.URL, "text/plain", never)
	require.NoError(t, err)
	require.Contains(t, []int{200, 504}, r.StatusCode) // the guest is told, and may answer
	require.NoError(t, r.Body.Close())
}

// A user who leaves ends the guest's work.
func TestCancelled(t *testing.T) {
	f := function(t, engine(t), failing(func(*Module) [][]byte { return [][]byte{Loop, Br(0), End} }), "ping",
		func(s *vm.Spec) { s.Timeout = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	require.NoError(t, f.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/bad", nil).WithContext(ctx)))
}

// The engine's end cuts calls, those asleep in the host as well.
func TestStop(t *testing.T) {
	e := engine(t)
	bad := map[string]*vm.Function{
		"loop":  function(t, e, failing(func(*Module) [][]byte { return [][]byte{Loop, Br(0), End} }), "ping", func(s *vm.Spec) { s.Timeout = time.Hour }),
		"sleep": function(t, e, failing(func(*Module) [][]byte { return [][]byte{I64(int64(time.Hour)), Call(3)} }), "ping", func(s *vm.Spec) { s.Timeout = time.Hour }),
	}
	var wg sync.WaitGroup
	for _, f := range bad {
		wg.Go(func() { _ = f.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/bad", nil)) })
		testnet.Eventually(t, func() bool { _, work := f.Warm(); return work == 1 }, "not begun")
	}
	e.Stop()
	wg.Wait()
}

// So does it those that wait for a user who does not read.
func TestStopUnread(t *testing.T) {
	m := New(1)
	write := m.SDK("eventHttpWrite", "iiii:i")
	m.Func("ping", "i:", "", Loop, Get(0), I32(0), I32(60_000), I32(8), Call(write), Eqz, BrIf(0), End)
	e := engine(t)
	f := function(t, e, m.Bytes(), "ping", func(s *vm.Spec) { s.Timeout, s.Limits.Output = time.Hour, 1<<40 })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = f.ServeHTTP(w, r) }))
	defer s.Close()
	r, err := s.Client().Get(s.URL)
	require.NoError(t, err)
	defer r.Body.Close()
	e.Stop()
	testnet.Eventually(t, func() bool { _, work := f.Warm(); return work == 0 }, "still writing")
}

// A call that began keeps its instance; the module goes with the last of them.
func TestCloseWhileServing(t *testing.T) {
	e := engine(t)
	code := failing(func(*Module) [][]byte { return [][]byte{I64(int64(200 * time.Millisecond)), Call(3)} })
	f := function(t, e, code, "ping")
	get(t, f, "/")
	done := make(chan string)
	go func() {
		w := httptest.NewRecorder()
		_ = f.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/bad", nil))
		done <- w.Body.String()
	}()
	testnet.Eventually(t, func() bool { _, work := f.Warm(); return work == 1 }, "not begun")
	f.Close()
	f.Close()
	require.ErrorIs(t, f.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)), vm.ErrGone)
	require.Equal(t, "fine", <-done)
	testnet.Eventually(t, func() bool { return len(e.Modules()) == 0 && e.Memory() == 0 }, "not released")
}

func TestIdleInstancesGo(t *testing.T) {
	e := engine(t, func(c *vm.Config) { c.Idle = 20 * time.Millisecond })
	f := function(t, e, Pong(), "ping")
	get(t, f, "/")
	testnet.Eventually(t, func() bool { return e.Memory() == 0 }, "instance kept")
	require.Equal(t, "PONG", get(t, f, "/").Body.String())
}

// One instance of a function stays, as far as there is room: of those used last.
func TestWarmInstancesStay(t *testing.T) {
	const each = 1<<16 + 96<<10
	e := engine(t, func(c *vm.Config) { c.Idle, c.Warm = 20*time.Millisecond, 2*each })
	var fs []*vm.Function
	for range 4 {
		f := function(t, e, failing(func(*Module) [][]byte { return [][]byte{I64(int64(100 * time.Millisecond)), Call(3)} }), "ping")
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { get(t, f, "/bad") })
		}
		wg.Wait()
		fs = append(fs, f)
	}
	warm := func() (n []int) {
		for _, f := range fs {
			idle, _ := f.Warm()
			n = append(n, idle)
		}
		return n
	}
	testnet.Eventually(t, func() bool { return e.Memory() == 2*each }, "others kept")
	require.Equal(t, []int{0, 0, 1, 1}, warm())
}

// A function is prepared before anybody asks for it, and where that fails it is
// as if it had not been tried.
func TestPrepare(t *testing.T) {
	const each = 1<<16 + 96<<10
	e := engine(t, func(c *vm.Config) { c.Warm = 2 * each })
	f := function(t, e, Pong(), "ping")
	f.Prepare(t.Context())
	f.Prepare(t.Context())
	idle, working := f.Warm()
	require.Equal(t, 1, idle)
	require.Zero(t, working)
	require.Equal(t, "PONG", get(t, f, "/").Body.String())

	for name, code := range map[string][]byte{"trap": Unreachable, "loop": append(append([]byte{}, Loop...), append(Br(0), End...)...)} {
		m := New(1)
		m.Func("_initialize", ":", "", code)
		m.Func("ping", "i:", "")
		f := function(t, e, m.Bytes(), "ping", func(s *vm.Spec) { s.Timeout = 100 * time.Millisecond })
		f.Prepare(t.Context())
		idle, working := f.Warm()
		require.Zero(t, idle+working, name)
	}

	f = function(t, e, Say("ping", "more"), "ping")
	f.Prepare(t.Context())
	g := function(t, e, Say("ping", "even more"), "ping")
	g.Prepare(t.Context())
	h := function(t, e, Say("ping", "too much"), "ping")
	h.Prepare(t.Context())
	idle, _ = h.Warm()
	require.Zero(t, idle)
	h.Close()
	h.Prepare(t.Context())
}

// Idle instances make room for those that are needed; those at work do not.
func TestMemoryOfTheNode(t *testing.T) {
	const each = 1<<16 + 96<<10
	e := engine(t, func(c *vm.Config) { c.Memory = 3 * each })
	code := failing(func(*Module) [][]byte { return [][]byte{I64(int64(time.Hour)), Call(3)} })
	ctx, cancel := context.WithCancel(t.Context())
	var fs []*vm.Function
	for range 4 {
		fs = append(fs, function(t, e, code, "ping", func(s *vm.Spec) { s.Timeout = time.Hour }))
	}
	for range 2 {
		for _, f := range fs {
			require.Equal(t, 200, get(t, f, "/").Code)
		}
	}
	require.EqualValues(t, 3*each, e.Memory())
	var wg sync.WaitGroup
	for _, f := range fs[:3] {
		wg.Go(func() {
			_ = f.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/bad", nil).WithContext(ctx))
		})
		testnet.Eventually(t, func() bool { _, work := f.Warm(); return work == 1 }, "not begun")
	}
	testnet.Eventually(t, func() bool { return e.Memory() == 3*each }, "not begun")
	require.ErrorIs(t, fs[3].ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)), vm.ErrBusy)
	cancel()
	wg.Wait()
	require.Equal(t, 200, get(t, fs[3], "/").Code)
}

// An instance that has grown to near its limit is not kept.
func TestGrownInstanceIsNotKept(t *testing.T) {
	f := function(t, engine(t), failing(func(*Module) [][]byte { return [][]byte{I32(12), Grow, Drop} }), "ping")
	get(t, f, "/")
	require.Equal(t, 200, get(t, f, "/bad").Code)
	idle, _ := f.Warm()
	require.Zero(t, idle)
}

func TestRefusedModules(t *testing.T) {
	e := engine(t)
	for name, c := range map[string]struct {
		code []byte
		want string
	}{
		"no wasm":      {[]byte("#!/bin/sh"), "malformed"},
		"empty":        {nil, "malformed"},
		"foreign name": {func() []byte { m := New(1); m.Import("https://169.254.169.254/x", "f", ":"); return m.Bytes() }(), "imports from"},
		"multiaddr":    {func() []byte { m := New(1); m.Import("/file/etc/passwd", "f", ":"); return m.Bytes() }(), "imports from"},
		"no memory":    {func() []byte { m := New(0); m.SDK("eventHttpFlush", "i:i"); return m.Bytes() }(), "memory"},
		"invalid code": {func() []byte { m := New(1); m.Func("ping", "i:i", ""); return m.Bytes() }(), "i32"},
	} {
		_, err := load(t, e, c.code)
		require.ErrorIs(t, err, taubyte.ErrInvalid, name)
		require.ErrorContains(t, err, c.want, name)
	}
	require.Empty(t, e.Modules())

	for name, c := range map[string]struct {
		change func(*vm.Spec)
		code   []byte
		want   string
	}{
		"no such export": {func(s *vm.Spec) { s.Call = "pong" }, Pong(), "ping"},
		"two parameters": {func(*vm.Spec) {}, func() []byte { m := New(1); m.Func("ping", "ii:", ""); return m.Bytes() }(), "2 parameters"},
		"too big":        {func(s *vm.Spec) { s.Memory = 100 }, func() []byte { m := New(2); m.Func("ping", "i:", ""); return m.Bytes() }(), "128 KiB"},
	} {
		m, err := load(t, e, c.code)
		require.NoError(t, err, name)
		s := spec(m, "ping")
		c.change(&s)
		_, err = e.NewFunction(s)
		require.ErrorIs(t, err, taubyte.ErrInvalid, name)
		require.ErrorContains(t, err, c.want, name)
	}
}

// One content is fetched and compiled once, however many ask for it at a time;
// and who gives up does not take it from the others.
func TestLoadOnce(t *testing.T) {
	e := engine(t)
	code := Pong()
	fetched := 0
	begin := make(chan struct{})
	fetch := func(context.Context) ([]byte, error) {
		fetched++
		<-begin
		return code, nil
	}
	impatient, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := e.Load(impatient, idOf(t, code), fetch)
		require.ErrorIs(t, err, context.Canceled)
		close(begin)
	})
	for range 8 {
		wg.Go(func() {
			m, err := e.Load(t.Context(), idOf(t, code), fetch)
			require.NoError(t, err)
			m.Release()
		})
	}
	testnet.Eventually(t, func() bool { return e.Waiting(idOf(t, code)) == 9 }, "not all there")
	cancel()
	wg.Wait()
	require.Equal(t, 1, fetched)

	_, err := e.Load(t.Context(), idOf(t, []byte("other")), func(context.Context) ([]byte, error) { return nil, taubyte.ErrNotFound })
	require.ErrorIs(t, err, taubyte.ErrNotFound)
}

// Stock Go makes guests with no SDK at all, and they run on every platform.
func TestStockGo(t *testing.T) {
	for name, interpret := range map[string]bool{"compiled": false, "interpreted": true} {
		t.Run(name, func(t *testing.T) {
			option := compiled(t)
			if interpret {
				option = func(c *vm.Config) { c.Interpret = true }
			}
			e := engine(t, option)
			f := stockGo(t, e, "gopong", "ping", interpret)
			for range 3 {
				w := get(t, f, "/")
				require.Equal(t, 200, w.Code)
				require.Equal(t, "PONG from Go", w.Body.String())
			}
			idle, _ := f.Warm()
			require.Equal(t, 1, idle)

			f = stockGo(t, e, "gopong", "files", interpret)
			for range 2 {
				require.Equal(t, "file", get(t, f, "/").Body.String())
			}
		})
	}
}

func BenchmarkPongStockGo(b *testing.B) {
	f := function(b, engine(b), buildGo(b, "testdata/gopong"), "ping", func(s *vm.Spec) { s.Memory = 16 << 20 })
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	w := &nothing{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		if err := f.ServeHTTP(w, r); err != nil {
			b.Fatal(err)
		}
	}
}
