package monkey_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/patrick"
)

// programs makes a PATH of nothing but these scripts, cat, cp, mkdir, rm, ln and the like.
func programs(t *testing.T, scripts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"sh", "bash", "cat", "cp", "ls", "ln", "mkdir", "rm", "basename", "dirname", "env", "git"} {
		found, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(found, filepath.Join(dir, name)))
	}
	for name, text := range scripts {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755))
	}
	t.Setenv("PATH", dir)
}

// What builds a folder without a file is told by what it holds, and what is missing for it.
func TestToolchainsThatAreMissing(t *testing.T) {
	programs(t, nil)
	b := newBench(t)
	b.start(t)
	for what, c := range map[string]struct {
		function, site map[string]string
		says           string
	}{
		"Rust":           {function: map[string]string{"Cargo.toml": "[package]\nname = \"ping\"\n", "src/lib.rs": ""}, says: "Rust (rustc) is not on this node: install it (https://rustup.rs)"},
		"AssemblyScript": {function: map[string]string{"assembly/index.ts": ""}, says: "Node.js is not on this node: install Node.js 20"},
		"TypeScript":     {function: map[string]string{"ping.ts": ""}, says: "Node.js is not on this node"},
		"Go":             {function: map[string]string{"ping.go": tauFunction}, says: "the Go toolchain is not on this node: install Go 1.24"},
		"package.json":   {site: map[string]string{"package.json": `{"scripts": {"build": "vite build"}}`}, says: "Node.js is not on this node"},
		"a script's": {site: map[string]string{".taubyte/config.yaml": "environment: {image: 'node:20'}\nworkflow: [build]", ".taubyte/build.sh": "npm ci && npm run build"},
			says: "npm (a script for the image node:20 calls npm), which is not on this node: install Node.js"},
		"a bash": {function: tauGo, says: "the Go toolchain (a script for the image taubyte/go-wasi:latest calls go), which is not on this node"},
	} {
		function, pages := c.function, site
		if function == nil {
			function = shFunction
		}
		if c.site != nil {
			pages = c.site
		}
		j := b.push(repo, auth.KindProject, merge(under("config", configuration), under("code/functions/ping", function), under("websites/site", pages)))
		testnet.Eventually(t, func() bool { return len(b.returned(j)) > 0 || b.outcome(j) != nil }, what)
		require.Nil(t, b.outcome(j), "%s: another worker may have it: %v", what, b.outcome(j))
		require.Contains(t, b.returned(j)[0].Error, c.says, what)
		b.take(j)
	}
	for what, files := range map[string]map[string]string{
		"function ping": under("code/functions/ping", map[string]string{"Dockerfile": "FROM scratch\n"}),
		"website site":  under("websites/site", map[string]string{"Dockerfile": "FROM nginx\n"}),
	} {
		all := merge(under("config", configuration), under("code/functions/ping", shFunction), under("websites/site", site))
		for name := range all {
			if what == "website site" && strings.HasPrefix(name, "websites/") || what == "function ping" && strings.HasPrefix(name, "code/") {
				delete(all, name)
			}
		}
		j := b.push(repo, auth.KindProject, merge(all, files))
		testnet.Eventually(t, func() bool { return len(b.returned(j)) > 0 || b.outcome(j) != nil }, what)
		require.Nil(t, b.outcome(j), "%s: another worker may have an engine: %v", what, b.outcome(j))
		require.Contains(t, b.returned(j)[0].Error, "a container engine, which builds the image of", what)
		b.take(j)
	}
}

// A Rust that can't build modules is no Rust for tau's script.
func TestRustWithoutItsTarget(t *testing.T) {
	sysroot := t.TempDir()
	programs(t, map[string]string{
		"rustc": `case $1 in --print) echo ` + sysroot + ` ;; *) echo rustc 1.99 ;; esac`,
		"cargo": `echo "cargo $*"`,
	})
	b := newBench(t)
	b.start(t)
	j := b.push(repo, auth.KindProject, project(map[string]string{
		".taubyte/config.yaml": "environment:\n  image: taubyte/rust-wasi:latest\nworkflow: [build]\n",
		".taubyte/build.sh":    tauGo[".taubyte/build.sh"],
		"Cargo.toml":           "[package]\nname = \"ping\"\n",
	}))
	testnet.Eventually(t, func() bool { return len(b.returned(j)) > 0 }, "another worker may have it")
	require.Contains(t, b.returned(j)[0].Error, `the target wasm32-wasip1 of Rust is not on this node: run "rustup target add wasm32-wasip1"`)
	require.NotContains(t, b.text(j), "cargo build")
}

