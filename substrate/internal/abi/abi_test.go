package abi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/miekg/dns"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/taubyte/taubyte/internal/guestabi"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/egress"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
)

// A host is an engine and what its guests log.
type host struct {
	*testing.T
	engine *vm.Engine
	limits abi.Limits
	log    *bytes.Buffer

	network *egress.Network
	stores  abi.Stores
}

// local reaches servers of the test.
var local = egress.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

func newHost(t *testing.T, change ...func(*abi.Services)) *host {
	testnet.CheckLeaks(t)
	h := &host{T: t, log: &bytes.Buffer{}, limits: abi.Limits{Output: 1 << 20, Body: 1 << 10, LogLines: 10}}
	h.network = local.Network(nil)
	t.Cleanup(h.network.Close)
	services := abi.Services{}
	for _, f := range change {
		f(&services)
	}
	e, err := vm.New(context.Background(), vm.Config{
		Services: services, ModuleBytes: 1 << 20, Memory: 1 << 28, Share: 1 << 28, Idle: time.Minute,
		Log: slog.New(slog.NewTextHandler(h.log, nil)),
	})
	require.NoError(t, err)
	h.engine = e
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return h
}

func (h *host) load(code []byte) (*vm.Module, error) {
	sum, err := multihash.Sum(code, multihash.SHA2_256, -1)
	require.NoError(h, err)
	return h.engine.Load(context.Background(), cid.NewCidV1(cid.Raw, sum), func(context.Context) ([]byte, error) { return code, nil })
}

func (h *host) function(code []byte, links ...vm.Link) *vm.Function {
	h.Helper()
	m, err := h.load(code)
	require.NoError(h, err)
	f, err := h.engine.NewFunction(vm.Spec{
		Self:   abi.Self{Project: "the-project", Function: "the-function", Name: "fn", Branch: "main", Commit: "c0ffee", Network: h.network, Stores: h.stores},
		Module: m, Links: links, Call: "f", Timeout: 20 * time.Second, Memory: 4 << 20, Concurrency: 1, Queue: 1,
		Limits: h.limits,
	})
	require.NoError(h, err)
	h.Cleanup(f.Close)
	return f
}

func (h *host) serve(f *vm.Function, r *http.Request) *httptest.ResponseRecorder {
	h.Helper()
	w := httptest.NewRecorder()
	require.NoError(h, f.ServeHTTP(w, r))
	return w
}

// A script is a guest that makes host calls one after the other: their results
// are found in its memory at results, four bytes each. Then it answers with a part of its
// memory, unless to is 0.
type script struct {
	m    *Module
	n    int
	code [][]byte
}

const results = 4096

type event struct{} // as an argument: the id of the event

func newScript() *script { return &script{m: New(1)} }

// prepare declares the functions that are called.
func (s *script) run(h *host, r *http.Request, from, to int32, calls ...call) (string, []uint32) {
	h.Helper()
	w := s.answer(h, r, from, to, calls...)
	return w.Body.String()[:max(int(to-from), 0)], s.results(w)
}

func (s *script) results(w *httptest.ResponseRecorder) []uint32 {
	raw := w.Body.Bytes()
	raw = raw[len(raw)-4*s.n:]
	out := make([]uint32, s.n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(raw[4*i:])
	}
	return out
}

type call struct {
	name, typ string
	args      []any
}

// do is a call of taubyte/sdk.
func do(name, typ string, args ...any) call { return call{name, typ, args} }

func (s *script) answer(h *host, r *http.Request, from, to int32, calls ...call) *httptest.ResponseRecorder {
	h.Helper()
	return h.serve(h.function(s.bytes(from, to, calls...)), r)
}

func (s *script) bytes(from, to int32, calls ...call) []byte {
	write := s.m.SDK("eventHttpWrite", "iiii:i")
	s.n = len(calls)
	index := map[string]uint32{}
	for _, c := range calls {
		if _, ok := index[c.name]; !ok {
			index[c.name] = s.m.SDK(c.name, c.typ)
		}
	}
	for i, c := range calls {
		s.code = append(s.code, I32(results+int32(4*i)))
		for _, a := range c.args {
			switch a := a.(type) {
			case event:
				s.code = append(s.code, Get(0))
			case rune:
				s.code = append(s.code, I32(a))
			case int:
				s.code = append(s.code, I32(int32(a)))
			case int64:
				s.code = append(s.code, I64(a))
			}
		}
		s.code = append(s.code, Call(index[c.name]))
		if strings.HasSuffix(c.typ, ":") {
			s.code = append(s.code, I32(0))
		}
		s.code = append(s.code, Store)
	}
	say := func(from, to int32) {
		if to > from {
			s.code = append(s.code, Get(0), I32(from), I32(to-from), I32(8000), Call(write), Drop)
		}
	}
	say(from, to)
	say(results, results+int32(4*s.n))
	s.m.Func("f", "i:", "", s.code...)
	return s.m.Bytes()
}

func names(t *testing.T) map[string]string {
	all := guestabi.Functions("taubyte/sdk")
	require.NotEmpty(t, all)
	return all
}

// What is listed for those who check modules is what the host has.
func TestListOfImports(t *testing.T) {
	r := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter())
	defer r.Close(t.Context())
	require.NoError(t, abi.Instantiate(t.Context(), r))
	letters := func(types []api.ValueType) (s string) {
		for _, v := range types {
			s += map[api.ValueType]string{api.ValueTypeI32: "i", api.ValueTypeI64: "I", api.ValueTypeF32: "f", api.ValueTypeF64: "F"}[v]
		}
		return s
	}
	require.ElementsMatch(t, []string{abi.ModuleSDK, abi.ModuleSmartOps, abi.ModuleEnv, abi.ModuleWASI}, guestabi.Modules())
	for _, module := range guestabi.Modules() {
		have := map[string]string{}
		for name, f := range r.Module(module).ExportedFunctionDefinitions() {
			have[name] = letters(f.ParamTypes()) + ":" + letters(f.ResultTypes())
		}
		require.Equal(t, have, guestabi.Functions(module), module)
	}
	require.Nil(t, guestabi.Functions("elsewhere"))
}

