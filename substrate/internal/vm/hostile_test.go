package vm_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
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

// raw writes sections as they stand, each an id and its content.
func raw(sections ...any) []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	for i := 0; i < len(sections); i += 2 {
		content := sections[i+1].([]byte)
		out = append(append(append(out, byte(sections[i].(int))), U32(uint32(len(content)))...), content...)
	}
	return out
}

// several is a vector of the same entry.
func several(n uint32, entry string) []byte {
	return append(U32(n), bytes.Repeat([]byte(entry), int(n))...)
}

// code is a code section of functions that all have this body.
func code(n uint32, body string) []byte {
	return several(n, string(append(U32(uint32(len(body))), body...)))
}

const void = "\x60\x00\x00" // the type of a function without parameters and results

// Modules that ask too much of a node are refused before it pays for them, and
// say why.
func TestHostileModulesAreRefused(t *testing.T) {
	type module = struct {
		code []byte
		want string
	}
	repeat := strings.Repeat
	one := several(1, void)
	modules := map[string]module{
		"huge table":           {raw(4, several(1, "\x70\x00\xff\xff\xff\xff\x0f")), "entries of a table"},
		"many tables":          {raw(4, several(17, "\x70\x00\x00")), "tables"},
		"huge memory":          {raw(5, several(1, "\x00\x81\x80\x04")), "pages"},
		"memories":             {raw(5, several(2, "\x00\x01")), "memories"},
		"shared memory":        {raw(5, several(1, "\x03\x01\x01")), "shared"},
		"memory of 64 bits":    {raw(5, several(1, "\x04\x01")), "64-bit"},
		"imported memory":      {raw(2, several(1, "\x0alibraries/\x01m\x02\x00\x01")), "imports its memory"},
		"thousands of globals": {raw(6, several(5000, "\x7f\x01\x41\x00\x0b")), "globals"},
		"thousands of types":   {raw(1, several(20_000, void)), "types"},
		"functions":            {raw(1, one, 3, several(100_001, "\x00"), 10, code(100_001, "\x00\x0b")), "functions"},
		"imports":              {raw(1, one, 2, several(1001, "\x03env\x01f\x00\x00")), "imports"},
		"parameters":           {raw(1, several(1, "\x60\xf4\x03"+repeat("\x7f", 500)+"\x00")), "parameters"},
		"locals of one":        {raw(1, one, 3, several(1, "\x00"), 10, code(1, "\x01\xff\xff\xff\xff\x0f\x7f\x0b")), "locals"},
		"locals of many":       {raw(1, one, 3, several(2000, "\x00"), 10, code(2000, "\x01\xd0\x86\x03\x7f\x0b")), "complexity"},
		"targets of a jump":    {raw(1, one, 3, several(1, "\x00"), 10, code(1, "\x00\x41\x00\x0e\xc0\x84\x3d"+repeat("\x00", 1_000_001)+"\x0b")), "complexity"},
		"branches":             {raw(1, one, 3, several(1, "\x00"), 10, code(1, "\x00"+repeat("\x41\x01\x0d\x00", 100_000)+"\x0b")), "complexity"},
		"loops":                {raw(1, one, 3, several(1, "\x00"), 10, code(1, "\x00"+repeat("\x03\x40", 30_000)+repeat("\x0b", 30_001))), "complexity"},
		"calls":                {raw(1, one, 3, several(1, "\x00"), 10, code(1, "\x00"+repeat("\x10\x00", 500_000)+"\x0b")), "calls"},
		"calls among globals":  {raw(1, one, 3, several(1, "\x00"), 6, several(900, "\x7f\x01\x41\x00\x0b"), 10, code(1, "\x00"+repeat("\x10\x00", 2000)+"\x0b")), "globals"},
		"one large function":   {raw(1, one, 3, several(1, "\x00"), 10, code(1, "\x00"+repeat("\x01", 1<<20)+"\x0b")), "bytes of a function"},
		"large file":           {raw(0, append([]byte("\x01x"), make([]byte, 17<<20)...)), "bytes"},
		"data segments":        {raw(5, several(1, "\x00\x01"), 11, several(100_001, "\x00\x41\x00\x0b\x00")), "data segments"},
		"exceptions":           {raw(1, one, 13, several(1, "\x00\x00")), "exceptions"},

		"a count that lies":         {raw(1, U32(1<<31)), "malformed"},
		"a section that lies":       {[]byte("\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\x0f"), "malformed"},
		"a function that lies":      {raw(1, one, 3, several(1, "\x00"), 10, append(U32(1), "\xff\xff\xff\x0f\x00\x0b"...)), "malformed"},
		"data that lies":            {raw(5, several(1, "\x00\x01"), 11, append(U32(1), "\x00\x41\x00\x0b\xff\xff\xff\xff\x0f"...)), "malformed"},
		"a segment count that lies": {raw(5, several(1, "\x00\x01"), 12, U32(7), 11, several(1, "\x00\x41\x00\x0b\x00")), "malformed"},
		"no code for a function":    {raw(1, one, 3, several(1, "\x00")), "malformed"},
		"sections out of order":     {raw(3, several(0, ""), 1, several(0, "")), "malformed"},
		"a section twice":           {raw(1, one, 1, one), "malformed"},
		"unended function":          {raw(1, one, 3, several(1, "\x00"), 10, code(1, "\x00\x02\x40\x0b")), "malformed"},
		"a number without end":      {raw(1, bytes.Repeat([]byte{0x80}, 100)), "malformed"},
		"the host's own import":     {raw(1, several(1, "\x60\x01\x7e\x01\x7e"), 2, several(1, "\x0dtaubyte/meter\x06refuel\x00\x00")), "reserved"},
		"the host's own export":     {raw(1, one, 3, several(1, "\x00"), 7, several(1, "\x13taubyte/meter start\x00\x00"), 10, code(1, "\x00\x0b")), "reserved"},
	}
	for name, from := range map[string]string{
		"nothing": "", "a URL": "http://169.254.169.254/latest/meta-data", "a file": "/file/etc/passwd", "a path upwards": "libraries/../../x",
		"a prefix alone": "libraries/", "another runtime": "wasi_unstable", "a long name": repeat("x", 100_000), "zeros": "\x00\x00",
	} {
		m := New(1)
		m.Import(from, "f", ":")
		want := "import"
		if name == "a path upwards" {
			continue // names no resource: which ones exist, only a deployment knows
		}
		modules["import from "+name] = module{m.Bytes(), want}
	}

	e := engine(t)
	f := function(t, e, Pong(), "ping")
	var before, after runtime.MemStats
	for name, m := range modules {
		runtime.ReadMemStats(&before)
		_, err := load(t, e, m.code)
		runtime.ReadMemStats(&after)
		require.ErrorIs(t, err, taubyte.ErrInvalid, name)
		require.ErrorContains(t, err, m.want, name)
		require.Less(t, len(err.Error()), 120_000, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20)+8*uint64(len(m.code)), name)
	}
	require.Equal(t, "PONG", get(t, f, "/").Body.String())
}