// Programs that say what they were called with, and make what they should.
var fakeNode = map[string]string{
	"node": `echo v20.0.0`,
	"npm":  `echo "npm $*"; [ "$1 $2" != "run build" ] || { mkdir -p dist && cp index.html dist/; }`,
	"pnpm": `echo "pnpm $*"; [ "$1 $2" != "run build" ] || { mkdir -p build/client && cp index.html build/; }`,
	"yarn": `echo "yarn $*"; [ "$1 $2" != "run build" ] || cp index.html "$OUT"`,
}

func TestTheLockFileDecides(t *testing.T) {
	programs(t, fakeNode)
	for _, network := range []bool{false, true} {
		b := newBench(t)
		var opts []monkey.Option
		if network {
			opts = append(opts, monkey.WithNetwork())
		}
		b.start(t, opts...)
		push := func(files map[string]string) (patrick.Outcome, string) {
			j := b.push(repo, auth.KindProject, merge(under("config", configuration), under("code/functions/ping", shFunction),
				under("websites/site", merge(map[string]string{
					"package.json": `{"scripts": {"build": "vite build"}, "devDependencies": {"vite": "^5.0.0"}}`, "index.html": "<p>app", "public/index.html": "not it",
				}, files))))
			return b.wait(t, j), b.text(j)
		}
		for lock, says := range map[string]string{
			"package-lock.json": "npm ci", "npm-shrinkwrap.json": "npm ci", "pnpm-lock.yaml": "pnpm install --frozen-lockfile", "yarn.lock": "yarn install --frozen-lockfile",
		} {
			out, log := push(map[string]string{lock: "{}"})
			require.Equal(t, patrick.Succeeded, out.State, out.Error+log)
			require.Contains(t, log, "website site: "+says)
			require.Equal(t, !network, strings.Contains(log, "--ignore-scripts"), "fetched first, with nothing of the project's run")
			pages, _ := b.current(t).Asset(websiteID)
			require.Equal(t, "<p>app", b.read(t, pages, "index.html"))
		}
		out, log := push(nil)
		if network {
			require.Contains(t, log, "npm install --no-audit --no-fund --no-package-lock")
			continue
		}
		require.Contains(t, out.Error, "it has no lock file")
	}
}