// Linking is strict: one name that is missing, or has another type, and a whole
// module does not load.
func TestEveryNameLinks(t *testing.T) {
	all := names(t)
	require.Len(t, all, 196)
	h := newHost(t)
	m := New(1)
	for name, typ := range all {
		m.SDK(name, typ)
	}
	m.Import("env", "_ready", ":")
	m.Import("env", "_sleep", "I:")
	m.Import("env", "_log", "ii:")
	for _, name := range []string{"fd_write:iiii:i", "proc_exit:i:", "clock_time_get:iIi:i", "random_get:ii:i", "path_open:iiiiiIIii:i", "poll_oneoff:iiii:i"} {
		name, typ, _ := strings.Cut(name, ":")
		m.Import("wasi_snapshot_preview1", name, typ)
	}
	m.Func("f", "i:", "")
	require.Equal(t, 200, h.serve(h.function(m.Bytes()), httptest.NewRequest("GET", "/", nil)).Code)
}

// What the host does not offer fails with an errno, and not with a trap.
func TestTheRestFailsPolitely(t *testing.T) {
	h := newHost(t)
	for name, typ := range names(t) {
		params, result, _ := strings.Cut(typ, ":")
		if result == "" || name == "fifoNew" || name == "selfApplication" || // which is empty
			strings.HasPrefix(name, "eventHttp") || strings.HasPrefix(name, "getHttpEvent") {
			continue
		}
		c := call{name: name, typ: typ}
		for _, p := range params {
			// An address far outside of the memory, or a handle of nothing.
			if p == 'I' {
				c.args = append(c.args, int64(-1))
			} else {
				c.args = append(c.args, int(-256))
			}
		}
		_, e := newScript().run(h, httptest.NewRequest("GET", "/", nil), 0, 0, c)
		require.NotZero(t, e[0], name)
		require.LessOrEqual(t, e[0], uint32(116), "%s: the Rust SDK panics on larger numbers", name)
	}
}

func TestRequest(t *testing.T) {
	h := newHost(t)
	r := httptest.NewRequest("PUT", "http://Shop.Example:8080/a%20b/c?one=1&two=2&one=3", nil)
	r.Header.Set("User-Agent", "tester")
	r.Header.Set("X-Word", "first")
	r.Header.Add("X-Word", "second")
	r.Header.Set("Taubyte-Client", "1.2.3.4:5")

	s := newScript()
	s.m.Data(0, "onex-wordTaubyte-Client")
	text, e := s.run(h, r, 64, 64+196,
		do("getEventType", "ii:", event{}, 64),
		do("getHttpEventMethodSize", "ii:i", event{}, 68),
		do("getHttpEventMethod", "iii:i", event{}, 72, 3),
		do("getHttpEventHostSize", "ii:i", event{}, 76),
		do("getHttpEventHost", "iii:i", event{}, 80, 17),
		do("getHttpEventPathSize", "ii:i", event{}, 100),
		do("getHttpEventPath", "iii:i", event{}, 104, 6),
		do("getHttpEventUserAgentSize", "ii:i", event{}, 112),
		do("getHttpEventUserAgent", "iii:i", event{}, 116, 6),
		do("getHttpEventQueryValueByNameSize", "iiii:i", event{}, 124, 0, 3),
		do("getHttpEventQueryValueByName", "iiiii:i", event{}, 0, 3, 128, 1),
		do("getHttpEventRequestQueryKeysSize", "ii:i", event{}, 132),
		do("getHttpEventRequestQueryKeys", "ii:i", event{}, 136),
		do("getHttpEventHeadersSize", "iiii:i", event{}, 144, 3, 6),
		do("getHttpEventHeaders", "iiiii:i", event{}, 3, 6, 240, 13),
		do("getHttpEventHeaderVarNameByIdSize", "ii:i", event{}, 156),
		do("getHttpEventHeaderVarNameById", "ii:i", event{}, 160),
		do("getHttpEventRequestHeaderKeysSize", "ii:i", event{}, 184),
		do("getHttpEventRequestHeaderKeys", "iii:i", event{}, 188, 18),
		do("getHttpEventHeadersSize", "iiii:i", event{}, 212, 9, 14), // between nodes
		do("getHttpEventQueryValueByNameSize", "iiii:i", event{}, 216, 0, 2),
		do("getHttpEventHeadersSize", "iiii:i", event{}, 220, 0, 2),
	)
	for i := range e {
		require.Zero(t, e[i], "call %d", i)
	}
	cell := func(at int) uint32 { return binary.LittleEndian.Uint32([]byte(text)[at-64:]) }
	at := func(at, n int) string { return text[at-64 : at-64+n] }
	require.EqualValues(t, 1, cell(64), "an HTTP event")
	require.EqualValues(t, 3, cell(68))
	require.Equal(t, "PUT", at(72, 3))
	require.EqualValues(t, 17, cell(76))
	require.Equal(t, "Shop.Example:8080", at(80, 17))
	require.EqualValues(t, 6, cell(100))
	require.Equal(t, "/a b/c", at(104, 6))
	require.Equal(t, "tester", at(116, int(cell(112))))
	require.Equal(t, "1", at(128, int(cell(124))))
	require.Equal(t, "one\x00two\x00", at(136, int(cell(132))))
	require.Equal(t, "first, second", at(240, int(cell(144))), "lines of one header are one list")
	require.Equal(t, "User-Agent\x00X-Word\x00", at(160, int(cell(156))))
	require.Equal(t, "User-Agent\x00X-Word\x00", at(188, int(cell(184))))
	require.Zero(t, cell(212), "headers between nodes are not the guest's")
	require.Zero(t, cell(216), "absence is no error")
	require.Zero(t, cell(220))
}

