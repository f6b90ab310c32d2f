package dev_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/dev"
	"github.com/taubyte/taubyte/internal/testnet"
)

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@localhost"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "git %v: %s", args, out)
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(b)
}

// setUp makes a folder with a file in it, a remote, and what deploys the one to
// the other.
func setUp(t *testing.T) (dir, remote string, open func() *dev.Folder) {
	t.Helper()
	dir, remote = t.TempDir(), filepath.Join(t.TempDir(), "remote.git")
	git(t, t.TempDir(), "init", "-q", "--bare", "-b", "main", remote)
	state := t.TempDir()
	write(t, dir, "a.txt", "one\n")
	return dir, remote, func() *dev.Folder {
		f, err := dev.Open(t.Context(), dir, state, remote)
		require.NoError(t, err)
		return f
	}
}

func TestPushesOnlyWhatChanged(t *testing.T) {
	dir, remote, open := setUp(t)
	f := open()
	first, pushed, err := f.Push(t.Context())
	require.NoError(t, err)
	require.True(t, pushed)
	require.Equal(t, string(first), git(t, remote, "rev-parse", "main"))

	same, pushed, err := open().Push(t.Context()) // as after a restart
	require.NoError(t, err)
	require.False(t, pushed)
	require.Equal(t, first, same)

	write(t, dir, "sub/b.txt", "two\n")
	require.NoError(t, os.Remove(filepath.Join(dir, "a.txt")))
	second, pushed, err := f.Push(t.Context())
	require.NoError(t, err)
	require.True(t, pushed)
	require.Equal(t, "sub/b.txt", git(t, remote, "ls-tree", "-r", "--name-only", string(second)))
}

func TestAFolderInsideAnotherRepositoryLeavesItAlone(t *testing.T) {
	_, remote, _ := setUp(t)
	outer := t.TempDir()
	git(t, outer, "init", "-q", "-b", "main")
	write(t, outer, ".gitignore", "*.log\n")
	write(t, outer, "project/x.txt", "x")
	write(t, outer, "project/y.log", "ignored by the folder's own rules only")
	f, err := dev.Open(t.Context(), filepath.Join(outer, "project"), t.TempDir(), remote)
	require.NoError(t, err)
	_, pushed, err := f.Push(t.Context())
	require.NoError(t, err)
	require.True(t, pushed)
	require.Equal(t, "x.txt\ny.log", git(t, remote, "ls-tree", "-r", "--name-only", "main"))
	require.Equal(t, "?? .gitignore\n?? project/", git(t, outer, "status", "--porcelain"))
}

func TestOthersPushesAreMerged(t *testing.T) {
	dir, remote, open := setUp(t)
	f := open()
	_, _, err := f.Push(t.Context())
	require.NoError(t, err)

	clone := filepath.Join(t.TempDir(), "clone")
	git(t, t.TempDir(), "clone", "-q", remote, clone)
	write(t, clone, "theirs.txt", "theirs\n")
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-qm", "theirs")
	git(t, clone, "push", "-q", "origin", "main")

	write(t, dir, "ours.txt", "ours\n")
	_, pushed, err := f.Push(t.Context())
	require.NoError(t, err)
	require.True(t, pushed)
	git(t, clone, "pull", "-q")
	require.Equal(t, "ours\n", read(t, clone, "ours.txt"))
	require.Equal(t, "theirs\n", read(t, clone, "theirs.txt"), "a save does not undo a push")

	write(t, clone, "a.txt", "their one\n")
	git(t, clone, "commit", "-qam", "theirs again")
	git(t, clone, "push", "-q", "origin", "main")
	write(t, dir, "a.txt", "our one\n")
	before := git(t, remote, "rev-parse", "main")
	_, _, err = f.Push(t.Context())
	var conflict *dev.Conflict
	require.ErrorAs(t, err, &conflict)
	require.ErrorIs(t, err, taubyte.ErrConflict)
	require.Equal(t, []string{"a.txt"}, conflict.Paths)
	require.Equal(t, before, git(t, remote, "rev-parse", "main"))

	write(t, dir, "a.txt", "their one\n")
	_, _, err = f.Push(t.Context())
	require.NoError(t, err, "settled")
}

