package monkey

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// An Environment is where the commands of builds run: strangers' scripts and compilers. An
// implementation is tested with package monkey/environmenttest.
//
// The contract:
//
//   - Open makes a session for one target of a build. What the node lacks for it gives a
//     *MissingError.
//   - Exec runs a command and returns when it has ended and no process that it began is
//     left, whatever the way in which it ended. Commands of a session run one at a time;
//     sessions run side by side.
//   - A mount is a folder of the node. Commands find it at Place, which need not be its
//     path on the node, and in the variable of its name; "${NAME}" stands for it in a
//     command's words, folder and variables. What they write into one that may be written
//     is there for the caller.
//   - A command sees Command.Env and what the environment itself gives, and no variable of
//     the node's process: a PATH, and, where there is a mount TMP, that as HOME and TMPDIR.
//   - Standard output and error go to Log as they come, interleaved, from one goroutine at
//     a time and not after Exec has returned.
//   - A command that fails gives an *ExitError, and one that is beyond the session's limits
//     an *ExitError or a *LimitError. One that can't be run because the node lacks
//     something gives a *MissingError. When ctx ends, Exec ends all processes at once and
//     returns ctx's cause.
//   - Close ends a command that runs, waits until it is gone, and may be called twice.
//
// One that runs images also has a method Resolve(ctx, image) (string, error), which returns
// what the name of an image stands for at the time: what was built by another is not taken
// from the cache.
type Environment interface {
	Open(ctx context.Context, spec Spec) (Session, error)
}

// A Session runs commands on the same folders.
type Session interface {
	Exec(ctx context.Context, c Command) error
	// Place is where commands find a mount.
	Place(mount string) string
	Close() error
}

// A Spec is what a session needs.
type Spec struct {
	// Owner says whose code runs: sessions of one owner are not protected from each other.
	Owner string
	Image string // the container image that the project asks for; "" where none
	// Dockerfile is what the image is built from that stands in the place of Image. An
	// environment that does not build images ignores it, which its Log says.
	Dockerfile *Dockerfile
	Mounts     []Mount
	// Path are folders with programs of the machine that are looked into before the
	// environment's own PATH. Commands see those that are in a mount or, where the
	// environment is Native, of the system.
	Path []string
	// Network gives commands the network of the machine. Without it a confined session has
	// none at all.
	Network bool
	Limits  Limits
	Log     io.Writer // notes on the session; nil for none
}

// searchPath is the PATH of commands, where the environment's own is that, or the process's.
func (s Spec) searchPath(own string) string {
	if own == "" {
		own = os.Getenv("PATH")
	}
	return strings.Join(append(slices.Clone(s.Path), own), string(filepath.ListSeparator))
}

// A Mount is a folder of the node for the commands of a session.
type Mount struct {
	Name  string // of the variable: "SRC"; "" for a folder that only Place names
	Dir   string // on the node
	Place string // where a session with folders of its own has it; the default is "/src" for SRC
	Write bool
}

func (m Mount) place() string {
	switch {
	case m.Place != "":
		return m.Place
	}
	return "/" + strings.ToLower(m.Name)
}

// A Command is run in a session.
type Command struct {
	Words []string
	Dir   string   // "${SRC}" or below
	Env   []string // "NAME=value"
	Log   io.Writer
}

// Limits of a session. Zero is no limit. A Process keeps to CPU and File alone.
type Limits struct {
	CPU       time.Duration // of one process
	File      int64         // bytes of one file that is written
	Memory    int64         // bytes, of all processes together
	Processes int           // and threads, at a time
	Disk      int64         // bytes in all folders that may be written
}

// An ExitError is a command's own failure.
type ExitError struct {
	Command string // its first word
	Status  string // "exit status 2", "signal: killed"
}

func (e *ExitError) Error() string { return e.Command + ": " + e.Status }

// A LimitError is the end of a command that took more than its session may.
type LimitError struct {
	Command string
	Limit   string // "more than 1024 bytes of memory"
}

func (e *LimitError) Error() string { return e.Command + ": ended, it took " + e.Limit }

// A MissingError is something that the node would need to run builds.
type MissingError struct {
	What string // "the Go toolchain"
	Hint string // what to install
}

func (e *MissingError) Error() string { return e.What + " is not on this node: " + e.Hint }

// places are where the commands of a session find its mounts.
type places map[string]string

// expander replaces "${NAME}".
func (p places) expander() *strings.Replacer {
	var pairs []string
	for name, at := range p {
		pairs = append(pairs, "${"+name+"}", at)
	}
	return strings.NewReplacer(pairs...)
}

// env is the whole environment of variables of a command.
func (p places) env(searchPath string, c Command) []string {
	env := []string{"PATH=" + searchPath, "LANG=C.UTF-8"}
	if tmp, ok := p["TMP"]; ok {
		env = append(env, "HOME="+tmp, "TMPDIR="+tmp)
	}
	env = append(env, system()...)
	expand := p.expander()
	for _, kv := range c.Env {
		env = append(env, expand.Replace(kv))
	}
	for name, at := range p {
		env = append(env, name+"="+at)
	}
	return append(env, "PWD="+p.dir(c))
}

func (p places) dir(c Command) string { return p.expander().Replace(c.Dir) }

func (p places) words(c Command) ([]string, error) {
	if len(c.Words) == 0 {
		return nil, fmt.Errorf("a command without words")
	}
	expand := p.expander()
	words := make([]string, len(c.Words))
	for i, w := range c.Words {
		words[i] = expand.Replace(w)
	}
	return words, nil
}

// base is a program's name for people.
func base(program string) string { return path.Base(filepath.ToSlash(program)) }
