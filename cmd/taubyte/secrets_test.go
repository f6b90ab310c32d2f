package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	root "github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/testnet"
)

// The commands, on a node that runs auth, as a person types them: no value is printed
// that is a secret.
func TestSecretsCommands(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "node")
	n, err := cloud.Open(t.Context(), dir, cloud.WithServices(root.RoleAuth, root.RoleTNS), cloud.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	_, err = n.Auth.CreateProject(t.Context(), auth.Project{ID: "QmShop", Name: "shop"})
	require.NoError(t, err)
	value := filepath.Join(t.TempDir(), "value")
	require.NoError(t, os.WriteFile(value, []byte("planted-value"), 0o600))
	do := func(code int, args ...string) string {
		t.Helper()
		got, out, errOut := taubyte(t, nil, append(args, "--data", dir)...)
		require.Equal(t, code, got, "%v: %s", args, errOut)
		return out + errOut
	}
	said := do(0, "secrets", "set", "TOKEN", "--project", "shop", "--file", value)
	said += do(0, "secrets", "set", "TOKEN", "--branch", "dev", "--function", "api/get", "--file", value)
	said += do(0, "secrets", "list", "--project", "QmShop")
	require.Contains(t, said, "api/get")
	require.Equal(t, 2, strings.Count(do(0, "secrets", "list"), "TOKEN"))
	require.Equal(t, 2, strings.Count(do(0, "secrets", "list", "--branch", "dev"), "TOKEN"))
	require.Equal(t, 1, strings.Count(do(0, "secrets", "list", "--branch", "main"), "TOKEN"), "of another branch")
	require.Equal(t, 1, strings.Count(do(0, "secrets", "list", "--function", "other", "--json"), "TOKEN"), "of another function")
	said += do(0, "secrets", "log")
	require.Contains(t, said, "projects/QmShop/secret/*/*/TOKEN")
	said += do(0, "secrets", "keys")
	said += do(0, "secrets", "rotate")
	require.Contains(t, said, "generation 2")
	said += do(0, "secrets", "rm", "TOKEN")
	said += do(4, "secrets", "rm", "TOKEN")
	require.NotContains(t, said, "planted-value")
	require.Equal(t, 1, strings.Count(do(0, "secrets", "list"), "TOKEN"))

	do(0, "env", "set", "MODE", "--file", value)
	require.Contains(t, do(0, "env", "list"), "planted-value")
	do(0, "env", "rm", "MODE")
	do(3, "env", "set", "1BAD", "--file", value)
	require.Contains(t, do(3, "secrets", "list", "--file", value), "--file is for set")
	do(3, "secrets", "log", "--branch", "dev")
	require.NoError(t, os.WriteFile(value, make([]byte, 40_000), 0o600))
	require.Contains(t, do(3, "env", "set", "BIG", "--file", value), "too large")
	do(2, "env", "rotate")
	do(4, "env", "list", "--project", "nobody's")
	do(2, "secrets", "set", "TOKEN", "planted-value", "--file", value)
}