func TestBody(t *testing.T) {
	h := newHost(t)
	read := func(at, n, cell int) call { return do("readHttpEventBody", "iiii:i", event{}, at, n, cell) }
	text, e := newScript().run(h, httptest.NewRequest("POST", "/", strings.NewReader("0123456789")), 64, 164,
		read(64, 4, 100), read(68, 0, 104), read(68, 20, 108), read(90, 4, 112),
		do("closeHttpEventBody", "i:i", event{}))
	cell := func(at int) uint32 { return binary.LittleEndian.Uint32([]byte(text)[at-64:]) }
	require.Equal(t, "0123456789", text[:10])
	require.EqualValues(t, 4, cell(100))
	require.EqualValues(t, 0, cell(104))
	require.EqualValues(t, 6, cell(108))
	require.EqualValues(t, 0, e[0])
	require.EqualValues(t, 0, e[1])
	require.EqualValues(t, abi.ErrEOF, e[3])
	require.Zero(t, e[4])

	// More than the limit is an error, wherever the body comes from.
	long := io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<10)), strings.NewReader("y"))
	_, e = newScript().run(h, httptest.NewRequest("POST", "/", long), 0, 0, read(0, 2048, 8000), read(0, 2048, 8000))
	require.EqualValues(t, 0, e[0])
	require.EqualValues(t, abi.ErrHttpReadBody, e[1])
	// Exactly the limit is none.
	_, e = newScript().run(h, httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", 1<<10))), 0, 0, read(0, 2048, 8000), read(0, 2048, 8000))
	require.EqualValues(t, abi.ErrEOF, e[1])
}

func TestResponse(t *testing.T) {
	h := newHost(t)
	s := newScript()
	s.m.Data(0, "x-aonetwoTaubyte-RefusedConnection")
	header := func(key, keyLen, value, valueLen int) call {
		return do("eventHttpHeaderAdd", "iiiii:i", event{}, key, keyLen, value, valueLen)
	}
	code := func(n int) call { return do("eventHttpRetCode", "ii:i", event{}, n) }
	w := s.answer(h, httptest.NewRequest("GET", "/", nil), 0, 0,
		code(99), code(1000), code(404), code(102), code(418),
		header(0, 3, 3, 3), header(0, 3, 6, 3), // added, not replaced
		header(9, 15, 3, 3), // the host's own
		header(24, 10, 3, 3),
		header(0, 3, -1, 3),
		do("eventHttpWrite", "iiii:i", event{}, 3, 3, 8000),
		code(422),          // nothing has left
		header(0, 3, 3, 3), // too late, and no error
		do("eventHttpWrite", "iiii:i", event{}, -1, 3, 8000),
		do("eventHttpFlush", "i:i", event{}),
		code(500),
	)
	require.Equal(t, 422, w.Code)
	require.Equal(t, []string{"one", "two"}, w.Header()["X-A"])
	require.Empty(t, w.Header()["Taubyte-Refused"])
	require.Empty(t, w.Header()["Connection"])
	require.True(t, w.Flushed)
	require.Equal(t, "one", w.Body.String()[:3])
	require.Equal(t, []uint32{5, 5, 0, 0, 0, 0, 0, 5, 0, 3, 0, 0, 0, 3, 0, 0}, s.results(w))
}

// A guest may write what is wrong and then say that it is an error, as long as nothing has
// left: an answer of any status has what was written under another.
func TestStatusAfterTheBody(t *testing.T) {
	for _, c := range []struct {
		first, last, size, status int
	}{
		{200, 404, 3, 404}, {204, 200, 9000, 200}, {204, 200, 20000, 204}, {200, 204, 9000, 204}, {200, 500, 20000, 200},
	} {
		h := newHost(t)
		m := New(1)
		code, write := m.SDK("eventHttpRetCode", "ii:i"), m.SDK("eventHttpWrite", "iiii:i")
		m.Func("f", "i:", "", Get(0), I32(int32(c.first)), Call(code), Drop, Get(0), I32(0), I32(int32(c.size)), I32(40000), Call(write), Drop,
			Get(0), I32(int32(c.last)), Call(code), Drop)
		w := h.serve(h.function(m.Bytes()), httptest.NewRequest("GET", "/", nil))
		require.Equal(t, c.status, w.Code, c)
		want := c.size
		if c.status == 204 {
			want = 0
		}
		require.Equal(t, want, w.Body.Len(), c)
	}
}

func TestRedirect(t *testing.T) {
	h := newHost(t)
	s := newScript()
	s.m.Data(0, "/there")
	s.n = 0
	redirect := s.m.SDK("eventHttpRedirect", "iiii:i")
	code := s.m.SDK("eventHttpRetCode", "ii:i")
	s.m.Func("f", "i:", "", Get(0), I32(0), I32(6), I32(303), Call(redirect), Drop, Get(0), I32(200), Call(code), Drop)
	w := h.serve(h.function(s.m.Bytes()), httptest.NewRequest("GET", "/here", nil))
	require.Equal(t, 303, w.Code)
	require.Equal(t, "/there", w.Header().Get("Location"))
	require.Contains(t, w.Body.String(), "See Other")
}

