package monkey

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/guestsdk"
)

// hasGo reports whether a folder is a Go package or module.
func hasGo(fsys fs.FS) bool { return hasFile(fsys, "*.go", "go.mod") }

// A toolchain is the node's Go, and what the node's user has set for it that builds
// keep: where modules come from.
type toolchain struct {
	version string // "go1.26.8"
	root    string // its folder
	proxies []string
	sdk     string // the guest SDK's digest
	sdkDir  string
}

// inherited are the settings of the node's Go that builds keep. None says who the node is;
// credentials for private modules do not pass.
var inherited = []string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE"}

// toolchain asks the node's Go for its settings, until it has answered once.
func (s *Service) toolchain(ctx context.Context) (*toolchain, error) {
	s.toolsMu.Lock()
	defer s.toolsMu.Unlock()
	if s.tools != nil {
		return s.tools, nil
	}
	program, err := lookPath("go", os.Getenv("PATH"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"env", "-json", "GOVERSION", "GOROOT"}, inherited...)...)
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOWORK=off")
	cmd.Dir = s.o.workDir
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, ours(fmt.Errorf("asking the Go toolchain for its settings: %w", err))
	}
	var vars map[string]string
	if err := json.Unmarshal(out, &vars); err != nil {
		return nil, ours(fmt.Errorf("asking the Go toolchain for its settings: %w", err))
	}
	t := &toolchain{version: vars["GOVERSION"], root: vars["GOROOT"]}
	if version.IsValid(t.version) && version.Compare(t.version, "go"+guestsdk.Minimum) < 0 {
		return nil, &MissingError{What: "Go " + guestsdk.Minimum, Hint: "the node has " + t.version + ": install a newer one (https://go.dev/dl)"}
	}
	if !s.o.network {
		vars["GOPROXY"] = onlyProxies(vars["GOPROXY"])
		vars["GOPRIVATE"], vars["GONOPROXY"] = "", "none"
	}
	for _, name := range inherited {
		if v := vars[name]; v != "" {
			t.proxies = append(t.proxies, name+"="+v)
		}
	}
	if err := s.extractSDK(t); err != nil {
		return nil, ours(err)
	}
	s.tools = t
	return t, nil
}

// onlyProxies is a GOPROXY without what makes the go command ask servers that a go.mod
// names.
func onlyProxies(list string) string {
	var kept []string
	for _, p := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '|' }) {
		if p != "direct" && p != "off" {
			kept = append(kept, p)
		}
	}
	if len(kept) == 0 {
		return "off"
	}
	return strings.Join(kept, ",")
}

// extractSDK unpacks and digests the guest SDK that this program carries.
func (s *Service) extractSDK(t *toolchain) (err error) {
	if t.sdkDir, err = guestsdk.Folder(filepath.Join(s.o.workDir, workPrefix+"sdk")); err != nil {
		return err
	}
	h := sha256.New()
	if err := hashTree(context.Background(), h, os.DirFS(t.sdkDir), "."); err != nil {
		return fmt.Errorf("hashing the guest SDK: %w", err)
	}
	t.sdk = hex.EncodeToString(h.Sum(nil))
	return nil
}

// key names it, for the cache.
func (t *toolchain) key() []string {
	return []string{t.version, strings.Join(goBuild, " "), strings.Join(goVars, " "), t.sdk}
}

// mounts are what the go command needs.
func (t *toolchain) mounts() []Mount {
	return []Mount{{Name: "SDK", Dir: t.sdkDir}, {Name: "GOROOT", Dir: t.root, Place: t.root}}
}

// goBuild is how a function in Go becomes a module. What is not set here is Go's
// default, whatever the node's user has set: the same source gives the same bytes. The tag
// is one that tau's builds set.
var goBuild = []string{"go", "build", "-tags=" + goTag, "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", "${OUT}/main.wasm", "."}

const goTag = "wasi"

// goFetch has the go command fetch the modules that a build needs. It runs nothing of the
// project's.
var goFetch = []string{"go", "list", "-tags=" + goTag, "-deps", "-f", "{{if false}}{{end}}", "."}

// requires reports whether a module may need others.
func requires(gomod []byte) bool { return strings.Contains(string(gomod), "require") }

// tinygoBuild is how a function that was written for TinyGo becomes a module where that is
// installed.
var tinygoBuild = []string{"tinygo", "build", "-tags=" + goTag, "-target=wasip1", "-buildmode=c-shared", "-scheduler=none", "-panic=trap", "-no-debug", "-o", "${OUT}/main.wasm", "."}