// What is fetched with the network of the node comes from where packages come from, and not
// from where a project would like it.
func TestPackagesComeFromTheRegistry(t *testing.T) {
	programs(t, fakeNode)
	b := newBench(t)
	b.start(t)
	lock := func(resolved string) string {
		return `{"lockfileVersion": 3, "packages": {"node_modules/a": {"version": "1.0.0", "resolved": "` + resolved + `"}}}`
	}
	for what, files := range map[string]map[string]string{
		"has a package from \"http://127.0.0.1:5001/x.tgz\"":        {"package-lock.json": lock("http://127.0.0.1:5001/x.tgz")},
		"has a package from \"git+ssh://git@github.com/a/b.git#c\"": {"package-lock.json": lock("git+ssh://git@github.com/a/b.git#c")},
		"has a package from \"https://localhost/y.tgz\"":            {"package-lock.json": `{"dependencies": {"a": {"version": "https://localhost/y.tgz"}}}`},
		"has a package from \"https://10.0.0.1/z.tgz\"":             {"yarn.lock": "a@^1:\n  version \"1.0.0\"\n  resolved \"https://10.0.0.1/z.tgz\"\n"},
		"it is of Yarn 2 or later":                                  {"yarn.lock": "# yarn\n\n__metadata:\n  version: 8\n"},
		"has a package from \"https://10.0.0.1/p.tgz\"":             {"pnpm-lock.yaml": "packages:\n  a@1:\n    resolution: {tarball: 'https://10.0.0.1/p.tgz'}\n"},
		".npmrc sets registry":                                      {"package-lock.json": "{}", ".npmrc": "# mine\nregistry = http://127.0.0.1/\n"},
		".npmrc sets //registry.npmjs.org/:_authToken":              {"package-lock.json": "{}", ".npmrc": "//registry.npmjs.org/:_authToken=x\n"},
		".yarnrc says where":                                        {"yarn.lock": "", ".yarnrc": "yarn-path x.js\n"},
		"pnpm-workspace.yaml sets configDependencies":               {"pnpm-lock.yaml": "{}", "pnpm-workspace.yaml": "configDependencies: {a: b}\n"},
		"package.json has a from \"git+https://127.0.0.1/a\"":       {"package-lock.json": "{}", "package.json": `{"scripts": {"build": "x"}, "dependencies": {"a": "git+https://127.0.0.1/a"}}`},
		"package.json has a from \"acme/widget\"":                   {"package-lock.json": "{}", "package.json": `{"scripts": {"build": "x"}, "dependencies": {"a": "acme/widget"}}`},
		"package.json has a from \"npm:http://127.0.0.1/\"":         {"package-lock.json": "{}", "package.json": `{"scripts": {"build": "x"}, "dependencies": {"a": "npm:http://127.0.0.1/"}}`},
	} {
		j := b.push(repo, auth.KindProject, project(shFunction, under("websites/site", merge(map[string]string{
			"package.json": `{"scripts": {"build": "x"}, "dependencies": {"a": "^1.0.0"}}`}, files))))
		out := b.wait(t, j)
		require.Equal(t, patrick.Failed, out.State, what)
		require.Contains(t, out.Error, what)
		require.NotContains(t, b.text(j), "website site: npm", what)
	}
}

func TestCratesComeFromTheirRegistry(t *testing.T) {
	sysroot := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(sysroot, "lib", "rustlib", "wasm32-wasip1"), 0o755))
	programs(t, map[string]string{
		"rustc": `case $1 in --print) echo ` + sysroot + ` ;; *) echo rustc 1.99 ;; esac`,
		"cargo": `echo "cargo $* offline=$CARGO_NET_OFFLINE"; [ "$1" != build ] || { made="$CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/release"; mkdir -p "$made"; cp ping.wasm "$made/ping.wasm"; }`,
	})
	b := newBench(t)
	b.start(t)
	build := func(files map[string]string) (patrick.Outcome, string) {
		j := b.push(repo, auth.KindProject, project(merge(map[string]string{
			"Cargo.toml": "[package]\nname = \"ping\"\n\n[dependencies]\nserde = \"1\"\n", "Cargo.lock": "version = 3\n\n[[package]]\nname = \"serde\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n",
			"ping.wasm": string(tinyModule), ".cargo/config.toml": "[build]\ntarget = \"wasm32-wasip1\"\n",
		}, files)))
		return b.wait(t, j), b.text(j)
	}
	out, log := build(nil)
	require.Equal(t, patrick.Succeeded, out.State, out.Error+log)
	require.Contains(t, log, "cargo fetch --locked offline=false")
	require.Contains(t, log, "cargo build --release offline=true")
	for what, files := range map[string]map[string]string{
		`Cargo.toml has git "http://127.0.0.1/x"`:                 {"Cargo.toml": "[package]\nname = \"ping\"\n\n[dependencies.x]\n\"g\\u0069t\" = \"http://127.0.0.1/x\"\n"},
		`sub/Cargo.toml has registry-index "http://127.0.0.1/"`:   {"sub/Cargo.toml": "[dependencies]\nx = {version = \"1\", registry-index = \"http://127.0.0.1/\"}\n"},
		`Cargo.lock has the source "git+https://example.com/x#1"`: {"Cargo.lock": "[[package]]\nname = \"x\"\nsource = \"git+https://example.com/x#1\"\n"},
		".cargo/config.toml has its section source":               {".cargo/config.toml": "source.crates-io.replace-with = \"mine\"\n"},
		".cargo/config.toml has its key build.rustc-wrapper":      {".cargo/config.toml": "[build]\nrustc-wrapper = \"./x\"\n"},
		"Cargo.toml: ": {"Cargo.toml": "[package\n"},
	} {
		out, log := build(files)
		require.Equal(t, patrick.Failed, out.State, what)
		require.Contains(t, out.Error, what)
		require.NotContains(t, log, "cargo fetch", what)
	}
	files := map[string]string{"Cargo.toml": "[package]\nname = \"ping\"\n\n[target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n", "ping.wasm": string(tinyModule)}
	out = b.wait(t, b.push(repo, auth.KindProject, project(files)))
	require.Contains(t, out.Error, "it has no Cargo.lock")
	files["Cargo.toml"] = "[package]\nname = \"ping\"\n\n[dependencies]\n"
	j := b.push(repo, auth.KindProject, project(files))
	b.succeed(t, j)
	require.NotContains(t, b.text(j), "cargo fetch", "there is nothing to fetch")
}

