package meter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/taubyte/taubyte/internal/meter"
)

// The engine comes with the specification's tests: modules, valid and not, and
// what to call in them. Each script runs twice, as it is and with all modules
// metered, and both must come to the same.
func TestSpecification(t *testing.T) {
	t.Parallel()
	withoutRaces(t)
	dir := filepath.Join(engineSource(t), "internal", "integration_test", "spectest")
	host, err := os.ReadFile(filepath.Join(dir, "testdata", "spectest.wasm"))
	require.NoError(t, err)
	scripts, err := filepath.Glob(filepath.Join(dir, "v2", "testdata", "*.json"))
	require.NoError(t, err)
	more, err := filepath.Glob(filepath.Join(dir, "tail-call", "testdata", "*.json"))
	require.NoError(t, err)
	scripts = append(scripts, more...)
	require.Greater(t, len(scripts), 100)

	cache := wazero.NewCompilationCache() // of the host's modules
	defer cache.Close(context.Background())
	steps, refusals := 0, 0
	for _, file := range scripts {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		config := wazero.NewRuntimeConfig().WithCompilationCache(cache)
		var s script
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &s))
		plain := s.run(t, config, filepath.Dir(file), host, false)
		metered := s.run(t, config, filepath.Dir(file), host, true)
		require.Equal(t, len(plain), len(metered), name)
		for i := range plain {
			if plain[i] == "invalid" && metered[i] == "refused" {
				refusals++
				continue
			}
			require.Equal(t, plain[i], metered[i], "%s line %d", name, s.Commands[i].Line)
		}
		steps += len(plain)
	}
	t.Logf("%d scripts, %d steps, %d invalid modules refused before they were compiled", len(scripts), steps, refusals)
}

type script struct {
	Commands []struct {
		Type, Name, As, Filename string
		Line                     int
		ModuleType               string `json:"module_type"`
		Action                   struct {
			Type, Module, Field string
			Args                []struct {
				Type     string
				LaneType string `json:"lane_type"`
				Value    any
			}
		}
	}
}

// run executes the script and gives the outcome of each command.
func (s script) run(t *testing.T, config wazero.RuntimeConfig, dir string, host []byte, metered bool) []string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	config = config.WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall).
		WithMemoryLimitPages(65536)
	r := machine(t, config, meter.Deadline(1000))
	defer r.Close(ctx)
	load := func(module []byte, name string) (api.Module, string) {
		if metered {
			var err error
			if module, err = meter.Instrument(module, meter.Limits{Arity: 1000}); err != nil {
				require.True(t, errors.Is(err, meter.ErrMalformed) || errors.Is(err, meter.ErrRefused), err)
				return nil, "refused"
			}
		}
		compiled, err := r.CompileModule(ctx, module)
		if err != nil {
			return nil, "invalid"
		}
		m, err := r.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName(name).WithStartFunctions(meter.Start))
		if err != nil {
			return nil, "not instantiated"
		}
		return m, "module"
	}
	_, ok := load(host, "spectest")
	require.Equal(t, "module", ok)

	modules := map[string]api.Module{}
	var last api.Module
	outcomes := make([]string, 0, len(s.Commands))
	for i, c := range s.Commands {
		outcome := c.Type
		switch {
		case c.Filename != "":
			if c.ModuleType == "text" {
				break
			}
			b, err := os.ReadFile(filepath.Join(dir, c.Filename))
			require.NoError(t, err)
			// A name by which others import it is given when it is made.
			name := ""
			for _, later := range s.Commands[i+1:] {
				if later.Type == "register" && (later.Name == c.Name) {
					name = later.As
				}
				if later.Type == "register" || later.Type == "module" {
					break
				}
			}
			var m api.Module
			m, outcome = load(b, name)
			if c.Type == "module" {
				last = m
				if c.Name != "" {
					modules[c.Name] = m
				}
			}
		case c.Action.Type == "invoke" || c.Action.Type == "get":
			m := last
			if c.Action.Module != "" {
				m = modules[c.Action.Module]
			}
			if m == nil {
				break
			}
			if c.Action.Type == "get" {
				outcome = fmt.Sprint(m.ExportedGlobal(c.Action.Field).Get())
				break
			}
			f := m.ExportedFunction(c.Action.Field)
			if f == nil {
				break
			}
			var args []uint64
			for _, a := range c.Action.Args {
				args = append(args, values(t, a.Type, a.LaneType, a.Value)...)
			}
			results, err := f.Call(ctx, args...)
			outcome = fmt.Sprint(results, firstLine(err))
			if slices.Contains(f.Definition().ResultTypes(), 0x70) {
				outcome = fmt.Sprint(len(results), firstLine(err)) // an address
			}
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes
}

func values(t *testing.T, typ, laneType string, value any) []uint64 {
	if typ != "v128" {
		text := value.(string)
		if text == "null" {
			return []uint64{0}
		}
		n, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		return []uint64{n}
	}
	lanes := value.([]any)
	width := 128 / len(lanes)
	out := make([]uint64, 2)
	for i, lane := range lanes {
		text := lane.(string)
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			signed, err := strconv.ParseInt(text, 10, 64)
			require.NoError(t, err)
			n = uint64(signed)
		}
		if width < 64 {
			n &= 1<<width - 1
		}
		out[i*width/64] |= n << (i * width % 64)
	}
	return out
}

func firstLine(err error) string {
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// engineSource is where the source of the engine is, with its tests' data.
func engineSource(t *testing.T) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	require.NoError(t, err)
	dir := strings.TrimSpace(string(out))
	require.NotEmpty(t, dir)
	return dir
}

// Real modules of other toolchains and engines' regression tests.
func TestModulesOfTheEngine(t *testing.T) {
	t.Parallel()
	withoutRaces(t)
	dir := engineSource(t)
	n := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".wasm" || strings.Contains(path, "spectest") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		out, refused := meter.Instrument(b, meter.Limits{Arity: 1000})
		ctx := context.Background()
		r := wazero.NewRuntime(ctx)
		defer r.Close(ctx)
		_, invalid := r.CompileModule(ctx, b)
		if refused != nil {
			require.Error(t, invalid, "%s: %v", path, refused)
			return nil
		}
		_, err = r.CompileModule(ctx, out)
		require.Equal(t, invalid == nil, err == nil, "%s: %v", path, err)
		n++
		return nil
	}))
	require.Greater(t, n, 30)
}
