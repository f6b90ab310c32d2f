package substrate_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/substrate"
	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
	"github.com/taubyte/taubyte/tns/config"
)

// fetcher is a guest that gets what is at the URL in its request's query "u", and answers
// with the errno.
func fetcher() []byte {
	m := New(1)
	size, value := m.SDK("getHttpEventQueryValueByNameSize", "iiii:i"), m.SDK("getHttpEventQueryValueByName", "iiiii:i")
	client, request := m.SDK("newHttpClient", "i:i"), m.SDK("newHttpRequest", "ii:i")
	setURL, do, write := m.SDK("setHttpRequestURL", "iiii:i"), m.SDK("doHttpRequest", "ii:i"), m.SDK("eventHttpWrite", "iiii:i")
	m.Data(64, "u")
	n, c, r := append(I32(8), Load...), append(I32(16), Load...), append(I32(20), Load...)
	m.Func("ping", "i:", "",
		Get(0), I32(8), I32(64), I32(1), Call(size), Drop,
		Get(0), I32(64), I32(1), I32(128), n, Call(value), Drop,
		I32(16), Call(client), Drop, c, I32(20), Call(request), Drop,
		c, r, I32(128), n, Call(setURL), Drop,
		I32(32), c, r, Call(do), I32('0'), Add, Store,
		Get(0), I32(32), I32(1), I32(40), Call(write), Drop)
	return m.Bytes()
}

// A project says what its functions may reach, of what the node allows.
func TestEgressOfAProject(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	reached := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusFound)
		}
	})}}
	reached.Start()
	defer reached.Close()
	byName := strings.Replace(reached.URL, "127.0.0.1", "localhost", 1)

	c := newCloud(t, substrate.WithEgress(loopback))
	get := fn("get", "/get", fetcher())
	allow := func(list ...string) thing {
		return thing{project: func(p *config.Project) { p.Egress = &config.Egress{Allow: list} }}
	}
	const ok, refused = "200 0", "200 =" // '0' + 13
	c.deploy(get)
	require.Equal(t, ok, c.get("/get?u="+reached.URL))
	c.deploy(get, allow("127.0.0.1/32"))
	require.Equal(t, ok, c.get("/get?u="+reached.URL))
	require.Equal(t, refused, c.get("/get?u="+strings.Replace(reached.URL, "127.0.0.1", "127.0.0.2", 1)))
	require.Equal(t, refused, c.get("/get?u="+reached.URL+"/%3Fto=http://127.0.0.2:1/"))
	c.deploy(get, allow("localhost"))
	require.Equal(t, ok, c.get("/get?u="+byName))
	require.Equal(t, refused, c.get("/get?u="+reached.URL))
	require.Equal(t, refused, c.get("/get?u="+byName+"/%3Fto="+reached.URL))
	c.deploy(get, allow())
	require.Equal(t, refused, c.get("/get?u="+reached.URL))
	require.Error(t, c.broken(get, allow("nonsense/")))
}
