package localgit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/internal/gitcmd"
)

// Limits of git processes. Short commands read or change references and look at
// single objects; a transfer moves packs.
const (
	shortTime    = 2 * time.Minute
	transferTime = time.Hour
	stallTime    = time.Minute // a client that neither sends nor takes a byte

	shortSlots = 32
	userSlots  = 32 // clones, fetches and pushes of users
	peerSlots  = 16 // fetches of other nodes, apart from those: users can't take them
	fetchSlots = 4  // fetches from other nodes
)

// slots bounds how many processes run at a time.
type slots chan struct{}

// take waits for a slot. Who waits until ctx ends gets ErrUnavailable.
func (s slots) take(ctx context.Context) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: too many git processes: %w", taubyte.ErrUnavailable, ctx.Err())
	}
}

// short runs a git command that takes a moment and returns what it printed.
func (s *Server) short(ctx context.Context, repository, input string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, shortTime)
	defer cancel()
	release, err := s.shortSlots.take(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return run(ctx, gitcmd.New(ctx, repository, args...), input)
}

// run runs a command and returns what it printed.
func run(ctx context.Context, cmd *exec.Cmd, input string) (string, error) {
	var out, errOut bytes.Buffer
	cmd.Stdin = strings.NewReader(input)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("git %s: %s: %w", cmd.Args[1], strings.TrimSpace(errOut.String()), err)
	}
	return out.String(), nil
}

// path is where a repository is, or will be.
func (s *Server) path(name string) string { return filepath.Join(s.dir, name+".git") }

