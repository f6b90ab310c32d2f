package monkey_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"

	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/patrick"
)

// What tau's template for a function in Go has.
var tauGo = map[string]string{
	".taubyte/config.yaml": "version: 1.00\nenvironment:\n  image: taubyte/go-wasi:latest\n  variables:\nworkflow:\n  - build\n",
	".taubyte/build.sh":    "#!/bin/bash\n\n. /utils/wasm.sh\n\nbuild \"${FILENAME}\"\nret=$?\necho -n $ret > /out/ret-code\nexit $ret\n",
}

// tauFunction is a function as people write it for tau: a package of any name without main,
// exported in TinyGo's way, with a function of another module.
const tauFunction = `package lib

type Event uint32

//go:wasm-module libraries/sums
//export add
func add(a, b uint32) uint32

//export ping
func ping(e Event) uint32 { return add(uint32(e), 1) }

// text is a string in TinyGo's ABI, and can't be exported by Go.
//
//export text
func text(s string) string { return s }
`

// module compiles what was built, and returns the names that it imports and exports.
func (b *bench) module(t *testing.T) (imports []string, exports map[string]bool) {
	t.Helper()
	root, ok := b.current(t).Asset(functionID)
	require.True(t, ok)
	code := b.read(t, root, "")
	r := wazero.NewRuntimeWithConfig(context.Background(), wazero.NewRuntimeConfigInterpreter())
	defer r.Close(context.Background())
	m, err := r.CompileModule(t.Context(), []byte(code))
	require.NoError(t, err)
	for _, f := range m.ImportedFunctions() {
		from, name, _ := f.Import()
		if from != "wasi_snapshot_preview1" {
			imports = append(imports, from+"."+name)
		}
	}
	exports = map[string]bool{}
	for name := range m.ExportedFunctions() {
		exports[name] = true
	}
	return imports, exports
}

// withoutTinyGo hides a TinyGo of this machine.
func withoutTinyGo(t *testing.T) {
	t.Helper()
	found, err := exec.LookPath("tinygo")
	if err != nil {
		return
	}
	var dirs []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if dir != filepath.Dir(found) {
			dirs = append(dirs, dir)
		}
	}
	t.Setenv("PATH", strings.Join(dirs, string(filepath.ListSeparator)))
}

func TestFunctionsMadeForTau(t *testing.T) {
	withoutTinyGo(t)
	b := newBench(t)
	b.start(t)
	other := newBench(t) // another worker
	other.start(t)
	for what, files := range map[string]map[string]string{
		"by its script, without go.mod": merge(tauGo, map[string]string{"empty.go": tauFunction,
			"main_wasi.go": "//go:build wasi\n\npackage lib\n\nfunc init() { println(\"of tau's tag\") }\n"}),
		"with old go.mod, by its folder": {
			"go.mod": "module function\n\ngo 1.19\n", "ping.go": tauFunction, "ping_test.go": "package lib\n",
			"tool.go": "//go:build ignore\n\npackage main\n\nfunc main() {}\n",
		},
	} {
		j := b.push(repo, auth.KindProject, project(files))
		b.succeed(t, j)
		imports, exports := b.module(t)
		require.Contains(t, imports, "libraries/sums.add", what)
		require.True(t, exports["ping"], what)
		require.False(t, exports["text"], what)
		require.Contains(t, b.text(j), "the export text is left out", what)
		require.Contains(t, b.text(j), "written for TinyGo", what)
		first, _ := b.current(t).Asset(functionID)
		other.succeed(t, other.push(repo, auth.KindProject, project(files)))
		second, _ := other.current(t).Asset(functionID)
		require.Equal(t, first, second, "%s: two workers come to the same", what)
	}
}

// cachedModules has the go command take modules from this machine's cache, and skips a test
// for whose module there is none.
func cachedModules(t *testing.T, module string) {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	cache := filepath.Join(strings.TrimSpace(string(out)), "cache", "download")
	if _, err := os.Stat(filepath.Join(cache, module)); err != nil {
		t.Skipf("%s is not in the module cache of this machine", module)
	}
	t.Setenv("GOPROXY", "file://"+filepath.ToSlash(cache))
	t.Setenv("GOSUMDB", "off")
}

