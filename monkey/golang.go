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

// A toolchain is the node's Go, and what the node's user has set for it that
// builds should share: caches, and where modules come from.
type toolchain struct {
	version string // "go1.26.8"
	env     []string
	cache   string // its folder
	sdk     string // the guest SDK's digest
}

// inherited are the settings of the node's Go that builds keep. None says who
// the node is; credentials for private modules do not pass.
var inherited = []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE"}

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
	cmd := exec.CommandContext(ctx, program, append([]string{"env", "-json", "GOVERSION"}, inherited...)...)
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
	t := &toolchain{version: vars["GOVERSION"], cache: vars["GOCACHE"]}
	if version.IsValid(t.version) && version.Compare(t.version, "go"+guestsdk.Minimum) < 0 {
		return nil, &MissingError{What: "Go " + guestsdk.Minimum, Hint: "the node has " + t.version + ": install a newer one (https://go.dev/dl)"}
	}
	for _, name := range inherited {
		if v := vars[name]; v != "" {
			t.env = append(t.env, name+"="+v)
		}
	}
	if t.sdk, err = s.extractSDK(); err != nil {
		return nil, ours(err)
	}
	s.tools = t
	return t, nil
}

// extractSDK digests the guest SDK that this program carries.
func (s *Service) extractSDK() (digest string, err error) {
	dir := filepath.Join(s.sdkDir(), "source")
	if err := guestsdk.Extract(dir); err != nil {
		return "", err
	}
	h := sha256.New()
	if err := hashTree(context.Background(), h, os.DirFS(dir), "."); err != nil {
		return "", fmt.Errorf("hashing the guest SDK: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (s *Service) sdkDir() string { return filepath.Join(s.o.workDir, workPrefix+"sdk") }

// goBuild is how a function in Go becomes a module. What is not set here is Go's
// default, whatever the node's user has set: the same source gives the same bytes.
var goBuild = []string{"go", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", "${OUT}/main.wasm", "."}

var goVars = []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOFLAGS=", "GOENV=off"}

// buildGo builds the package in a task's folder, which src is as well. The guest SDK is at
// hand without network and without a line in go.mod; a folder without go.mod is given one.
func (s *Service) buildGo(ctx context.Context, task Task, src tree, scratch tree, tools *toolchain) error {
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
	gowork := "off"
	if _, err := src.Stat("vendor/modules.txt"); err != nil {
		sdk, err := guestsdk.Folder(s.sdkDir())
		if err != nil {
			return ours(err)
		}
		if err := scratch.create("go.work", []byte(guestsdk.Work(task.Dir, sdk, "", gomod))); err != nil {
			return fmt.Errorf("making go.work: %w", err)
		}
		gowork = filepath.Join(task.Scratch, "go.work")
	}
	task.Command = goBuild
	task.Env = append(append([]string{"GOWORK=" + gowork}, goVars...), tools.env...)
	err = s.failed(s.o.env.Run(ctx, task))
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
