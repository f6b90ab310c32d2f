package guestsdk

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"go/version"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte/internal/guestsdk/archive"
)

//go:embed guest.txt
var source []byte

// Minimum is the version of Go that the SDK needs.
const Minimum = "1.24"

// Extract writes the SDK's source into the folder dir, which it makes. What is
// there under the same names is replaced.
func Extract(dir string) error {
	files, err := archive.Parse(source)
	if err != nil {
		return fmt.Errorf("read the embedded guest SDK: %w", err)
	}
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fmt.Errorf("extract the guest SDK: %w", err)
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			return fmt.Errorf("extract the guest SDK: %w", err)
		}
	}
	return nil
}

// Workspace prepares the build of the Go module in functionDir and gives what
// the variable GOWORK must be: the path of a workspace file of that module and
// the SDK, or "off" for a module that brings its dependencies in a vendor
// folder. Requirements and replacements of the module hold as they do without;
// its symbols for the public go-sdk are those of the SDK.
//
// dir is where the SDK and the workspace files are kept. It may be used for many
// functions, by several builds and processes at once, and be deleted between. A
// workspace file is small; it may be removed after the build. GOFLAGS must not
// have -mod=mod, which Go refuses in a workspace.
// goVersion ("1.26") is the language version of the workspace; it is raised to
// that of the function's go.mod, and may be empty.
func Workspace(dir, functionDir, goVersion string) (gowork string, err error) {
	functionDir, err = filepath.Abs(functionDir)
	if err != nil {
		return "", fmt.Errorf("prepare a Go workspace: %w", err)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("prepare a Go workspace: %w", err)
	}
	gomod, err := os.ReadFile(filepath.Join(functionDir, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("prepare a Go workspace: %w", err)
	}
	if _, err := os.Stat(filepath.Join(functionDir, "vendor", "modules.txt")); err == nil {
		return "off", nil
	}
	sdk, err := Folder(dir)
	if err != nil {
		return "", err
	}
	text := Work(functionDir, sdk, goVersion, gomod)
	gowork = filepath.Join(dir, digest([]byte(text))+".work")
	if same, err := os.ReadFile(gowork); err == nil && string(same) == text {
		return gowork, nil
	}
	if err := replaceFile(gowork, []byte(text)); err != nil {
		return "", fmt.Errorf("prepare a Go workspace: %w", err)
	}
	return gowork, nil
}

// Work is the text of a workspace file of the module in functionDir, which has that
// go.mod, and of the SDK in the folder sdk: of both as the go command will see them.
// goVersion is as in Workspace.
func Work(functionDir, sdk, goVersion string, gomod []byte) string {
	return fmt.Sprintf("go %s\n\nuse (\n\t%s\n\t%s\n)\n\nreplace github.com/taubyte/go-sdk-symbols => %s\n",
		latest(Minimum, goVersion, directive(gomod, "go")),
		quote(functionDir), quote(sdk), quote(filepath.Join(sdk, "go-sdk-symbols")))
}

// Folder gives the folder with the SDK below dir. It appears whole or not at all, under
// a name that tells its content.
func Folder(dir string) (string, error) {
	final := filepath.Join(dir, "guest-"+digest(source))
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("extract the guest SDK: %w", err)
	}
	temporary, err := os.MkdirTemp(dir, "extract-*")
	if err != nil {
		return "", fmt.Errorf("extract the guest SDK: %w", err)
	}
	defer os.RemoveAll(temporary)
	if err := os.Chmod(temporary, 0o755); err != nil {
		return "", fmt.Errorf("extract the guest SDK: %w", err)
	}
	if err := Extract(temporary); err != nil {
		return "", err
	}
	if err := os.Rename(temporary, final); err != nil {
		// Another build was first.
		if _, missing := os.Stat(final); missing != nil {
			return "", fmt.Errorf("extract the guest SDK: %w", errors.Join(err, missing))
		}
	}
	return final, nil
}

func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "work-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	err = os.Rename(f.Name(), name)
	if same, there := os.ReadFile(name); err != nil && there == nil && string(same) == string(data) {
		return nil
	}
	return err
}

// directive finds what a go.mod has for a word, "go" or "module".
func directive(gomod []byte, word string) string {
	for line := range strings.Lines(string(gomod)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == word {
			return f[1]
		}
	}
	return ""
}

func latest(versions ...string) string {
	best := versions[0]
	for _, v := range versions[1:] {
		if version.IsValid("go"+v) && version.Compare("go"+v, "go"+best) > 0 {
			best = v
		}
	}
	return best
}

// quote gives a path as it may stand in a workspace file.
func quote(path string) string { return strconv.Quote(path) }

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