// Who frames a response is the host: what a guest says of its length may be wrong.
func TestFraming(t *testing.T) {
	h := newHost(t)
	h.limits.Output = 1 << 20
	chunks := map[string]int{"hello": 1, strings.Repeat("0123456789", 300): 1, strings.Repeat("x", 8<<10): 5, "": 0}
	for content, times := range chunks {
		whole := strings.Repeat(content, times)
		for _, lengths := range [][]string{nil, {"100"}, {"2"}, {"5", "7"}, {"5", "5"}, {"-1"}, {"x"}, {"5, 5"}, {""}, {"+5"}, {fmt.Sprint(len(whole))}, {"99999999999999999999"}} {
			for _, status := range []int{200, 201, 404, 500, 204, 205, 304} {
				s := newScript()
				s.m.Data(1<<14, content)
				s.m.Data(0, "Content-Length")
				write, add, code := s.m.SDK("eventHttpWrite", "iiii:i"), s.m.SDK("eventHttpHeaderAdd", "iiiii:i"), s.m.SDK("eventHttpRetCode", "ii:i")
				body := [][]byte{Get(0), I32(int32(status)), Call(code), Drop}
				at := int32(64)
				for _, l := range lengths {
					s.m.Data(uint32(at), l)
					body = append(body, Get(0), I32(0), I32(14), I32(at), I32(int32(len(l))), Call(add), Drop)
					at += 32
				}
				for range times {
					body = append(body, Get(0), I32(1<<14), I32(int32(len(content))), I32(8000), Call(write), Drop)
				}
				s.m.Func("f", "i:", "", body...)
				f := h.function(s.m.Bytes())
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if err := f.ServeHTTP(w, r); err != nil {
						t.Error(err)
					}
				}))
				for _, method := range []string{"GET", "HEAD"} {
					what := fmt.Sprint(method, " ", status, " ", lengths, " ", len(whole))
					r, err := http.NewRequest(method, server.URL, nil)
					require.NoError(t, err)
					resp, err := http.DefaultClient.Do(r)
					require.NoError(t, err, what)
					got, err := io.ReadAll(resp.Body)
					require.NoError(t, err, what)
					require.NoError(t, resp.Body.Close())
					require.Equal(t, status, resp.StatusCode, what)
					length := resp.Header.Values("Content-Length")
					switch {
					case status == 204, status == 304:
						require.Empty(t, got, what)
						require.Empty(t, length, what)
					case status == 205:
						require.Empty(t, got, what)
						require.Equal(t, []string{"0"}, length, what)
					case method == "HEAD":
						require.Empty(t, got, what)
						if whole != "" {
							require.Equal(t, []string{fmt.Sprint(len(whole))}, length, what)
							require.Equal(t, "text/plain; charset=utf-8", resp.Header.Get("Content-Type"), what)
						} else if len(lengths) == 1 && lengths[0] == "100" {
							require.Equal(t, []string{"100"}, length, "as the guest says, who has it from nowhere else: %s", what)
						}
					default:
						require.Equal(t, whole, string(got), what)
						if len(whole) < 16<<10 {
							require.Equal(t, []string{fmt.Sprint(len(whole))}, length, what)
						} else {
							require.Equal(t, []string{"chunked"}, resp.TransferEncoding, what)
						}
					}
				}
				server.CloseClientConnections()
				server.Close()
				f.Close()
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// A reference is taken relative to the request as RFC 3986 has it.
func TestRedirects(t *testing.T) {
	h := newHost(t)
	for to, want := range map[string]string{
		"?a=1": "/b/c/d?a=1", "?a=1&b=2#f": "/b/c/d?a=1&b=2#f", "#f": "/b/c/d?q=0#f", "": "/b/c/d?q=0", "other": "/b/c/other", "other?x=1": "/b/c/other?x=1",
		"./": "/b/c/", "../x": "/b/x", "../../../x": "/x", "/there?next=/a//b": "/there?next=/a//b", "/a//b/": "/a//b/", "/": "/",
		"/to/http://example.com/": "/to/http://example.com/", "https://example.com/a//b?c#d": "https://example.com/a//b?c#d", "//example.com/x": "//example.com/x",
		"/caf\u00e9?\u00e9": "/caf%C3%A9?%C3%A9", "/a%20b%2Fc": "/a%20b%2Fc", "mailto:a@example.com": "mailto:a@example.com",
		"/x\r\nSet-Cookie: a=b": "/x%0D%0ASet-Cookie:%20a=b",
	} {
		s := newScript()
		s.m.Data(0, to)
		redirect := s.m.SDK("eventHttpRedirect", "iiii:i")
		s.m.Func("f", "i:", "", Get(0), I32(0), I32(int32(len(to))), I32(303), Call(redirect), Drop)
		f := h.function(s.m.Bytes())
		w := h.serve(f, httptest.NewRequest("GET", "/b/c/d?q=0", nil))
		require.Equal(t, 303, w.Code, to)
		require.Equal(t, []string{want}, w.Header()["Location"], to)
		require.Equal(t, []string{"text/html; charset=utf-8"}, w.Header()["Content-Type"])
		require.Contains(t, w.Body.String(), "See Other")
		w = h.serve(f, httptest.NewRequest("POST", "/b/c/d?q=0", nil))
		require.Equal(t, []string{want}, w.Header()["Location"], to)
		require.Empty(t, w.Body.String())
		if to == "?a=1" {
			w = h.serve(f, httptest.NewRequest("GET", "/a%20b%2Fc/d", nil))
			require.Equal(t, "/a%20b%2Fc/d?a=1", w.Header().Get("Location"), "the path as it was sent")
			w = h.serve(f, httptest.NewRequest("GET", "http://example.com//evil.example/x", nil))
			require.Equal(t, "/evil.example/x?a=1", w.Header().Get("Location"), "no other host")
		}
		f.Close()
	}
}

// What a guest finds of the request's head by a name.
func TestHeaderValues(t *testing.T) {
	h := newHost(t)
	ask := func(r *http.Request, name string) string {
		s := newScript()
		s.m.Data(0, name)
		text, e := s.run(h, r, 64, 164, do("getHttpEventHeadersSize", "iiii:i", event{}, 64, 0, len(name)), do("getHttpEventHeaders", "iiiii:i", event{}, 0, len(name), 68, 96))
		require.Equal(t, []uint32{0, 0}, e)
		return text[4 : 4+binary.LittleEndian.Uint32([]byte(text))]
	}
	get := httptest.NewRequest("GET", "/x%2Fy/caf%C3%A9?tag=a&tag=b&;%zz", nil)
	get.Header["Cookie"] = []string{"a=1", "b=2; c=3"}
	get.Header["Accept"] = []string{"text/html", "application/json;q=0.5"}
	require.Equal(t, "a=1; b=2; c=3", ask(get, "cookie"))
	require.Equal(t, "text/html, application/json;q=0.5", ask(get, "ACCEPT"))
	require.Equal(t, "/x%2Fy/caf%C3%A9?tag=a&tag=b&;%zz", ask(get, ":path"))
	require.Equal(t, "0", ask(get, "content-length"), "no body is of length 0")
	require.Equal(t, "0", ask(httptest.NewRequest("POST", "/", nil), "Content-Length"))
	require.Equal(t, "2", ask(httptest.NewRequest("POST", "/", strings.NewReader("in")), "Content-Length"))
	unknown := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("in")))
	require.Empty(t, ask(unknown, "Content-Length"), "it is not known")
}