// buildGo builds the package in a target's folder. The guest SDK is at hand without network
// and without a line in go.mod; a folder without go.mod is given one, and what was written
// for TinyGo is adapted where there is none. Modules are fetched first, and the build itself
// has no network.
func (s *Service) buildGo(ctx context.Context, spec Spec, dir string, src, scratch tree, k *kit) error {
	g, err := s.goModule(ctx, spec.Log, src, scratch, k)
	if err != nil {
		return err
	}
	cache, err := s.goCache(ctx, spec.Owner, k.golang)
	if err != nil {
		return err
	}
	k.give(&spec)
	spec.Mounts = append(append(spec.Mounts, cache), k.golang.mounts()...)
	spec.Path = append(spec.Path, filepath.Join(k.golang.root, "bin"))
	build := goBuild
	if g.tinygo {
		build = tinygoBuild
	}
	return s.compileGo(ctx, spec, dir, g, build)
}

// A goModule is a function on its way through the go command.
type goModule struct {
	src, scratch tree
	tools        *toolchain
	gomod        []byte
	vendored     bool
	completes    bool // its go.mod lacks what it imports: the go command adds it
	imports      []string
	tinygo       bool // it is built by TinyGo
	placed       bool // completes: its go.mod has the places of a session
}

// goModule adapts the source in a folder, and finds out what the go command has to do.
func (s *Service) goModule(ctx context.Context, log io.Writer, src, scratch tree, k *kit) (*goModule, error) {
	a, err := adaptGo(ctx, src, k.tinygo != "")
	if err != nil {
		return nil, err
	}
	tinygo := a.style && k.tinygo != ""
	if tinygo {
		fmt.Fprintf(log, "built by %s\n", k.tinygo)
	}
	if a.style && !tinygo {
		fmt.Fprintf(log, "note: the function is written for TinyGo, which is not on this node: its copy here is adapted to %s\n", k.golang.version)
	}
	for _, n := range a.notes {
		fmt.Fprintf(log, "note: %s\n", n)
	}
	return newGoModule(src, scratch, k.golang, a.imports, tinygo)
}

func newGoModule(src, scratch tree, tools *toolchain, imports []string, tinygo bool) (*goModule, error) {
	g := &goModule{src: src, scratch: scratch, tools: tools, imports: imports, tinygo: tinygo}
	var err error
	g.gomod, err = src.ReadFile("go.mod")
	absent := errors.Is(err, fs.ErrNotExist)
	if err != nil && !absent {
		return nil, fmt.Errorf("reading go.mod: %w", err)
	}
	if _, err := src.Stat("vendor/modules.txt"); err == nil && !absent {
		g.vendored = true
		return g, nil
	}
	g.completes = incomplete(src, g.gomod, imports)
	// The files are made before a session is given them, and filled when it has places.
	switch {
	case g.completes:
		if err := src.replace("go.mod", g.gomod); err != nil {
			return nil, fmt.Errorf("making go.mod: %w", err)
		}
		return g, nil
	case absent:
		g.gomod = fmt.Appendf(nil, "module %s\n\ngo %s\n", "function", tools.language())
		if err = src.create("go.mod", g.gomod); errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%w go.mod: it is a link that leads nowhere", taubyte.ErrInvalid)
		}
		if err != nil {
			return nil, fmt.Errorf("making go.mod: %w", err)
		}
	}
	if err := scratch.create("go.work", nil); err != nil {
		return nil, fmt.Errorf("making go.work: %w", err)
	}
	return g, nil
}

// language is the version of the language, "1.26".
func (t *toolchain) language() string { return strings.TrimPrefix(version.Lang(t.version), "go") }

// fetches reports whether modules have to be fetched.
func (g *goModule) fetches() bool { return !g.vendored && (g.completes || requires(g.gomod)) }

