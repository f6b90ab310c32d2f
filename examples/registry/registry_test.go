package main_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testbin"
)

func TestARegistryAlone(t *testing.T) {
	program := testbin.Build(t, ".")
	data := filepath.Join(t.TempDir(), "data")
	for range 2 { // the second time on what the first left
		p := testbin.Start(t, nil, program, "-data", data, filepath.Join("..", "hello", "config"))
		require.Contains(t, p.Line(), "hello.localhost/ ")
		require.Contains(t, p.Line(), "hello.localhost/ping GET")
		require.Contains(t, p.Line(), `"name":"hello"`)
		require.NoError(t, p.Wait())
	}
}