func TestHead(t *testing.T) {
	h := newHost(t)
	w := h.serve(h.function(Say("f", strings.Repeat("x", 100))), httptest.NewRequest("HEAD", "/", nil))
	require.Equal(t, "100", w.Header().Get("Content-Length"))
	require.Empty(t, w.Body.String())
}

func TestOutputLimit(t *testing.T) {
	h := newHost(t)
	h.limits.Output = 100
	f := h.function(Say("f", strings.Repeat("x", 101)))
	w := h.serve(f, httptest.NewRequest("GET", "/", nil))
	require.Equal(t, 500, w.Code, "a cut answer does not look whole")
	w = h.serve(h.function(Say("f", strings.Repeat("x", 100))), httptest.NewRequest("GET", "/", nil))
	require.Equal(t, 200, w.Code)
}

func TestSelf(t *testing.T) {
	h := newHost(t)
	text, e := newScript().run(h, httptest.NewRequest("GET", "/", nil), 64, 164,
		do("selfProjectSize", "i:i", 64), do("selfProject", "i:i", 68),
		do("selfIdSize", "i:i", 80), do("selfId", "i:i", 84),
		do("selfBranchSize", "i:i", 100), do("selfBranch", "i:i", 104),
		do("selfCommitSize", "i:i", 112), do("selfCommit", "i:i", 116),
		do("selfApplicationSize", "i:i", 124), do("selfApplication", "i:i", -4),
		do("selfIdSize", "i:i", -4), do("selfId", "i:i", -4))
	require.Equal(t, "\x0b\x00\x00\x00the-project", text[:15])
	require.Equal(t, "\x0c\x00\x00\x00the-function", text[16:32])
	require.Equal(t, "\x04\x00\x00\x00main", text[36:44])
	require.Equal(t, "\x06\x00\x00\x00c0ffee", text[48:58])
	require.Equal(t, []uint32{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 3}, e)
}

func TestRandom(t *testing.T) {
	h := newHost(t)
	text, e := newScript().run(h, httptest.NewRequest("GET", "/", nil), 64, 164,
		do("cryptoRead", "iii:i", 64, 32, 96),
		do("cryptoRead", "iii:i", 65530, 32, 96),
		do("cryptoRead", "iii:i", 0, -1, 96))
	require.Equal(t, []uint32{0, 3, 3}, e)
	require.NotEqual(t, strings.Repeat("\x00", 32), text[:32])
	require.Equal(t, "\x20\x00\x00\x00\x00\x00\x00\x00", text[32:40])
}

// An event is gone when its call is: its request can't be read in a later one.
func TestEventsAreForgotten(t *testing.T) {
	h := newHost(t)
	m := New(1)
	path := m.SDK("getHttpEventPathSize", "ii:i")
	write := m.SDK("eventHttpWrite", "iiii:i")
	// Asks for the path of event 0, whatever the event; answers with the errno.
	m.Func("f", "i:", "", I32(0), I32(0), I32(16), Call(path), Store, Get(0), I32(0), I32(4), I32(8), Call(write), Drop)
	f := h.function(m.Bytes())
	require.Equal(t, "\x00\x00\x00\x00", h.serve(f, httptest.NewRequest("GET", "/secret", nil)).Body.String())
	for range 2 {
		require.Equal(t, "\x01\x00\x00\x00", h.serve(f, httptest.NewRequest("GET", "/", nil)).Body.String())
	}
	idle, _ := f.Warm()
	require.Equal(t, 1, idle, "the same instance")
}

func TestUnknownAndWrongEvents(t *testing.T) {
	h := newHost(t)
	text, e := newScript().run(h, httptest.NewRequest("GET", "/", nil), 64, 68,
		do("getHttpEventPathSize", "ii:i", 7, 0),
		do("getMessageDataSize", "ii:i", 7, 0),
		do("getMessageDataSize", "ii:i", event{}, 0),
		do("getP2PEventDataSize", "ii:i", event{}, 0),
		do("getEventType", "ii:", 7, 64))
	require.Equal(t, []uint32{1, 1, 4, 4, 0}, e)
	require.Equal(t, "\x00\x00\x00\x00", text)
}

func TestFifos(t *testing.T) {
	h := newHost(t)
	text, e := newScript().run(h, httptest.NewRequest("GET", "/", nil), 64, 84,
		do("fifoNew", "i:i", 1),
		do("fifoPush", "ii:i", 1, 0x141), do("fifoPush", "ii:i", 1, 'B'), do("fifoPush", "ii:i", 2, 'B'),
		do("fifoIsCloser", "ii:i", 1, 72),
		do("fifoPop", "ii:i", 1, 64), do("fifoPop", "ii:i", 1, -1), do("fifoPop", "ii:i", 1, 65), do("fifoPop", "ii:i", 1, 66),
		do("fifoClose", "i:", 1), do("fifoPop", "ii:i", 1, 66))
	require.Equal(t, []uint32{1, 0, 0, 115, 0, 0, 3, 0, 8, 0, 115}, e)
	require.Equal(t, "AB", text[:2])
	require.Equal(t, byte(1), text[8])
}