// onDisk reports whether this node has made the repository's folder.
func (s *Server) onDisk(name string) (bool, error) {
	_, err := os.Stat(filepath.Join(s.path(name), "HEAD"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// configuration of every repository, in the order in which it is written.
var configuration = [][2]string{
	{"gc.auto", "2000"},
	{"gc.autoPackLimit", "30"}, // each push is a pack
	{"gc.autoDetach", "false"}, // what runs has an owner
	{"gc.bigPackThreshold", "256m"},
	{"maintenance.auto", "false"},
	{"fetch.unpackLimit", "1"}, // one sync for a pack, in place of one for each object
	{"uploadpack.allowAnySHA1InWant", "true"},
	{"core.hooksPath", os.DevNull},
	{"core.fsync", "all"}, // git leaves loose objects out
}

// makeDir makes the folder of a repository unless it is there.
func (s *Server) makeDir(ctx context.Context, name string) (string, error) {
	s.making.Lock()
	defer s.making.Unlock()
	dir := s.path(name)
	if there, err := s.onDisk(name); err != nil || there {
		return dir, err
	}
	// Made beside and moved into place: a crash leaves no half of one.
	made, err := os.MkdirTemp(s.dir, ".new-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(made)
	if _, err := s.short(ctx, made, "", "init", "--quiet", "--bare", "--template=", "--initial-branch="+defaultBranch); err != nil {
		return "", err
	}
	if err := errors.Join(writeConfig(made), writeAttributes(made)); err != nil {
		return "", err
	}
	return dir, os.Rename(made, dir)
}

// attributes of every repository, which come before those of its commits. Those for
// release archives would leave files out of a source, or change them, and a checkout
// knows none of them (gitattributes(5), "Creating an archive").
const attributes = "* -export-ignore -export-subst\n"

// writeAttributes sets a repository's attributes unless they are set.
func writeAttributes(dir string) error {
	name := filepath.Join(dir, "info", "attributes")
	if text, err := os.ReadFile(name); err == nil && string(text) == attributes {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "attributes-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(attributes)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// writeConfig sets a repository's configuration, in one write.
func writeConfig(dir string) error {
	var b strings.Builder
	b.WriteString("[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n")
	for _, c := range configuration {
		section, key, _ := strings.Cut(c[0], ".")
		fmt.Fprintf(&b, "[%s]\n\t%s = %s\n", section, key, c[1])
	}
	beside := filepath.Join(dir, "config.new")
	if err := os.WriteFile(beside, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(beside, filepath.Join(dir, "config"))
}

// Name implements auth.Provider.
func (s *Server) Name() string { return "local" }

// Heads implements auth.Provider. It is answered from the replicated references, which
// are compared with those of the other control nodes first.
func (s *Server) Heads(ctx context.Context, r auth.Remote) (map[taubyte.Branch]taubyte.Commit, error) {
	name := r.ID
	if err := s.fresh(ctx, name); err != nil {
		return nil, err
	}
	refs, err := s.refs(ctx, name)
	if err != nil {
		return nil, err
	}
	heads := map[taubyte.Branch]taubyte.Commit{}
	current, _ := refs.split()
	for ref, e := range current {
		if branch, ok := strings.CutPrefix(ref, headsPrefix); ok {
			heads[taubyte.Branch(branch)] = taubyte.Commit(e.New)
		}
	}
	return heads, nil
}

// having returns the folder of a repository that has the commit, which is fetched from
// another node if need be.
func (s *Server) having(ctx context.Context, name string, commit taubyte.Commit) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	if !isHash(string(commit)) {
		return "", fmt.Errorf("%w commit %q", taubyte.ErrInvalid, commit)
	}
	has := func() bool {
		there, err := s.onDisk(name)
		if err != nil || !there {
			return false
		}
		_, err = s.short(ctx, s.path(name), "", "cat-file", "-e", string(commit)+"^{commit}")
		return err == nil
	}
	if has() {
		return s.path(name), nil
	}
	if err := s.current(ctx, name); err != nil {
		return "", err
	}
	if has() {
		return s.path(name), nil
	}
	// No reference leads there any more, here.
	for _, p := range s.living() {
		if s.fetchFrom(ctx, p, name, s.path(name), []string{string(commit)}) == nil && has() {
			return s.path(name), nil
		}
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	return "", fmt.Errorf("%w: commit %s of %s", taubyte.ErrNotFound, commit, name)
}

// Source implements auth.Provider. The archive has the files that a checkout has.
func (s *Server) Source(ctx context.Context, r auth.Remote, commit taubyte.Commit, w io.Writer) error {
	name := r.ID
	repository, err := s.having(ctx, name, commit)
	if err != nil {
		return err
	}
	if err := writeAttributes(repository); err != nil { // of a repository from before
		return fmt.Errorf("reading commit %s of %s: %w", commit, name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, transferTime)
	defer cancel()
	release, err := s.peerSlots.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := gitcmd.Measure(ctx, repository, commit); err != nil {
		return fmt.Errorf("commit %s of %s: %w", commit, name, err)
	}
	var errOut bytes.Buffer
	cmd := gitcmd.New(ctx, repository, "archive", "--format=tar", string(commit))
	cmd.Stdout, cmd.Stderr = w, &errOut
	if err := cmd.Run(); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("reading commit %s of %s: %s: %w", commit, name, strings.TrimSpace(errOut.String()), err))
	}
	return nil
}

// File returns a file of a commit, of at most limit bytes.
func (s *Server) File(ctx context.Context, name string, commit taubyte.Commit, path string, limit int64) ([]byte, error) {
	repository, err := s.having(ctx, name, commit)
	if err != nil {
		return nil, err
	}
	object := string(commit) + ":" + path
	size, err := s.short(ctx, repository, "", "cat-file", "-s", object)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %s in commit %s of %s", taubyte.ErrNotFound, path, commit, name)
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(size), 10, 64); err != nil || n > limit {
		return nil, fmt.Errorf("%w: %s in commit %s of %s", taubyte.ErrTooLarge, path, commit, name)
	}
	out, err := s.short(ctx, repository, "", "cat-file", "blob", object)
	return []byte(out), err
}

func isHash(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isZero: the hash that stands for no object.
func isZero(hash string) bool { return strings.Trim(hash, "0") == "" }
