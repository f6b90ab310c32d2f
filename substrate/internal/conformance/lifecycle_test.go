package conformance_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// How a module is started, how its entry point ends: each way that toolchains know,
// twice, so that the second event meets an instance that was used.
func TestLifeCycles(t *testing.T) {
	files, err := filepath.Glob("testdata/wat/*.wat")
	require.NoError(t, err)
	c := newCloud(t)
	for _, file := range files {
		module := wat(t, filepath.ToSlash(file))
		name := strings.TrimSuffix(filepath.Base(file), ".wat")
		if name == "library" {
			c.library("sums", module)
			continue
		}
		c.function(name, module)
	}
	require.NoError(t, c.deploy())
	for range 2 {
		for _, name := range []string{"reactor", "command", "ready", "ready_returns", "bare", "section", "exit0", "nonzero", "user"} {
			c.answers("/"+name, "1")
		}
		require.Equal(t, 500, c.post("/exit3", "").Code)
	}
}

// An entry point that can't be called is a fault of the deployment, told at once.
func TestEntryPoints(t *testing.T) {
	module := wat(t, "testdata/wat/library.wat")
	for call, why := range map[string]string{"add": "takes 2 parameters", "none": `exports no function "none" (it exports add)`} {
		c := newCloud(t)
		c.function("wrong", module, func(f *config.Function) { f.Call = call })
		err := c.deploy()
		require.ErrorIs(t, err, taubyte.ErrInvalid)
		require.ErrorContains(t, err, why)
	}
}