// Fifos are memory of the host: they have an end.
func TestFifosAreBounded(t *testing.T) {
	h := newHost(t)
	m := New(1)
	create, push := m.SDK("fifoNew", "i:i"), m.SDK("fifoPush", "ii:i")
	write := m.SDK("eventHttpWrite", "iiii:i")
	// Makes fifos until it gets none, pushes until it fails; answers with that errno.
	m.Func("f", "i:", "", Loop, I32(0), Call(create), BrIf(0), End,
		Loop, I32(0), I32(1), I32(7), Call(push), Store, I32(0), Load, Eqz, BrIf(0), End,
		Get(0), I32(0), I32(4), I32(8), Call(write), Drop)
	require.Equal(t, "\x02\x00\x00\x00", h.serve(h.function(m.Bytes()), httptest.NewRequest("GET", "/", nil)).Body.String())
}

// A library reads what the function shows it of its memory, and no more.
func TestMemoryViewsBetweenModules(t *testing.T) {
	h := newHost(t)
	lib := New(1)
	open, read := lib.SDK("memoryViewOpen", "iii:i"), lib.SDK("memoryViewRead", "iiiii:i")
	// take(view, at) copies the view into the library's memory at 0 and makes
	// a view of that; it returns that view's id.
	create := lib.SDK("memoryViewNew", "iiii:i")
	lib.Func("take", "i:i", "",
		Get(0), I32(100), I32(104), Call(open), Drop,
		Get(0), I32(2), I32(1000), I32(0), I32(108), Call(read), Drop, // asks for too much
		I32(0), I32(108), Load, I32(1), I32(112), Call(create), Drop,
		I32(112), Load)
	l, err := h.load(lib.Bytes())
	require.NoError(t, err)
	require.Empty(t, l.Links())

	m := New(1)
	take := m.Import("libraries/lib", "take", "i:i")
	view, back := m.SDK("memoryViewNew", "iiii:i"), m.SDK("memoryViewRead", "iiiii:i")
	drop := m.SDK("memoryViewClose", "i:")
	write := m.SDK("eventHttpWrite", "iiii:i")
	m.Data(0, "..shown, hidden")
	m.Func("f", "i:", "i",
		I32(0), I32(7), I32(0), I32(64), Call(view), Drop,
		I32(64), Load, Call(take), Set(1),
		Get(1), I32(0), I32(100), I32(128), I32(72), Call(back), Drop,
		Get(1), Call(drop), Get(1), Call(drop),
		Get(0), I32(128), I32(72), Load, I32(76), Call(write), Drop)
	f := h.function(m.Bytes(), vm.Link{Name: "libraries/lib", Module: l})
	require.Equal(t, "shown", h.serve(f, httptest.NewRequest("GET", "/", nil)).Body.String())
}

func TestMemoryViewErrors(t *testing.T) {
	h := newHost(t)
	_, e := newScript().run(h, httptest.NewRequest("GET", "/", nil), 0, 0,
		do("memoryViewNew", "iiii:i", 0, 4, 2, 64),
		do("memoryViewNew", "iiii:i", 65530, 100, 0, 64),
		do("memoryViewNew", "iiii:i", 0, 4, 0, -1),
		do("memoryViewOpen", "iii:i", 1, 64, 68),
		do("memoryViewRead", "iiiii:i", 1, 0, 4, 64, 68),
		do("memoryViewNew", "iiii:i", 0, 4, 0, 64),
		do("memoryViewRead", "iiiii:i", 1, -1, -1, 64, 68),
		do("memoryViewRead", "iiiii:i", 1, 0, 4, -1, 68))
	require.Equal(t, []uint32{114, 3, 12, 111, 111, 0, 0, 3}, e)
}

func TestHTTPClient(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header()["X-Back"] = []string{"1", "2"}
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %q %q", r.Method, r.URL.Path, body, r.Header["X-A"], r.Header["X-B"])
	}))
	defer server.Close()
	h := newHost(t)
	s := newScript()
	s.m.Data(0, "bodyx-ax-bv1\x00v2\x00x-back")
	target := server.URL + "/path"
	s.m.Data(1000, target)
	read := do("readHttpResponseBody", "iiiii:i", 0, 0, 200, 100, 300)
	text, e := s.run(h, httptest.NewRequest("GET", "/", nil), 200, 320,
		do("newHttpClient", "i:i", 100),
		do("newHttpRequest", "ii:i", 1, 100), // no such client
		do("newHttpRequest", "ii:i", 0, 100),
		do("doHttpRequest", "ii:i", 0, 1), // no such request
		do("doHttpRequest", "ii:i", 0, 0), // no URL
		read,                              // before the response
		do("setHttpRequestURL", "iiii:i", 0, 0, 0, 4),
		do("setHttpRequestURL", "iiii:i", 0, 0, 1000, len(target)),
		do("setHttpRequestMethod", "iii:i", 0, 0, 10),
		do("setHttpRequestMethod", "iii:i", 0, 0, 3),
		do("getHttpRequestMethod", "iii:i", 0, 0, 304),
		do("setHttpRequestBody", "iiii:i", 0, 0, 0, 4),
		do("addHttpRequestHeader", "iiiiii:i", 0, 0, 4, 3, 10, 2), // v1, bare
		do("addHttpRequestHeader", "iiiiii:i", 0, 0, 4, 3, 10, 6), // a list
		do("setHttpRequestHeader", "iiiiii:i", 0, 0, 7, 3, 10, 6),
		do("getHttpRequestHeaderSize", "iiiii:i", 0, 0, 4, 3, 308),
		do("getHttpRequestHeaderKeysSize", "iii:i", 0, 0, 312),
		do("doHttpRequest", "ii:i", 0, 0),
		read,
		read,
		do("closeHttpResponseBody", "ii:i", 0, 0),
		do("getHttpResponseHeaderSize", "iiiii:i", 0, 0, 16, 6, 316),
		do("getHttpResponseHeader", "iiiii:i", 0, 0, 16, 6, 280),
		do("getHttpResponseStatus", "iii:i", 0, 0, 292),
		do("newHttpRequest", "ii:i", 0, 296),
		do("getHttpResponseStatus", "iii:i", 0, 1, 296), // before there is any
	)
	require.Equal(t, []uint32{0, 10, 0, 3, 11, 13, 11, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0}, e[:18])
	require.Contains(t, []uint32{0, 8}, e[18], "the end may come with the last bytes")
	require.EqualValues(t, 8, e[19])
	require.Equal(t, []uint32{0, 0, 0, 0, 0, 13}, e[20:])
	want := `PUT /path body ["v1" "v1" "v2"] ["v1" "v2"]`
	require.Equal(t, want, text[:len(want)])
	require.Equal(t, "1\x002\x00", text[80:84])
	cell := func(at int) uint32 { return binary.LittleEndian.Uint32([]byte(text)[at-200:]) }
	require.EqualValues(t, http.StatusTeapot, cell(292))
	require.EqualValues(t, 3, cell(304))
	require.EqualValues(t, 9, cell(308))
	require.EqualValues(t, 8, cell(312))
	require.EqualValues(t, 4, cell(316))
}

