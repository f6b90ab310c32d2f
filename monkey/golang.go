package monkey

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/guestsdk"
)

// hasGo reports whether a folder is a Go package or module.
func hasGo(fsys fs.FS) bool {
	for _, pattern := range []string{"*.go", "go.mod"} {
		if found, _ := fs.Glob(fsys, pattern); len(found) > 0 {
			return true
		}
	}
	return false
}

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

// mounts are what the go command needs.
func (t *toolchain) mounts() []Mount {
	return []Mount{{Name: "SDK", Dir: t.sdkDir}, {Name: "GOROOT", Dir: t.root, Place: t.root}}
}

// goBuild is how a function in Go becomes a module. What is not set here is Go's
// default, whatever the node's user has set: the same source gives the same bytes.
var goBuild = []string{"go", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", "${OUT}/main.wasm", "."}

var goVars = []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOFLAGS=", "GOENV=off"}

// goFetch has the go command fetch the modules that a build needs. It runs nothing of the
// project's.
var goFetch = []string{"go", "list", "-deps", "-f", "{{if false}}{{end}}", "."}

// requires reports whether a module may need others.
func requires(gomod []byte) bool { return strings.Contains(string(gomod), "require") }

// buildGo builds the package in a target's folder. The guest SDK is at hand without network
// and without a line in go.mod; a folder without go.mod is given one. Modules are fetched
// first, and the build itself has no network.
func (s *Service) buildGo(ctx context.Context, spec Spec, dir string, src, scratch tree, tools *toolchain) error {
	cache, err := s.goCache(ctx, spec.Owner, tools)
	if err != nil {
		return err
	}
	spec.Mounts = append(append(spec.Mounts, cache), tools.mounts()...)
	return s.compileGo(ctx, spec, dir, src, scratch, tools)
}

func (s *Service) compileGo(ctx context.Context, spec Spec, dir string, src, scratch tree, tools *toolchain) error {
	gomod, err := src.ReadFile("go.mod")
	if errors.Is(err, fs.ErrNotExist) {
		gomod = fmt.Appendf(nil, "module %s\n\ngo %s\n", "function", strings.TrimPrefix(version.Lang(tools.version), "go"))
		err = src.create("go.mod", gomod)
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%w go.mod: it is a link that leads nowhere", taubyte.ErrInvalid)
		}
		if err != nil {
			return fmt.Errorf("making go.mod: %w", err)
		}
	}
	if err != nil {
		return fmt.Errorf("reading go.mod: %w", err)
	}
	vendored := false
	if _, err := src.Stat("vendor/modules.txt"); err == nil {
		vendored = true
	} else if err := scratch.create("go.work", nil); err != nil {
		return fmt.Errorf("making go.work: %w", err)
	}
	run := func(network bool, words []string, env ...string) error {
		spec.Network = network
		session, err := s.o.env.Open(ctx, spec)
		if err != nil {
			return err
		}
		defer session.Close()
		gowork := "off"
		if !vendored {
			expand := func(word string) string {
				for _, m := range spec.Mounts {
					word = strings.ReplaceAll(word, "${"+m.Name+"}", session.Place(m.Name))
				}
				return word
			}
			text := guestsdk.Work(expand(dir), session.Place("SDK"), "", gomod)
			if err := scratch.root.WriteFile(scratch.at("go.work"), []byte(text), 0o600); err != nil {
				return ours(fmt.Errorf("making go.work: %w", err))
			}
			gowork = "${TMP}/go.work"
		}
		env = append(env, "GOWORK="+gowork, "GOCACHE=${CACHE}/go-build", "GOMODCACHE=${CACHE}/go-mod", "GOPATH=${CACHE}/go")
		return session.Exec(ctx, Command{Words: words, Dir: dir, Env: append(env, goVars...), Log: spec.Log})
	}
	if !vendored && requires(gomod) {
		if err := s.failed(run(true, goFetch, tools.proxies...)); err != nil {
			return fmt.Errorf("fetching its modules: %w", err)
		}
	}
	err = s.failed(run(s.o.network, goBuild, "GOPROXY=off"))
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
