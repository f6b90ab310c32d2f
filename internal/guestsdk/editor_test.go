package guestsdk_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/guestsdk"
)

// The functions of a folder are for editors and the go command what any Go is.
func TestForEditors(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
	_, err := guestsdk.ForEditors(cache, dir)
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	for _, name := range []string{"ping", "pong"} {
		write("functions/"+name+"/go.mod", "module "+name+"\n\ngo 1.25\n")
		write("functions/"+name+"/main.go", "package main\n\nimport \"github.com/taubyte/taubyte/substrate/guest/event\"\n\nfunc main() {}\n\n//go:wasmexport ping\nfunc ping(e uint32) uint32 {\n\tevent.HTTP(e).WriteString(\"PONG\")\n\treturn 0\n}\n")
	}
	write("functions/node/node_modules/x/go.mod", "module ping\n")
	for range 2 {
		functions, err := guestsdk.ForEditors(cache, dir)
		require.NoError(t, err)
		require.Equal(t, []string{filepath.Join(dir, "functions", "ping"), filepath.Join(dir, "functions", "pong")}, functions)
	}
	cmd := exec.Command("go", "vet", "./functions/ping", "./functions/pong")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=", "GOFLAGS=", "GOPROXY=off", "GOTOOLCHAIN=local")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)

	write("functions/again/go.mod", "module ping\n\ngo 1.24\n")
	_, err = guestsdk.ForEditors(cache, dir)
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	write("go.work", "go 1.24\n")
	_, err = guestsdk.ForEditors(cache, dir)
	require.ErrorIs(t, err, taubyte.ErrConflict)
}