// A Host that a guest has set is sent, until it takes it back.
func TestHostOfARequest(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host+" ") }))
	defer server.Close()
	for change, want := range map[string]string{
		"":                        "other.example",
		"deleteHttpRequestHeader": strings.TrimPrefix(server.URL, "http://"),
		"setHttpRequestHeader":    strings.TrimPrefix(server.URL, "http://"),
	} {
		h := newHost(t)
		s := newScript()
		s.m.Data(0, "HOSTother.example")
		s.m.Data(1000, server.URL)
		calls := []call{
			do("newHttpClient", "i:i", 100), do("newHttpRequest", "ii:i", 0, 100), do("setHttpRequestURL", "iiii:i", 0, 0, 1000, len(server.URL)),
			do("addHttpRequestHeader", "iiiiii:i", 0, 0, 0, 4, 4, 13),
		}
		switch change {
		case "deleteHttpRequestHeader":
			calls = append(calls, do(change, "iiii:i", 0, 0, 0, 4))
		case "setHttpRequestHeader": // to nothing
			calls = append(calls, do(change, "iiiiii:i", 0, 0, 0, 4, 4, 0))
		}
		calls = append(calls, do("doHttpRequest", "ii:i", 0, 0), do("readHttpResponseBody", "iiiii:i", 0, 0, 200, 60, 300))
		text, _ := s.run(h, httptest.NewRequest("GET", "/", nil), 200, 260, calls...)
		got, _, _ := strings.Cut(text, " ")
		require.Equal(t, want, got, change)
	}
}

