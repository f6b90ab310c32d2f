package dev

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/taubyte/taubyte"
)

// branch is the branch that a folder is deployed to.
const branch = "main"

// snapshots is where the chain of the folder's states is kept, in the state
// repository. Each state's parent is the one before it, so that a merge with
// what was pushed from elsewhere finds the right base.
const snapshots = "refs/heads/folder"

// A Folder is a directory that is deployed by git. Its methods may be called
// concurrently; pushes wait for one another.
type Folder struct {
	dir    string
	git    string // the state repository
	remote string
	header string // that authenticates to the remote, or ""
	index  string // the file of the index, "" for the repository's own
	mu     sync.Mutex
}

// Conflict says that the folder and somebody's push changed the same lines.
// Nothing was pushed.
type Conflict struct {
	Paths []string // below the folder, with slashes
}

func (c *Conflict) Error() string {
	names := make([]string, len(c.Paths))
	for i, p := range c.Paths {
		if names[i] = p; !printable(p) {
			names[i] = strconv.Quote(p)
		}
	}
	return fmt.Sprintf("the folder and a push to %s both changed %s: make the folder's version agree with the pushed one and save again",
		branch, strings.Join(names, ", "))
}

// printable reports whether a name can be written as it is.
func printable(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) })
}

// Is makes errors.Is(err, taubyte.ErrConflict) hold.
func (c *Conflict) Is(target error) bool { return target == taubyte.ErrConflict }

