package main_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testbin"
)

func TestARegistryOfThreeMembers(t *testing.T) {
	program := testbin.Build(t, ".")
	p := testbin.Start(t, nil, program, "-data", filepath.Join(t.TempDir(), "data"), filepath.Join("..", "hello", "config"))
	for _, line := range []string{
		"published hello as deployment 1 to three members",
		"route hello.localhost/ ",
		"route hello.localhost/ping GET",
		"one is gone; published deployment 2 to the others",
		"a new member knows the history:",
		"deployment 2 of 1 functions",
		"deployment 1 of 1 functions",
		"and rolled back to the first, as deployment 3",
	} {
		require.Contains(t, p.Line(), line)
	}
	require.NoError(t, p.Wait())
}
