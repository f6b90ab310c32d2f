package substrate_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	. "github.com/taubyte/taubyte/substrate/internal/wasmtest"
)

// A function that answers what the request has of a name.
func told(name string) []byte {
	m := New(1)
	size, get := m.SDK("getHttpEventHeadersSize", "iiii:i"), m.SDK("getHttpEventHeaders", "iiiii:i")
	write := m.SDK("eventHttpWrite", "iiii:i")
	m.Data(64, name)
	n := int32(len(name))
	m.Func("ping", "i:", "",
		Get(0), I32(0), I32(64), I32(n), Call(size), Drop,
		Get(0), I32(64), I32(n), I32(128), append(I32(0), Load...), Call(get), Drop,
		Get(0), I32(128), append(I32(0), Load...), I32(4), Call(write), Drop)
	return m.Bytes()
}

// A function finds what the wildcards of its path stand for.
func TestPathValues(t *testing.T) {
	c := newCloud(t)
	c.deploy(fn("item", "/items/{id}", told(":path/id")), fn("new", "/items/new", told(":pattern")), fn("files", "/files/{name...}", told(":path/name")), fn("part", "/items/{id}/{part}", told(":pattern")))
	for path, want := range map[string]string{
		"/items/7": "200 7", "/items/a%2Fb": "200 a/b", "/items/new": "200 ", "/files/a/b.txt": "200 a/b.txt", "/files/": "200 ", "/items/7/x": "200 /items/{id}/{part}",
	} {
		require.Equal(t, want, c.get(path), path)
	}
}