func TestAConflictGivesNamesAsTheyAre(t *testing.T) {
	dir, remote, open := setUp(t)
	f := open()
	_, _, err := f.Push(t.Context())
	require.NoError(t, err)
	names := []string{`a "quoted" page.html`, "a back\\slash.txt", "größe und 名前.html", "line\nbreak.txt", "my page.html", "tab\there.txt", " around "}
	slices.Sort(names)
	clone := filepath.Join(t.TempDir(), "clone")
	git(t, t.TempDir(), "clone", "-q", remote, clone)
	for _, name := range names {
		write(t, clone, "web/"+name, "theirs\n")
		write(t, dir, "web/"+name, "ours\n")
	}
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-qm", "theirs")
	git(t, clone, "push", "-q", "origin", "main")
	_, _, err = f.Push(t.Context())
	var conflict *dev.Conflict
	require.ErrorAs(t, err, &conflict)
	slices.Sort(conflict.Paths)
	for i := range names {
		require.Equal(t, "web/"+names[i], conflict.Paths[i])
	}
	require.Len(t, conflict.Paths, len(names))
	for _, shown := range []string{`web/a "quoted" page.html`, "web/größe und 名前.html", `"web/line\nbreak.txt"`, "web/my page.html"} {
		require.Contains(t, err.Error(), shown)
	}
}

func TestWatchSeesEverySave(t *testing.T) {
	testnet.CheckLeaks(t)
	dir, remote, open := setUp(t)
	f := open()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	heads := make(chan string, 64)
	go func() {
		done <- f.Watch(ctx, func() {
			if c, pushed, err := f.Push(ctx); err == nil && pushed {
				heads <- string(c)
			}
		})
	}()
	for _, step := range []struct{ name, text string }{
		{"a.txt", "changed\n"}, {"new/deep/b.txt", "b\n"}, {"new/deep/b.txt", "c\n"},
	} {
		// The watcher may not have begun: save until it is seen.
		testnet.Eventually(t, func() bool {
			write(t, dir, step.name, step.text)
			select {
			case head := <-heads:
				return git(t, remote, "show", head+":"+step.name)+"\n" == step.text
			case <-time.After(500 * time.Millisecond):
				return false
			}
		}, "%s pushed", step.name)
	}
	cancel()
	require.NoError(t, <-done)
}

func TestOpenRefusesWhatIsNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := dev.Open(t.Context(), file, t.TempDir(), "x")
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	_, err = dev.Open(t.Context(), filepath.Join(file, "none"), t.TempDir(), "x")
	require.Error(t, err)
	t.Setenv("PATH", "")
	_, err = dev.Open(t.Context(), t.TempDir(), t.TempDir(), "x")
	require.ErrorIs(t, err, taubyte.ErrUnavailable)
}

// Clones in the folder, as of tau's repositories, are deployed with their files.
func TestClonesSideBySide(t *testing.T) {
	dir, remote, open := setUp(t)
	for _, name := range []string{"tb_shop", "tb_website_pages"} {
		clone := filepath.Join(dir, name)
		require.NoError(t, os.Mkdir(clone, 0o755))
		git(t, clone, "init", "-q", "-b", "main")
		write(t, clone, "file.txt", name)
		git(t, clone, "add", ".")
		git(t, clone, "commit", "-qm", "first")
		write(t, clone, "sub/new.txt", "not committed")
	}
	f := open()
	commit, pushed, err := f.Push(t.Context())
	require.NoError(t, err)
	require.True(t, pushed)
	require.Equal(t, "a.txt\ntb_shop/file.txt\ntb_shop/sub/new.txt\ntb_website_pages/file.txt\ntb_website_pages/sub/new.txt",
		git(t, remote, "ls-tree", "-r", "--name-only", string(commit)))
	_, pushed, err = f.Push(t.Context())
	require.NoError(t, err)
	require.False(t, pushed)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "tb_website_pages", "sub")))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "tb_shop")))
	_, pushed, err = f.Push(t.Context())
	require.NoError(t, err)
	require.True(t, pushed)
	require.Equal(t, "a.txt\ntb_website_pages/file.txt", git(t, remote, "ls-tree", "-r", "--name-only", "main"))
}
