package guestsdk_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// host stands in for substrate: it answers the calls that the functions of
// these tests make, from the values of its fields.
type host struct {
	runtime  wazero.Runtime
	request  request
	response response
	stderr   bytes.Buffer
	// The rest of the ABI, by name: given what was passed, an error number.
	functions map[string]func(c *call) uint32
}

type request struct {
	method, path, body string
	query, header      map[string]string
	reader             io.Reader
}

type response struct {
	status  int
	headers []string
	body    bytes.Buffer
}

// call is a call of the host by a guest, whose parameters are taken in order.
type call struct {
	guest api.Module
	stack []uint64
}

func (c *call) u32() uint32 {
	v := uint32(c.stack[0])
	c.stack = c.stack[1:]
	return v
}

func (c *call) bytes() []byte {
	at, n := c.u32(), c.u32()
	b, ok := c.guest.Memory().Read(at, n)
	if !ok {
		panic("the guest passed what is outside of its memory")
	}
	return b
}

func (c *call) text() string { return string(c.bytes()) }

func (c *call) put(b []byte) {
	if at := c.u32(); !c.guest.Memory().Write(at, b) {
		panic("the guest passed what is outside of its memory")
	}
}

func (c *call) putU32(v uint32) {
	if at := c.u32(); !c.guest.Memory().WriteUint32Le(at, v) {
		panic("the guest passed what is outside of its memory")
	}
}

func newHost(t *testing.T) *host {
	ctx := context.Background()
	h := &host{runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter()), functions: map[string]func(*call) uint32{}}
	t.Cleanup(func() { h.runtime.Close(ctx) })
	wasi_snapshot_preview1.MustInstantiate(ctx, h.runtime)
	f := h.functions
	f["getEventType"] = func(c *call) uint32 { c.u32(); c.putU32(1); return 0 }
	text := func(name string, get func() string) {
		f[name+"Size"] = func(c *call) uint32 { c.u32(); c.putU32(uint32(len(get()))); return 0 }
		f[name] = func(c *call) uint32 { c.u32(); c.put([]byte(get())); return 0 }
	}
	text("getHttpEventMethod", func() string { return h.request.method })
	text("getHttpEventHost", func() string { return "example.com" })
	text("getHttpEventPath", func() string { return h.request.path })
	named := func(size, bytes string, get func(string) string) {
		f[size] = func(c *call) uint32 {
			c.u32()
			at := c.u32()
			c.guest.Memory().WriteUint32Le(at, uint32(len(get(c.text()))))
			return 0
		}
		f[bytes] = func(c *call) uint32 { c.u32(); v := get(c.text()); c.put([]byte(v)); return 0 }
	}
	named("getHttpEventQueryValueByNameSize", "getHttpEventQueryValueByName", func(k string) string { return h.request.query[k] })
	named("getHttpEventHeadersSize", "getHttpEventHeaders", func(k string) string { return h.request.header[strings.ToLower(k)] })
	keys := func(size, bytes string, get func() map[string]string) {
		list := func() []byte {
			var b []byte
			for name := range get() {
				b = append(append(b, name...), 0)
			}
			return b
		}
		f[size] = func(c *call) uint32 { c.u32(); c.putU32(uint32(len(list()))); return 0 }
		f[bytes] = func(c *call) uint32 { c.u32(); c.put(list()); return 0 }
	}
	keys("getHttpEventRequestQueryKeysSize", "getHttpEventRequestQueryKeys", func() map[string]string { return h.request.query })
	keys("getHttpEventRequestHeaderKeysSize", "getHttpEventRequestHeaderKeys", func() map[string]string { return h.request.header })
	f["readHttpEventBody"] = func(c *call) uint32 {
		c.u32()
		buf := c.bytes()
		if h.request.reader == nil {
			h.request.reader = strings.NewReader(h.request.body)
		}
		n, err := h.request.reader.Read(buf)
		c.putU32(uint32(n))
		if err == io.EOF {
			return 8
		}
		return 0
	}
	f["closeHttpEventBody"] = func(*call) uint32 { return 0 }
	f["eventHttpRetCode"] = func(c *call) uint32 { c.u32(); h.response.status = int(c.u32()); return 0 }
	f["eventHttpHeaderAdd"] = func(c *call) uint32 {
		c.u32()
		h.response.headers = append(h.response.headers, c.text()+": "+c.text())
		return 0
	}
	f["eventHttpWrite"] = func(c *call) uint32 {
		c.u32()
		n, _ := h.response.body.Write(c.bytes())
		c.putU32(uint32(n))
		return 0
	}
	return h
}

// start links the module with what the host has. What it has not gives an error
// when it is called.
func (h *host) start(t *testing.T, module []byte) api.Module {
	t.Helper()
	ctx := context.Background()
	compiled, err := h.runtime.CompileModule(ctx, module)
	require.NoError(t, err)
	builder := h.runtime.NewHostModuleBuilder("taubyte/sdk")
	for _, imported := range compiled.ImportedFunctions() {
		where, name, _ := imported.Import()
		if where != "taubyte/sdk" {
			continue
		}
		function := h.functions[name]
		results := imported.ResultTypes()
		builder.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, guest api.Module, stack []uint64) {
			if function == nil {
				panic("the host has no " + name)
			}
			result := function(&call{guest, stack})
			if len(results) > 0 {
				stack[0] = uint64(result)
			}
		}), imported.ParamTypes(), results).Export(name)
	}
	_, err = builder.Instantiate(ctx)
	require.NoError(t, err)
	guest, err := h.runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions("_initialize").WithStderr(&h.stderr))
	require.NoError(t, err)
	return guest
}