// Modules that misbehave when they are run are stopped, each at its own cost:
// the node's memory stays bounded, and another function is served all the while.
func TestHostileGuestsAreStopped(t *testing.T) {
	e := engine(t, func(c *vm.Config) { c.Memory, c.Share = 64<<20, 32<<20 })
	loop := [][]byte{Loop, Br(0), End}
	growing := [][]byte{Loop, I32(1), Grow, Drop, Br(0), End}
	for name, c := range map[string]struct {
		build  func(m *Module) // the start, if any, and ping
		status int
	}{
		"endless start function":       {func(m *Module) { m.Start(m.Func("", ":", "", loop...)); m.Func("ping", "i:", "") }, 504},
		"start function that recurses": {func(m *Module) { m.Start(m.Func("", ":", "", Call(0))); m.Func("ping", "i:", "") }, 500},
		"start function that grows":    {func(m *Module) { m.Start(m.Func("", ":", "", growing...)); m.Func("ping", "i:", "") }, 504},
		"start function that traps":    {func(m *Module) { m.Start(m.Func("", ":", "", Unreachable)); m.Func("ping", "i:", "") }, 500},
		"endless initialiser":          {func(m *Module) { m.Func("_initialize", ":", "", loop...); m.Func("ping", "i:", "") }, 504},
		"endless main":                 {func(m *Module) { m.Func("_start", ":", "", loop...); m.Func("ping", "i:", "") }, 504},
		"endless call":                 {func(m *Module) { m.Func("ping", "i:", "", loop...) }, 504},
		"recursion":                    {func(m *Module) { m.Func("ping", "i:", "", I32(0), Call(0)) }, 500},
		"recursion in a loop":          {func(m *Module) { m.Func("ping", "i:", "", Loop, I32(0), Call(0), Br(0), End) }, 500},
		"growing for ever":             {func(m *Module) { m.Func("ping", "i:", "", growing...) }, 504},
		"growing by gigabytes":         {func(m *Module) { m.Func("ping", "i:", "", Loop, I32(65535), Grow, Drop, Br(0), End) }, 504},
		"filling memory":               {func(m *Module) { m.Func("ping", "i:", "", Loop, I32(0), I32(7), I32(65536), Fill, Br(0), End) }, 504},
		"beyond its memory":            {func(m *Module) { m.Func("ping", "i:", "", I32(-4), Load, Drop) }, 500},
		"data beyond its memory":       {func(m *Module) { m.Data(65536, "x"); m.Func("ping", "i:", "") }, 500},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(1)
			c.build(m)
			bad := function(t, e, m.Bytes(), "ping", func(s *vm.Spec) {
				s.Timeout, s.Memory, s.Concurrency, s.Queue = time.Minute, 16<<20, 4, 4
				if c.status == 504 {
					s.Timeout = 200 * time.Millisecond
				}
			})
			good := function(t, e, Say("ping", name), "ping", func(s *vm.Spec) { s.Self.Project = "Q" })
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					w := httptest.NewRecorder()
					if err := bad.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil)); err == nil && w.Code != c.status {
						t.Errorf("status %d", w.Code)
					}
				})
			}
			wg.Go(func() {
				for ctx.Err() == nil {
					w := httptest.NewRecorder()
					if err := good.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil)); err != nil || w.Body.String() != name {
						t.Errorf("another function: %v, %d %q", err, w.Code, w.Body)
						return
					}
					if e.Memory() > 64<<20 {
						t.Errorf("%d bytes of memory", e.Memory())
					}
				}
			})
			testnet.Eventually(t, func() bool { _, work := good.Warm(); idle, _ := good.Warm(); return work+idle > 0 }, "not served")
			_, working := bad.Warm()
			for working > 0 {
				runtime.Gosched()
				_, working = bad.Warm()
			}
			cancel()
			wg.Wait()
			idle, working := bad.Warm()
			require.Zero(t, idle+working)
		})
	}
}

// Tables are memory of the node as well.
func TestTablesAreCounted(t *testing.T) {
	m := raw(1, several(1, "\x60\x01\x7f\x00"), 3, several(1, "\x00"), 4, several(4, "\x70\x00\xa0\x8d\x06"), // 4 times 100,000
		5, several(1, "\x00\x01"), 7, append(U32(2), "\x06memory\x02\x00\x04ping\x00\x00"...), 10, code(1, "\x00\x0b"))
	e := engine(t, func(c *vm.Config) { c.Memory = 5 << 20 })
	f := function(t, e, m, "ping")
	g := function(t, e, append(m, "\x00\x02\x01x"...), "ping") // the same module under another name
	require.Equal(t, 200, get(t, f, "/").Code)
	require.Greater(t, e.Memory(), int64(3<<20))
	require.Equal(t, 200, get(t, g, "/").Code)
	idle, _ := f.Warm()
	require.Zero(t, idle, "there is room for one")
}