// A table of the operator's says what stands for an image.
func TestImagesOfTheOperator(t *testing.T) {
	programs(t, nil)
	opt := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(opt, "hugo"), []byte("#!/bin/sh\necho \"<p>$THEME\" > \"$OUT/index.html\"\n"), 0o755))
	b := newBench(t)
	row := monkey.Image{Toolchain: "shell", Path: []string{opt}, Folders: []string{opt}, Env: map[string]string{"THEME": "plain"}}
	b.start(t, monkey.WithImages(map[string]monkey.Image{"klakegg/hugo": row}))
	push := func(image string) *queued {
		return b.push(repo, auth.KindProject, project(shFunction, under("websites/site", map[string]string{
			".taubyte/config.yaml": "environment: {image: '" + image + "'}\nworkflow: [build]\n", ".taubyte/build.sh": "#!/usr/bin/env bash\nhugo\n",
		})))
	}
	b.succeed(t, push("docker.io/klakegg/hugo:0.101@sha256:00"))
	pages, _ := b.current(t).Asset(websiteID)
	require.Equal(t, "<p>plain\n", b.read(t, pages, "index.html"))
	j := push("other/hugo")
	testnet.Eventually(t, func() bool { return len(b.returned(j)) > 0 }, "hugo is missing")
	require.Contains(t, b.returned(j)[0].Error, "Hugo (a script for the image other/hugo calls hugo), which is not on this node")
	for _, bad := range []monkey.Image{{Toolchain: "cobol"}, {Path: []string{"bin"}}, {Folders: []string{"/"}}, {Env: map[string]string{"A=B": "c"}}} {
		_, err := monkey.New(t.Context(), b.node, b.node.Store, monkey.WithPatrick(b.queue), monkey.WithWorkDir(t.TempDir()), plain,
			monkey.WithImages(map[string]monkey.Image{"x": bad}))
		require.ErrorIs(t, err, taubyte.ErrInvalid)
	}
}

// elsewhere is a configuration whose website has its source at a provider.
func elsewhere() map[string]string {
	files := maps.Clone(configuration)
	files["websites/site.yaml"] = strings.Replace(files["websites/site.yaml"], "source:", "source:\n  github:\n    id: \"3\"\n    fullname: acme/tb_website_pages", 1)
	return files
}