// Open prepares to deploy dir to a git remote. state is a folder of the caller's
// in which Open keeps its own repository; it may exist from an earlier time. git
// must be installed: without it Open gives ErrUnavailable.
//
// A user and password in the remote's URL are kept out of what git is called with, where
// everybody on the machine could read them, and out of the repository.
func Open(ctx context.Context, dir, state, remote string) (*Folder, error) {
	if _, err := exec.LookPath("git"); err != nil {
		return nil, fmt.Errorf("%w: git is not installed, or not in PATH: %w", taubyte.ErrUnavailable, err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", dir, err)
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("folder %s: %w", dir, err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%w: %s is not a folder", taubyte.ErrInvalid, dir)
	}
	f := &Folder{dir: dir, git: filepath.Join(state, "folder.git"), remote: remote}
	if u, err := url.Parse(remote); err == nil && u.User != nil && (u.Scheme == "http" || u.Scheme == "https") {
		password, _ := u.User.Password()
		f.header = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
		u.User = nil
		f.remote = u.String()
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("state of folder %s: %w", dir, err)
	}
	if _, err := f.run(ctx, "init", "--quiet", "--bare", "--template="); err != nil {
		return nil, err
	}
	return f, nil
}

// Push deploys the folder as it is now. It returns the commit that the branch is
// at and whether this call put it there: a folder that did not change pushes
// nothing. A *Conflict means that somebody else's push has to be settled first.
func (f *Folder) Push(ctx context.Context) (commit taubyte.Commit, pushed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	snapshot, err := f.snapshot(ctx)
	if err != nil {
		return "", false, err
	}
	// Somebody may push between our fetch and our push: then git refuses ours,
	// and it is merged with theirs.
	for try := 1; ; try++ {
		commit, pushed, err = f.publish(ctx, snapshot)
		if err == nil || try == 3 || !errors.Is(err, errMoved) {
			return commit, pushed, err
		}
	}
}

// snapshot commits the folder's present state to the chain and returns its
// newest commit.
func (f *Folder) snapshot(ctx context.Context) (string, error) {
	tree, err := f.tree(ctx)
	if err != nil {
		return "", err
	}
	last, err := f.run(ctx, "rev-parse", "--quiet", "--verify", snapshots)
	if err != nil {
		last = ""
	}
	args := []string{"commit-tree", "-m", "Save of the folder " + filepath.Base(f.dir), tree}
	if last != "" {
		if lastTree, err := f.run(ctx, "rev-parse", last+"^{tree}"); err != nil || lastTree == tree {
			return last, err
		}
		args = append(args, "-p", last)
	}
	snapshot, err := f.run(ctx, args...)
	if err != nil {
		return "", err
	}
	_, err = f.run(ctx, "update-ref", snapshots, snapshot, last)
	return snapshot, err
}

// errMoved: the remote branch is no longer where it was when we looked.
var errMoved = errors.New("the branch moved")

// tree writes the folder's present state as a tree. Clones that lie in the folder, as those of
// tau's repositories do, are part of it with their files: git would note no more of them than
// which commit they are at.
func (f *Folder) tree(ctx context.Context) (string, error) {
	clones, err := f.clones()
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", f.dir, err)
	}
	add, literal := []string{"add", "--all", "."}, []string{}
	for _, name := range clones {
		add = append(add, ":(exclude,literal)"+name)
		literal = append(literal, ":(literal)"+name)
	}
	if _, err := f.run(ctx, add...); err != nil {
		return "", fmt.Errorf("reading %s: %w", f.dir, err)
	}
	if len(clones) == 0 {
		return f.run(ctx, "write-tree")
	}
	if _, err := f.run(ctx, append([]string{"rm", "-r", "--cached", "--quiet", "--ignore-unmatch", "--"}, literal...)...); err != nil {
		return "", err
	}
	for _, name := range clones {
		inner := &Folder{dir: filepath.Join(f.dir, name), git: f.git, index: filepath.Join(f.git, "index-"+hex.EncodeToString([]byte(name)))}
		if _, err := inner.run(ctx, "add", "--all", "."); err != nil {
			return "", fmt.Errorf("reading %s: %w", inner.dir, err)
		}
		tree, err := inner.run(ctx, "write-tree")
		if err != nil {
			return "", err
		}
		if _, err := f.run(ctx, "read-tree", "--prefix="+name+"/", tree); err != nil {
			return "", err
		}
	}
	return f.run(ctx, "write-tree")
}

// clones are the folders in this one that are git repositories.
func (f *Folder) clones() (names []string, err error) {
	entries, err := os.ReadDir(f.dir)
	for _, e := range entries {
		if !e.IsDir() || e.Name() == ".git" {
			continue
		}
		if _, err := os.Lstat(filepath.Join(f.dir, e.Name(), ".git")); err == nil {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// publish brings the snapshot into the remote branch: as it is where the branch
// only has the folder's own states, by a merge otherwise.
func (f *Folder) publish(ctx context.Context, snapshot string) (taubyte.Commit, bool, error) {
	head, err := f.fetch(ctx)
	if err != nil {
		return "", false, err
	}
	commit := snapshot
	if head != "" {
		if in, err := f.contains(ctx, head, snapshot); err != nil || in {
			return taubyte.Commit(head), false, err
		}
		ahead, err := f.contains(ctx, snapshot, head)
		if err != nil {
			return "", false, err
		}
		if !ahead {
			if commit, err = f.merge(ctx, head, snapshot); err != nil {
				return "", false, err
			}
		}
	}
	_, err = f.run(ctx, "push", "--quiet", "--porcelain",
		"--force-with-lease=refs/heads/"+branch+":"+head, f.remote, commit+":refs/heads/"+branch)
	if err != nil {
		if now, ferr := f.fetch(ctx); ferr == nil && now != head {
			return "", false, errMoved
		}
		return "", false, err
	}
	return taubyte.Commit(commit), true, nil
}

// fetch returns the commit that the remote branch is at, with its history here,
// or "" where there is no such branch.
func (f *Folder) fetch(ctx context.Context) (string, error) {
	line, err := f.run(ctx, "ls-remote", f.remote, "refs/heads/"+branch)
	if err != nil || line == "" {
		return "", err
	}
	head, _, _ := strings.Cut(line, "\t")
	if _, err := f.run(ctx, "cat-file", "-e", head+"^{commit}"); err == nil {
		return head, nil
	}
	_, err = f.run(ctx, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", f.remote, head)
	return head, err
}

// contains reports whether commit has ancestor in its history.
func (f *Folder) contains(ctx context.Context, commit, ancestor string) (bool, error) {
	_, err := f.run(ctx, "merge-base", "--is-ancestor", ancestor, commit)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// merge joins the folder's state with what others pushed.
func (f *Folder) merge(ctx context.Context, head, snapshot string) (string, error) {
	// With -z names come as they are, each with a zero byte at its end.
	out, err := f.run(ctx, "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", "--allow-unrelated-histories", head, snapshot)
	tree, rest, _ := strings.Cut(out, "\x00")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return "", &Conflict{Paths: strings.FieldsFunc(rest, func(c rune) bool { return c == 0 })}
	}
	if err != nil {
		return "", err
	}
	return f.run(ctx, "commit-tree", "-m", "Merge the folder "+filepath.Base(f.dir), "-p", head, "-p", snapshot, tree)
}

// run runs git on the state repository with the folder as its work tree, whatever
// the caller's environment and configuration say, and returns its trimmed output,
// also where it fails.
func (f *Folder) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = f.dir
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "GIT_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	if args[0] != "init" { // which would not make a bare one with it
		cmd.Env = append(cmd.Env, "GIT_WORK_TREE="+f.dir)
	}
	cmd.Env = append(cmd.Env, "GIT_DIR="+f.git,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=taubyte", "GIT_AUTHOR_EMAIL=taubyte@localhost",
		"GIT_COMMITTER_NAME=taubyte", "GIT_COMMITTER_EMAIL=taubyte@localhost",
		"LC_ALL=C",
	)
	if f.index != "" {
		cmd.Env = append(cmd.Env, "GIT_INDEX_FILE="+f.index)
	}
	if f.header != "" {
		cmd.Env = append(cmd.Env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http."+f.remote+".extraHeader", "GIT_CONFIG_VALUE_0="+f.header)
	}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	text := strings.TrimSpace(out.String())
	if err != nil {
		if ctx.Err() != nil {
			return text, ctx.Err()
		}
		said := strings.TrimSpace(errOut.String())
		if said == "" {
			said = err.Error()
		}
		return text, fmt.Errorf("git %s: %s: %w", args[0], said, err)
	}
	return text, nil
}