// A function for the public SDK builds without a line of go.mod that names it.
func TestFunctionForThePublicSDK(t *testing.T) {
	withoutTinyGo(t)
	cachedModules(t, "github.com/taubyte/go-sdk/@v/v0.3.9.zip")
	files := project(merge(tauGo, map[string]string{
		"go.mod": "module function\n\ngo 1.19\n",
		"empty.go": `package lib

import "github.com/taubyte/go-sdk/event"

//export ping
func ping(e event.Event) uint32 {
	h, err := e.HTTP()
	if err != nil {
		return 1
	}
	h.Write([]byte("PONG"))
	return 0
}
`}))
	var made []cid.Cid
	kept := ""
	for range 2 { // workers
		b := newBench(t)
		if kept != "" { // which saves the second the time to compile the SDK
			require.NoError(t, os.Rename(kept, filepath.Join(b.work, filepath.Base(kept))))
		}
		s := b.start(t)
		b.succeed(t, b.push(repo, auth.KindProject, files))
		imports, exports := b.module(t)
		require.True(t, exports["ping"])
		require.Contains(t, imports, "taubyte/sdk.eventHttpWrite")
		root, _ := b.current(t).Asset(functionID)
		made = append(made, root)
		require.NoError(t, s.Close())
		caches, err := filepath.Glob(filepath.Join(b.work, "taubyte-cache-*"))
		require.NoError(t, err)
		require.Len(t, caches, 1)
		kept = caches[0]
	}
	require.Equal(t, made[0], made[1], "two workers come to the same")
}

// A source that has not all of what "go generate" makes gets it, before it is adapted.
func TestGeneratedSources(t *testing.T) {
	withoutTinyGo(t)
	b := newBench(t)
	b.start(t)
	const source = "package lib\n\n//go:generate DO\n\nvar _ = generated\n\n//export ping\nfunc ping(e uint32) uint32 { return e }\n"
	made := map[string]string{"a_easyjson.go": "package lib\n\nconst generated = true\n"}
	for what, c := range map[string]struct {
		do     string
		files  map[string]string
		log    string
		absent bool
	}{
		"missing":            {"sh -c \"echo package $GOPACKAGE > b.go; echo const generated = 1 >> b.go\"", nil, "running go generate", false},
		"committed":          {"easyjson -all a.go", made, "go generate", true},
		"a generator's":      {"go install example.com/generator@latest", made, "go generate", true},
		"a missing program":  {"no-such-generator", made, "note: go generate has failed: builds have no network here, commit what it makes", false},
		"a go.mod is edited": {"go mod edit -require=example.com/x@v1.0.0 -replace=example.com/x@v1.0.0=./x", merge(made, map[string]string{"go.mod": "module function\n\ngo 1.19\n", "x/go.mod": "module example.com/x\n"}), "running go generate", false},
	} {
		j := b.push(repo, auth.KindProject, project(merge(tauGo, map[string]string{"a.go": strings.Replace(source, "DO", c.do, 1)}, c.files)))
		b.succeed(t, j)
		if c.absent {
			require.NotContains(t, b.text(j), c.log, what)
		} else {
			require.Contains(t, b.text(j), c.log, what)
		}
		_, exports := b.module(t)
		require.True(t, exports["ping"], what)
	}
}

// A function in AssemblyScript imports the package "sdk", which the node brings, and prints.
func TestAssemblyScriptForTau(t *testing.T) {
	if _, err := exec.LookPath("asc"); err != nil {
		t.Skip("there is no asc on this machine (npm install -g assemblyscript)")
	}
	files := project(map[string]string{
		".taubyte/config.yaml": "version: 1.00\nenvironment:\n  image: taubyte/assembly-script-wasi:latest\n  variables:\nworkflow:\n",
		".taubyte/build.sh":    tauGo[".taubyte/build.sh"],
		"ping.ts": `import { Event } from "sdk/event";

export function ping(e: Event): u32 {
  let h = e.http();
  if (h == null) {
    return 1;
  }
  console.log(e.toString() + ": " + e.type().toString());
  let wrote = h.unwrap().write("PONG");
  if (wrote.err) {
    console.error(wrote.err);
    return 1;
  }
  return wrote.unwrap() == 4 ? 0 : 1;
}
`})
	var made []cid.Cid
	for range 2 { // workers
		b := newBench(t)
		b.start(t)
		b.succeed(t, b.push(repo, auth.KindProject, files))
		imports, exports := b.module(t)
		require.True(t, exports["ping"])
		require.ElementsMatch(t, []string{"taubyte/sdk.getEventType", "taubyte/sdk.eventHttpWrite"}, imports)
		root, _ := b.current(t).Asset(functionID)
		made = append(made, root)
	}
	require.Equal(t, made[0], made[1], "two workers come to the same")
}

