package taubyte_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/taubyte/taubyte"

// arrows is the plan of the house: what a package may import of this module,
// beside itself, what is below it, and internal packages. "" is the root package.
// A row also covers the packages below its name that have no row of their own.
var arrows = map[string][]string{
	"":                      {},
	"crdt":                  {""},
	"seer":                  {"", "crdt"},
	"tns":                   {"", "crdt"},
	"tns/config":            {""},
	"auth":                  {"", "crdt", "seer", "tns"},
	"auth/environment":      {""},
	"auth/internal/secrets": {"", "crdt"},
	"hoarder":               {"", "crdt", "tns"},
	"patrick":               {"", "crdt", "auth", "auth/environment", "hoarder"},
	"monkey":                {"", "crdt", "patrick", "auth", "auth/environment", "tns", "hoarder"},
	"substrate":             {"", "crdt", "tns", "hoarder", "seer", "auth/environment"},
	"substrate/wire":        {},
	"gateway":               {"", "crdt", "seer", "tns", "auth", "substrate/wire"},
	"dev":                   {""},
	"openapi":               {""},
	"cloud":                 anything,
	"examples":              anything,
	"cmd":                   anything,
	"internal":              {""},
	"internal/testcluster":  anything, // it runs whole nodes
}

var anything = []string{"*"}

// services are the packages of which a program that embeds one must not carry
// another.
var services = []string{"seer", "tns", "auth", "hoarder", "patrick", "monkey", "substrate", "gateway"}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, patterns ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps=false", "-json=ImportPath,Imports,Deps"}, patterns...)...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var pkgs []pkg
	for dec := json.NewDecoder(out); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		pkgs = append(pkgs, p)
	}
	require.NoError(t, cmd.Wait())
	return pkgs
}

// own returns a package's path in the module, and whether it is in it.
func own(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// row finds the row of arrows that covers a package.
func row(rel string) (string, bool) {
	for name := rel; ; {
		if _, ok := arrows[name]; ok {
			return name, true
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return "", false
		}
		name = name[:i]
	}
}

func TestArrowsFollowThePlan(t *testing.T) {
	for _, p := range list(t, "./...") {
		from, _ := own(p.ImportPath)
		fromRow, ok := row(from)
		require.True(t, ok, "%s has no place in the plan", p.ImportPath)
		for _, imported := range p.Imports {
			to, ours := own(imported)
			if !ours {
				continue
			}
			toRow, ok := row(to)
			require.True(t, ok, "%s has no place in the plan", imported)
			allowed := toRow == fromRow || toRow == "internal" ||
				strings.HasPrefix(toRow, fromRow+"/") && fromRow != "" ||
				slices.Contains(arrows[fromRow], toRow) ||
				slices.Contains(arrows[fromRow], "*") ||
				toRow == "tns/config" && slices.Contains(arrows[fromRow], "tns")
			require.True(t, allowed, "%s imports %s against the plan", p.ImportPath, imported)
			require.False(t, fromRow == "" && toRow == "internal", "the root package imports %s", imported)
		}
	}
}

// What an embedded service carries: of the other services only those that its
// row in the plan names, and nothing for a registry.
func TestAServiceCarriesNoOther(t *testing.T) {
	carried := map[string][]string{}
	for _, p := range list(t, append([]string{"./examples/registry"}, prefixed(services)...)...) {
		rel, _ := own(p.ImportPath)
		require.NotContains(t, p.Deps, "github.com/moby/moby/client", "%s carries a container engine's client", rel)
		for _, dep := range p.Deps {
			if name, ours := own(dep); ours && slices.Contains(services, name) && name != rel {
				carried[rel] = append(carried[rel], name)
			}
		}
	}
	for name, got := range carried {
		var may []string
		if name == "examples/registry" {
			may = []string{"tns"}
		} else {
			may = reach(name)
		}
		for _, service := range got {
			require.Contains(t, may, service, "%s carries %s", name, service)
		}
	}
	require.Contains(t, carried["examples/registry"], "tns")
	require.NotContains(t, carried["gateway"], "substrate", "a gateway carries no WebAssembly engine")
}

func prefixed(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, "./"+n)
	}
	return out
}

// reach is what a row of the plan reaches over any number of arrows.
func reach(name string) []string {
	var seen []string
	var walk func(string)
	walk = func(n string) {
		for _, next := range arrows[n] {
			if !slices.Contains(seen, next) {
				seen = append(seen, next)
				walk(next)
			}
		}
	}
	walk(name)
	return seen
}