// A website with a repository elsewhere is built from the folder that stands for it until
// that is connected, and never left out.
func TestRepositoriesThatAreNotConnected(t *testing.T) {
	b := newBench(t)
	b.start(t)
	b.repositories = []taubyte.RepositoryID{repo}
	code := under("code/functions/ping", shFunction)
	out := b.wait(t, b.push(repo, auth.KindProject, merge(under("config", elsewhere()), code)))
	require.Equal(t, patrick.Failed, out.State)
	require.Contains(t, out.Error, "website site: invalid: its source is the repository acme/tb_website_pages at github, which is not connected to this network (taubyte repo add github/3); there is no folder websites/site")

	b.succeed(t, b.push(repo, auth.KindProject, merge(under("config", elsewhere()), code, under("websites/site", site))))
	pages, ok := b.current(t).Asset(websiteID)
	require.True(t, ok)
	require.Equal(t, "<p>hello", b.read(t, pages, "index.html"))

	// Clones of tau's repositories, side by side.
	beside := merge(under("tb_hello", elsewhere()), under("tb_code_hello/functions/ping", shFunction))
	b.succeed(t, b.push(repo, auth.KindProject, merge(beside, under("tb_website_pages", script("cp index.html /out; echo beside >> /out/index.html")))))
	pages, _ = b.current(t).Asset(websiteID)
	require.Equal(t, "beside\n", b.read(t, pages, "index.html"))
	other := b.push(repo, auth.KindProject, merge(beside, under("tb_website_pages", script("cp index.html /out; echo beside >> /out/index.html")), map[string]string{"tb_website_pages2/x": ""}))
	require.True(t, cached(b.succeed(t, other))["website site"], "a clone sees itself alone")
	_, ok = b.current(t).Asset(functionID)
	require.True(t, ok)

	// Once it is connected, it comes from there.
	b.mu.Lock()
	b.repositories = []taubyte.RepositoryID{repo, "github/3"}
	b.mu.Unlock()
	out = b.succeed(t, b.push(repo, auth.KindProject, merge(under("config", elsewhere()), code, under("websites/site", site))))
	require.NotContains(t, cached(out), "website site")

	// A configuration by itself.
	b.mu.Lock()
	b.repositories = []taubyte.RepositoryID{"local/config", "github/1"}
	b.mu.Unlock()
	out = b.wait(t, b.push("local/config", auth.KindConfig, elsewhere()))
	require.Equal(t, patrick.Failed, out.State)
	require.Contains(t, out.Error, "website site: invalid: its source is the repository acme/tb_website_pages at github, which is not connected")
	j := b.push("github/1", auth.KindConfig, elsewhere())
	b.succeed(t, j)
	require.Contains(t, b.text(j), "note: website site: the repository acme/tb_website_pages at github is not connected")
}

// A build without a file is remembered by what it can read, and each target reads the source
// as it was pushed.
func TestEachTargetHasACopy(t *testing.T) {
	b := newBench(t)
	b.start(t)
	tau := map[string]string{
		".taubyte/config.yaml": "environment: {image: taubyte/go-wasi}\nworkflow: [build]\n",
		".taubyte/build.sh":    "[ ! -e ../../../websites ] && cp ping.wasm $OUT/main.wasm\n",
		"ping.wasm":            string(tinyModule),
	}
	spoils := script("for f in ../../code/functions/ping/*; do rm -f $f; done; echo spoilt > ../other; cp index.html $OUT")
	first := b.succeed(t, b.push(repo, auth.KindProject, project(tau, under("websites/site", spoils))))
	require.False(t, cached(first)["function ping"])
	second := b.succeed(t, b.push(repo, auth.KindProject, project(tau, under("websites/site", spoils), map[string]string{"README": "changed"})))
	require.True(t, cached(second)["function ping"], "a build for tau's image sees its folder alone")
	require.False(t, cached(second)["website site"], "another may see all")
}

// A function in Go that needs a module beside it is built again when that changes, and one
// that does not is not, whatever a go.work of the repository says.
func TestGoBuildsAreRememberedByWhatTheyRead(t *testing.T) {
	b := newBench(t)
	b.start(t)
	files := func(answer string) map[string]string {
		return project(map[string]string{
			"go.mod":  "module ping\n\ngo 1.24\n\nrequire example.com/lib v0.0.0\n\nreplace example.com/lib => ../../../lib\n",
			"main.go": "package main\n\nimport \"example.com/lib\"\n\n//go:wasmexport ping\nfunc ping(uint32) uint32 { return lib.Answer }\n\nfunc main() {}\n",
		}, map[string]string{"lib/go.mod": "module example.com/lib\n\ngo 1.24\n", "lib/lib.go": "package lib\n\nconst Answer = " + answer + "\n"})
	}
	b.succeed(t, b.push(repo, auth.KindProject, files("1")))
	one, _ := b.current(t).Asset(functionID)
	out := b.succeed(t, b.push(repo, auth.KindProject, files("2")))
	require.False(t, cached(out)["function ping"])
	two, _ := b.current(t).Asset(functionID)
	require.NotEqual(t, one, two)

	work := func(use string) map[string]string {
		return project(goFunction, map[string]string{"go.work": "go 1.24\n\nuse " + use + "\n"})
	}
	b.succeed(t, b.push(repo, auth.KindProject, work("./nowhere")))
	require.True(t, cached(b.succeed(t, b.push(repo, auth.KindProject, work("./elsewhere"))))["function ping"])
}