// env is what the go command needs in a session that has the module in dir.
func (g *goModule) env(session Session, dir string) ([]string, error) {
	env := []string{"GOCACHE=${CACHE}/go-build", "GOMODCACHE=${CACHE}/go-mod", "GOPATH=${CACHE}/go",
		"GOTOOLCHAIN=local", "GOENV=off"}
	if err := g.link(session); err != nil {
		return nil, err
	}
	switch {
	case g.completes:
		if !g.placed {
			sdk := ""
			if !g.tinygo {
				rel, err := filepath.Rel(dir, filepath.Join(session.Place("TMP"), sdkLink))
				if err != nil {
					return nil, ours(fmt.Errorf("making go.mod: %w", err))
				}
				sdk = filepath.ToSlash(rel)
			}
			text, err := completed(g.gomod, g.imports, sdk, g.tools.language())
			if err != nil {
				return nil, err
			}
			if err := g.src.root.WriteFile(g.src.at("go.mod"), text, 0o600); err != nil {
				return nil, ours(fmt.Errorf("making go.mod: %w", err))
			}
			g.placed = true
		}
		return append(env, "GOWORK=off", "GOFLAGS=-mod=mod"), nil
	case g.vendored, g.tinygo:
		return append(env, "GOWORK=off", "GOFLAGS="), nil
	}
	sdk := session.Place("SDK")
	text := guestsdk.Work(dir, sdk, "", g.gomod)
	text = strings.Replace(text, strconv.Quote(filepath.Join(sdk, symbolsFolder)), "./"+sdkLink+"/"+symbolsFolder, 1)
	if err := g.scratch.root.WriteFile(g.scratch.at("go.work"), []byte(text), 0o600); err != nil {
		return nil, ours(fmt.Errorf("making go.work: %w", err))
	}
	return append(env, "GOWORK=${TMP}/go.work", "GOFLAGS="), nil
}

// sdkLink is a link to the guest SDK in a build's folder for temporary files, which lies the
// same way from the source wherever builds work: the path of what a module replaces is
// in what is built.
const sdkLink = "taubyte-sdk"

// symbolsFolder is what replaces the public SDK's symbols, in the guest SDK.
const symbolsFolder = "go-sdk-symbols"

func (g *goModule) link(session Session) error {
	err := g.scratch.root.Symlink(session.Place("SDK"), g.scratch.at(sdkLink))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return ours(fmt.Errorf("giving the build the guest SDK: %w", err))
	}
	return nil
}

// goVars are those of a build, after those of goModule.env.
var goVars = []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0"}

// runGo runs a go command in a session of its own.
func (s *Service) runGo(ctx context.Context, spec Spec, dir string, g *goModule, words []string, env ...string) error {
	session, err := s.o.env.Open(ctx, spec)
	if err != nil {
		return err
	}
	defer session.Close()
	at := dir
	for _, m := range spec.Mounts {
		at = strings.ReplaceAll(at, "${"+m.Name+"}", session.Place(m.Name))
	}
	own, err := g.env(session, at)
	if err != nil {
		return err
	}
	vars := goVars
	if words[0] != "go" { // TinyGo has a target
		vars = nil
	}
	return s.failed(session.Exec(ctx, Command{Words: words, Dir: dir, Env: slices.Concat(own, vars, env), Log: spec.Log}))
}

// fetchGo has the modules fetched that a function needs.
func (s *Service) fetchGo(ctx context.Context, spec Spec, dir string, g *goModule) error {
	if !g.fetches() {
		return nil
	}
	spec.Network = true
	if err := s.runGo(ctx, spec, dir, g, goFetch, g.tools.proxies...); err != nil {
		return fmt.Errorf("fetching its modules: %w", err)
	}
	return nil
}

func (s *Service) compileGo(ctx context.Context, spec Spec, dir string, g *goModule, build []string) error {
	if err := s.fetchGo(ctx, spec, dir, g); err != nil {
		return err
	}
	spec.Network = s.o.network
	err := s.runGo(ctx, spec, dir, g, build, "GOPROXY=off")
	var exit *ExitError
	if !isOutage(err) && errors.As(err, &exit) {
		return fmt.Errorf("it does not compile (%w), see the log", err)
	}
	return err
}

// muteTelemetry turns Go's telemetry off in a build's home. With it on, the go
// command starts a process of its own that outlives it, in no group of ours, and
// writes into that home after it was removed. There is no variable to say so: the
// mode is a file in the user's configuration folder, as os.UserConfigDir finds it.
func muteTelemetry(home tree) error {
	for _, config := range []string{".config", "Library/Application Support"} {
		dir := path.Join(config, "go", "telemetry")
		if err := home.root.MkdirAll(home.at(dir), 0o700); err != nil {
			return fmt.Errorf("making a home for the build: %w", err)
		}
		if err := home.create(path.Join(dir, "mode"), []byte("off")); err != nil {
			return fmt.Errorf("making a home for the build: %w", err)
		}
	}
	return nil
}

// localModules reports whether a module may need folders beside its own.
func localModules(fsys fs.FS, dir string) bool {
	text, err := fs.ReadFile(fsys, path.Join(dir, "go.mod"))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	file, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(file.Replace, func(r *modfile.Replace) bool { return r.New.Version == "" })
}