func TestOlderSDKsAreNamed(t *testing.T) {
	b := newBench(t)
	b.start(t)
	for want, files := range map[string]map[string]string{
		"go.mod requires github.com/taubyte/go-sdk v0.2.1": {
			"go.mod": "module x\n\ngo 1.19\n\nrequire github.com/taubyte/go-sdk v0.2.1\n", "a.go": "package lib\n"},
		"a.go uses event.HttpEvent, of github.com/taubyte/go-sdk before v0.3": {
			"a.go": "package lib\n\nimport \"github.com/taubyte/go-sdk/event\"\n\nfunc f(h event.HttpEvent) {}\n"},
		"it imports github.com/taubyte/go-sdk/pubsub, of": {
			"a.go": "package lib\n\nimport \"github.com/taubyte/go-sdk/pubsub\"\n\nvar _ = pubsub.Channel\n"},
		"it imports bitbucket.org/taubyte/go-sdk/event, of before": {
			"a.go": "package lib\n\nimport \"bitbucket.org/taubyte/go-sdk/event\"\n\nvar _ event.Event\n"},
	} {
		out := b.wait(t, b.push(repo, auth.KindProject, project(files)))
		require.Equal(t, patrick.Failed, out.State, out.Error)
		require.Contains(t, out.Error, want)
		require.Contains(t, out.Error, "Require v0.3.9")
	}
}

// TinyGo, where it is installed, is given sources as they are, but for their package.
func TestTinyGo(t *testing.T) {
	bin := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(bin, "tinygo"), []byte(`#!/bin/sh
case $1 in
version) echo "tinygo version 0.99.0" ;;
env) echo "`+bin+`" ;;
build)
	grep -H . *.go
	while [ "$1" != "-o" ]; do shift; done
	cp ping.wasm "$2" ;;
esac
`), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	b := newBench(t)
	b.start(t)
	for _, files := range []map[string]string{tauGo, nil} {
		j := b.push(repo, auth.KindProject, project(merge(files, map[string]string{"empty.go": tauFunction, "ping.wasm": string(tinyModule)})))
		b.succeed(t, j)
		require.Contains(t, b.text(j), "built by tinygo version 0.99.0")
		require.Contains(t, b.text(j), "empty.go:package main")
		require.Contains(t, b.text(j), "empty.go://export ping")
		require.Contains(t, b.text(j), "taubyte_main.go:func main() {}")
	}
}

// The scripts of tau's projects name /src, /out and /utils. Nothing is written there on the
// machine, whatever runs them.
func TestPlacesOfScripts(t *testing.T) {
	b := newBench(t)
	b.start(t)
	page := func(lines string) map[string]string {
		return map[string]string{"websites/site/.taubyte/build.sh": lines, "websites/site/.taubyte/config.yaml": "enviroment:\n  image: node:18.14.1-bullseye\nworkflow: [build.sh]\n"}
	}
	j := b.push(repo, auth.KindProject, project(shFunction, map[string]string{"websites/site/tools/more.sh": "echo more > /out/more\n"}, page(`#!/bin/bash
set -X
sh /src/tools/more.sh
list=(css /src/index.html)
cd /src; mkdir -p /out/sub && cp -r "${list[@]}" /out && cp index.html '/out/sub/' && echo https://host/out >/out/url
test -e "/utils/wasm.sh" && ls /src>/out/list
`)))
	b.succeed(t, j)
	pages, _ := b.current(t).Asset(websiteID)
	require.Equal(t, "<p>hello", b.read(t, pages, "sub/index.html"))
	require.Equal(t, "p{}", b.read(t, pages, "css/style.css"))
	require.Equal(t, "more\n", b.read(t, pages, "more"))
	require.Equal(t, "https://host/out\n", b.read(t, pages, "url"))
	require.NotContains(t, b.read(t, pages, "list"), "taubyte")
	require.NoFileExists(t, "/out/url")
}

// What a script calls that the node has not is named, with what to install.
func TestScriptsThatMissAProgram(t *testing.T) {
	b := newBench(t)
	b.start(t)
	t.Setenv("PATH", "/usr/bin:/bin")
	build := func(lines string) *queued {
		return b.push(repo, auth.KindProject, project(shFunction, map[string]string{
			"websites/site/.taubyte/config.yaml": "environment:\n  image: klakegg/hugo:0.101\nworkflow: [build]\n",
			"websites/site/.taubyte/build.sh":    lines,
		}))
	}
	out := b.wait(t, build("no-such-program-at-all --now\n"))
	require.Equal(t, patrick.Failed, out.State)
	require.Contains(t, out.Error, "not found: no-such-program-at-all")
	if _, err := exec.LookPath("bun"); err == nil {
		t.Skip("bun is on this machine")
	}
	j := build("bun install && bun run build\n")
	testnet.Eventually(t, func() bool { return len(b.returned(j)) > 0 }, "another worker may have it")
	require.Contains(t, b.returned(j)[0].Error, "bun (a script for the image klakegg/hugo:0.101 calls bun), which is not on this node: install it (https://bun.sh)")
}