func TestDNS(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	up := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		records := map[uint16][]string{
			dns.TypeTXT: {`a.test. 60 IN TXT "one"`, `a.test. 60 IN TXT "two"`},
			dns.TypeMX:  {"a.test. 60 IN MX 10 mx.a.test."},
			dns.TypePTR: {"1.2.0.192.in-addr.arpa. 60 IN PTR host.a.test."},
			dns.TypeA:   {"a.test. 60 IN CNAME b.test.", "b.test. 60 IN A 192.0.2.1"},
		}
		for _, text := range records[q.Question[0].Qtype] {
			if rr, err := dns.NewRR(text); err == nil {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	<-up
	defer server.Shutdown()

	h := newHost(t)
	s := newScript()
	address := conn.LocalAddr().String()
	s.m.Data(0, "udpa.test192.0.2.110.0.0.1:53")
	s.m.Data(64, address)
	s.m.Data(400, "db.internal127.0.0.1")
	ask := func(name string, at, n, size, to int) []call {
		return []call{do(name+"Size", "iiii:i", 0, at, n, size), do(name, "iiii:i", 0, at, n, to)}
	}
	calls := []call{
		do("dnsNewResolver", "i:i", 200),
		do("dnsRerouteResolver", "iiiii:i", 0, 64, len(address), 0, 3),
		do("dnsRerouteResolver", "iiiii:i", 1, 64, len(address), 0, 3),
		do("dnsRerouteResolver", "iiiii:i", 0, 64, len(address), 0, 2),
	}
	calls = append(calls, ask("dnsLookupTxT", 3, 6, 200, 204)...)
	calls = append(calls, ask("dnsLookupMX", 3, 6, 216, 220)...)
	calls = append(calls, ask("dnsLookupAddress", 9, 9, 240, 244)...)
	calls = append(calls, ask("dnsLookupCNAME", 3, 6, 260, 264)...)
	calls = append(calls,
		do("dnsLookupTxT", "iiii:i", 0, 3, 6, 204), // was taken
		do("dnsRerouteResolver", "iiiii:i", 0, 18, 11, 0, 3),
		do("dnsLookupTxTSize", "iiii:i", 0, 3, 6, 280),    // a server that may not be reached
		do("dnsLookupTxTSize", "iiii:i", 0, 400, 11, 280), // of a private network, whoever is asked
		do("dnsLookupAddressSize", "iiii:i", 0, 402, 9, 280),
		do("dnsResetResolver", "i:i", 0),
		do("dnsLookupTxTSize", "iiii:i", 0, 400, 11, 280),
		do("dnsLookupMXSize", "iiii:i", 0, 400, 2, 280),
		do("dnsLookupCNAMESize", "iiii:i", 0, 400, 11, 280),
	)
	text, e := s.run(h, httptest.NewRequest("GET", "/", nil), 200, 300, calls...)
	require.Equal(t, []uint32{0, 0, 101, 101, 0, 0, 0, 0, 0, 0, 0, 0, 102, 0, 102, 102, 103, 0, 102, 105, 104}, e)
	require.Equal(t, "\x08\x00\x00\x00one\x00two\x00", text[:12])
	require.Equal(t, "mx.a.test./10/\x00", text[20:35])
	require.Equal(t, "host.a.test.\x00", text[44:57])
	require.Equal(t, "b.test.", text[64:71])
}

// What a request has several times under a name is told apart.
func TestRepeatedValues(t *testing.T) {
	r := httptest.NewRequest("GET", "/?a=1&a=%00&b=x&a=", nil)
	r.Header["X-List"] = []string{"1, 2", "3"}
	r.Header["Taubyte-Secret"] = []string{"hidden", "too"}
	for _, c := range []struct {
		fn, name string
		want     []string
	}{
		{"getHttpEventQueryValues", "a", []string{"1", "\x00", ""}}, {"getHttpEventQueryValues", "b", []string{"x"}}, {"getHttpEventQueryValues", "c", nil},
		{"getHttpEventHeaderLines", "x-list", []string{"1, 2", "3"}}, {"getHttpEventHeaderLines", "x-none", nil}, {"getHttpEventHeaderLines", "taubyte-secret", nil},
		{"getHttpEventHeaderLines", "content-length", []string{"0"}},
	} {
		h := newHost(t)
		s := newScript()
		s.m.Data(0, c.name)
		text, e := s.run(h, r, 200, 300,
			do(c.fn+"Size", "iiii:i", event{}, 200, 0, len(c.name)), do(c.fn, "iiiii:i", event{}, 0, len(c.name), 204, 90))
		require.Equal(t, []uint32{0, 0}, e, c)
		var want []byte
		for _, v := range c.want {
			want = append(binary.LittleEndian.AppendUint32(want, uint32(len(v))), v...)
		}
		require.EqualValues(t, len(want), binary.LittleEndian.Uint32([]byte(text)), c)
		require.Equal(t, string(want), text[4:4+len(want)], c)
	}
}

// A guest's message has the level that it gives, is cut where it is long, and counts with
// its lines.
func TestLogAtLevel(t *testing.T) {
	h := newHost(t)
	s := newScript()
	s.m.Data(0, "something")
	long := maxLogged + 1
	s.m.Data(1<<14, strings.Repeat("y", long))
	_, e := s.run(h, httptest.NewRequest("GET", "/", nil), 0, 0,
		do("logAtLevel", "iii:i", 8, 0, 4), do("logAtLevel", "iii:i", 5, 0, 5), do("logAtLevel", "iii:i", 1000, 0, 6), do("logAtLevel", "iii:i", -1, 0, 7),
		do("logAtLevel", "iii:i", 0, 1<<14, long), do("logAtLevel", "iii:i", 0, -1, 7))
	require.Equal(t, []uint32{0, 0, 0, 0, 0, 3}, e)
	for _, line := range []string{"level=ERROR msg=some ", "level=WARN msg=somet ", "level=ERROR msg=someth ", "level=INFO msg=\"" + strings.Repeat("y", maxLogged) + " …\""} {
		require.Contains(t, h.log.String(), line)
	}
	require.NotContains(t, h.log.String(), "msg=somethi ", "which is for who looks for mistakes")
}

// maxLogged is where a message to the log is cut.
const maxLogged = 4 << 10

func TestLog(t *testing.T) {
	h := newHost(t)
	m := New(1)
	log := m.Import("env", "_log", "ii:")
	out := m.Import("wasi_snapshot_preview1", "fd_write", "iiii:i")
	m.Data(0, "hello from env")
	m.Data(32, "two\nlines")
	m.Data(64, "\x20\x00\x00\x00\x09\x00\x00\x00") // {32, 9}
	m.Data(1000, strings.Repeat("y", 9000))
	m.Func("f", "i:", "", I32(0), I32(14), Call(log),
		I32(2), I32(64), I32(1), I32(80), Call(out), Drop,
		I32(1000), I32(9000), Call(log))
	f := h.function(m.Bytes())
	h.serve(f, httptest.NewRequest("GET", "/", nil))
	text := h.log.String()
	for _, want := range []string{`msg="hello from env"`, "msg=two", "msg=lines", "stream=stderr", "project=the-project", "function=fn"} {
		require.Contains(t, text, want)
	}
	require.Less(t, strings.Count(text, "y"), 5000, "a line is bounded")

	for range 100 {
		h.serve(f, httptest.NewRequest("GET", "/", nil))
	}
	require.Less(t, strings.Count(h.log.String(), "msg=two"), 60, "and so is their number")
}

// Whatever a guest passes, the host neither panics nor takes memory for it.
func TestArbitraryArguments(t *testing.T) {
	h := newHost(t)
	random := rand.New(rand.NewPCG(1, 2))
	interesting := []any{event{}, 0, 1, 2, 3, 4, 16, 100, 4096, 65532, 65535, 65536, 1 << 20, 1<<31 - 1, -1 << 31, -65536, -2, -1}
	var calls []call
	for name, typ := range names(t) {
		params, _, _ := strings.Cut(typ, ":")
		for range 20 {
			c := call{name: name, typ: typ}
			for _, p := range params {
				a := interesting[random.IntN(len(interesting))]
				if p == 'I' {
					c.args = append(c.args, random.Int64())
				} else {
					c.args = append(c.args, a)
				}
			}
			calls = append(calls, c)
		}
	}
	random.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for len(calls) > 0 {
		n := min(len(calls), 60)
		r := httptest.NewRequest("POST", "/path?a=b&c=d", strings.NewReader("body"))
		r.Header.Set("X-A", "1")
		s := newScript()
		s.answer(h, r, 0, 0, calls[:n]...)
		calls = calls[n:]
	}
	runtime.ReadMemStats(&after)
	require.NotContains(t, h.log.String(), "call failed")
	require.NotContains(t, h.log.String(), "runtime error")
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<30))
}
