package localgit_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/localgit"
	"github.com/taubyte/taubyte/internal/testnet"
)

// bench is a server, and what it told of pushes.
type bench struct {
	t      *testing.T
	dir    string
	server *localgit.Server
	url    string

	mu     sync.Mutex
	pushes []auth.Push
	answer error
}

func newBench(t *testing.T, opts ...localgit.Option) *bench {
	node := testnet.New(t).Node()
	b := &bench{t: t, dir: t.TempDir()}
	s, err := localgit.New(t.Context(), node, node.Store, b.dir, append([]localgit.Option{
		localgit.WithLogger(testnet.Logger(t)),
		localgit.WithAccess(access()),
		localgit.WithOnPush(func(_ context.Context, name string, p auth.Push) (string, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.pushes = append(b.pushes, p)
			return "job 42 queued", b.answer
		}),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	b.server, b.url = s, web.URL
	return b
}

func (b *bench) remote(password, name string) string {
	return strings.Replace(b.url, "http://", "http://x:"+password+"@", 1) + "/" + name + ".git"
}

func (b *bench) told() []auth.Push {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]auth.Push(nil), b.pushes...)
}

func tryGit(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := tryGit(t, dir, args...)
	require.NoError(t, err, "git %v: %s", args, out)
	return strings.TrimSpace(out)
}

// work makes a clone with one commit that has the files.
func work(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	commit(t, dir, files)
	return dir
}

func commit(t *testing.T, dir string, files map[string]string) taubyte.Commit {
	t.Helper()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "--allow-empty", "-m", "change")
	return taubyte.Commit(git(t, dir, "rev-parse", "HEAD"))
}

func TestPushCloneFetchAndDelete(t *testing.T) {
	b := newBench(t)
	dir := work(t, map[string]string{"a.txt": "one"})
	first := taubyte.Commit(git(t, dir, "rev-parse", "HEAD"))
	out := git(t, dir, "push", b.remote("writer", "shop"), "main")
	require.Contains(t, out, "remote: taubyte: job 42 queued")
	require.Equal(t, []auth.Push{{Repository: "local/shop", Branch: "main", Commit: first}}, b.told())

	clone := filepath.Join(t.TempDir(), "clone")
	git(t, t.TempDir(), "-c", "protocol.version=2", "clone", "-q", b.remote("reader", "shop"), clone)
	text, err := os.ReadFile(filepath.Join(clone, "a.txt"))
	require.NoError(t, err)
	require.Equal(t, "one", string(text))

	second := commit(t, dir, map[string]string{"a.txt": "two", "dir/b.txt": "b"})
	git(t, dir, "push", "-q", b.remote("writer", "shop"), "main", "main:feature/x")
	git(t, clone, "fetch", "-q", "origin")
	require.Equal(t, string(second), git(t, clone, "rev-parse", "origin/main"))
	heads, err := b.server.Heads(t.Context(), auth.Remote{ID: "shop"})
	require.NoError(t, err)
	require.Equal(t, map[taubyte.Branch]taubyte.Commit{"main": second, "feature/x": second}, heads)

	git(t, dir, "push", "-q", b.remote("writer", "shop"), ":feature/x")
	told := b.told()
	require.Equal(t, auth.Push{Repository: "local/shop", Branch: "feature/x"}, told[len(told)-1])

	var archive bytes.Buffer
	require.NoError(t, b.server.Source(t.Context(), auth.Remote{ID: "shop"}, first, &archive))
	files := map[string]string{}
	for r := tar.NewReader(&archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if h.Typeflag == tar.TypeReg {
			text, err := io.ReadAll(r)
			require.NoError(t, err)
			files[h.Name] = string(text)
		}
	}
	require.Equal(t, map[string]string{"a.txt": "one"}, files, "the exact commit, not the head")
	require.ErrorIs(t, b.server.Source(t.Context(), auth.Remote{ID: "shop"}, taubyte.Commit(strings.Repeat("0", 40)), io.Discard), taubyte.ErrNotFound)
	require.ErrorIs(t, b.server.Source(t.Context(), auth.Remote{ID: "shop"}, "--help", io.Discard), taubyte.ErrInvalid)
	require.ErrorIs(t, b.server.Source(t.Context(), auth.Remote{ID: "none"}, first, io.Discard), taubyte.ErrNotFound)
	one, err := b.server.File(t.Context(), "shop", second, "dir/b.txt", 10)
	require.NoError(t, err)
	require.Equal(t, "b", string(one))
}

func TestManyObjectsOneWay(t *testing.T) {
	b := newBench(t)
	files := map[string]string{}
	for i := range 400 { // more than git sends uncompressed and in one buffer
		files[fmt.Sprintf("d%d/f%d.txt", i%20, i)] = strings.Repeat(fmt.Sprint("line ", i, "\n"), 200)
	}
	dir := work(t, files)
	git(t, dir, "push", "-q", b.remote("writer", "big"), "main")
	for i := range 40 { // a fetch that negotiates: its request is gzipped
		commit(t, dir, map[string]string{"n.txt": fmt.Sprint(i)})
	}
	clone := filepath.Join(t.TempDir(), "clone")
	git(t, t.TempDir(), "clone", "-q", b.remote("reader", "big"), clone)
	git(t, dir, "push", "-q", "--progress", b.remote("writer", "big"), "main")
	for i := range 40 {
		commit(t, clone, map[string]string{"mine.txt": fmt.Sprint(i)})
	}
	git(t, clone, "fetch", "-q", "origin")
	require.Equal(t, git(t, dir, "rev-parse", "HEAD"), git(t, clone, "rev-parse", "origin/main"))
}

func TestACloneHasTheBranchThatWasPushedFirst(t *testing.T) {
	b := newBench(t)
	for i, branch := range []string{"master", "trunk", "feature/x", "main"} {
		dir := work(t, map[string]string{"a.txt": branch})
		remote := b.remote("writer", fmt.Sprint("shop", i))
		git(t, dir, "push", "-q", remote, "main:"+branch)
		clone := filepath.Join(t.TempDir(), "clone")
		git(t, t.TempDir(), "clone", "-q", remote, clone)
		require.Equal(t, branch, git(t, clone, "branch", "--show-current"))
		require.FileExists(t, filepath.Join(clone, "a.txt"))
	}
}

func TestARepositoryIsFoundWithoutTheSuffix(t *testing.T) {
	b := newBench(t)
	dir := work(t, map[string]string{"a.txt": "one"})
	bare := strings.TrimSuffix(b.remote("writer", "shop"), ".git")
	git(t, dir, "push", "-q", bare, "main")
	require.Contains(t, git(t, dir, "ls-remote", bare), "refs/heads/main")
	require.Contains(t, git(t, dir, "ls-remote", bare+"/"), "refs/heads/main")
	clone := filepath.Join(t.TempDir(), "clone")
	git(t, t.TempDir(), "clone", "-q", bare, clone)
	require.FileExists(t, filepath.Join(clone, "a.txt"))
	require.Equal(t, git(t, dir, "ls-remote", bare), git(t, dir, "ls-remote", b.remote("reader", "shop")), "it is the same one")
	_, err := tryGit(t, dir, "push", "-q", strings.TrimSuffix(b.remote("reader", "shop"), ".git"), "main:other")
	require.Error(t, err)
}

// Attributes for release archives are none of a checkout's.
func TestASourceIsWhatACheckoutIs(t *testing.T) {
	b := newBench(t)
	dir := work(t, map[string]string{
		".gitattributes":      "[attr]internal export-ignore\n*.map export-ignore\ndrafts export-ignore\nversion.txt export-subst\n*.bat text eol=crlf\nid.txt ident\nnotes/* internal\n",
		"app.js.map":          "{}",
		"drafts/a.html":       "draft",
		"notes/b.txt":         "note",
		"version.txt":         "$Format:%H$",
		"run.bat":             "echo\n",
		"id.txt":              "$Id$\n",
		"web/.gitattributes":  "secret.html export-ignore\n/deep/ export-ignore\n",
		"web/secret.html":     "s",
		"web/deep/more/c.txt": "c",
	})
	commit := taubyte.Commit(git(t, dir, "rev-parse", "HEAD"))
	git(t, dir, "push", "-q", b.remote("writer", "shop"), "main")
	clone := filepath.Join(t.TempDir(), "clone")
	git(t, t.TempDir(), "clone", "-q", b.remote("reader", "shop"), clone)
	require.NoError(t, os.RemoveAll(filepath.Join(b.dir, "shop.git", "info"))) // a repository from before
	for range 2 {
		var out bytes.Buffer
		require.NoError(t, b.server.Source(t.Context(), auth.Remote{ID: "shop"}, commit, &out))
		got := map[string]string{}
		archive := tar.NewReader(&out)
		for h, err := archive.Next(); err == nil; h, err = archive.Next() {
			if h.Typeflag == tar.TypeReg {
				text, err := io.ReadAll(archive)
				require.NoError(t, err)
				got[h.Name] = string(text)
			}
		}
		want := map[string]string{}
		for _, name := range strings.Split(git(t, clone, "ls-files"), "\n") {
			text, err := os.ReadFile(filepath.Join(clone, name))
			require.NoError(t, err)
			want[name] = string(text)
		}
		require.Equal(t, want, got)
		require.Equal(t, "$Format:%H$", got["version.txt"])
		require.Equal(t, "echo\r\n", got["run.bat"])
	}
}

func TestWhoMay(t *testing.T) {
	b := newBench(t)
	dir := work(t, map[string]string{"a": "a"})
	for _, remote := range []string{b.remote("wrong", "shop"), b.remote("reader", "shop"), b.url + "/shop.git"} {
		_, err := tryGit(t, dir, "push", remote, "main")
		require.Error(t, err)
	}
	require.Empty(t, b.told())
	_, err := b.server.Heads(t.Context(), auth.Remote{ID: "shop"})
	require.ErrorIs(t, err, taubyte.ErrNotFound, "a refused push makes no repository")
	_, err = tryGit(t, dir, "clone", b.remote("reader", "shop"), "x")
	require.Error(t, err)

	for _, path := range []string{
		"/../etc.git/info/refs?service=git-upload-pack", "/a/b.git/info/refs?service=git-upload-pack", "/.git/info/refs?service=git-upload-pack",
		"/-x.git/info/refs?service=git-upload-pack", "/shop.git/HEAD", "/shop.git/info/refs", "/shop.git/info/refs?service=git-upload-archive",
	} {
		req := httptest.NewRequest(http.MethodGet, b.url+"/", nil)
		req.URL.Path, req.URL.RawQuery, _ = strings.Cut(path, "?")
		req.SetBasicAuth("x", "writer")
		w := httptest.NewRecorder()
		b.server.ServeHTTP(w, req)
		require.Equal(t, http.StatusNotFound, w.Code, path)
	}
	entries, err := os.ReadDir(b.dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestAPushIsNotLostToItsListener(t *testing.T) {
	b := newBench(t)
	b.answer = errors.New("patrick is away")
	dir := work(t, map[string]string{"a": "a"})
	out := git(t, dir, "push", b.remote("writer", "shop"), "main")
	require.Contains(t, out, "remote: taubyte: patrick is away")
	heads, err := b.server.Heads(t.Context(), auth.Remote{ID: "shop"})
	require.NoError(t, err)
	require.Len(t, heads, 1)
}

func TestAPushThatIsCutChangesNothing(t *testing.T) {
	b := newBench(t, localgit.WithMaxPush(64<<10))
	dir := work(t, map[string]string{"a": "a"})
	git(t, dir, "push", "-q", b.remote("writer", "shop"), "main")
	before, err := b.server.Heads(t.Context(), auth.Remote{ID: "shop"})
	require.NoError(t, err)

	noise := make([]byte, 0, 512<<10)
	for x := uint32(1); len(noise) < cap(noise); x = x*1664525 + 1013904223 {
		noise = append(noise, byte(x>>24))
	}
	commit(t, dir, map[string]string{"noise": string(noise)})
	_, err = tryGit(t, dir, "push", "-q", b.remote("writer", "shop"), "main")
	require.Error(t, err, "beyond the limit")
	after, err := b.server.Heads(t.Context(), auth.Remote{ID: "shop"})
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Len(t, b.told(), 1)

	// A client that goes away in the middle of its pack.
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+"/shop.git/git-receive-pack", r)
	require.NoError(t, err)
	req.SetBasicAuth("x", "writer")
	ended := make(chan error, 1)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	go func() {
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		ended <- err
	}()
	line := string(before["main"]) + " " + strings.Repeat("1", 40) + " refs/heads/main\x00report-status"
	_, err = fmt.Fprintf(w, "%04x%s0000PACK\x00\x00\x00\x02\x00\x00\x00\x05", len(line)+4, line)
	require.NoError(t, err)
	cancel()
	_ = w.CloseWithError(context.Canceled)
	<-ended
	after, err = b.server.Heads(t.Context(), auth.Remote{ID: "shop"})
	require.NoError(t, err)
	require.Equal(t, before, after)
}

func TestNothingOfThePushedRuns(t *testing.T) {
	b := newBench(t)
	mark := filepath.Join(t.TempDir(), "ran")
	hook := "#!/bin/sh\ntouch " + mark + "\n"
	dir := work(t, map[string]string{"hooks/post-receive": hook, "hooks/pre-receive": hook, "config": "[core]\n\thooksPath = hooks\n"})
	require.NoError(t, b.server.Create(t.Context(), "shop"))
	// Not even a hook that stands in the repository.
	hooks := filepath.Join(b.dir, "shop.git", "hooks")
	require.NoError(t, os.MkdirAll(hooks, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(hooks, "post-receive"), []byte(hook), 0o755))
	git(t, dir, "push", "-q", b.remote("writer", "shop"), "main")
	require.NoFileExists(t, mark)
}

func TestPushesSideBySide(t *testing.T) {
	b := newBench(t)
	dir := work(t, map[string]string{"a": "a"})
	git(t, dir, "push", "-q", b.remote("writer", "shop"), "main")
	var wg sync.WaitGroup
	for i := range 6 {
		clone := filepath.Join(t.TempDir(), "c")
		git(t, t.TempDir(), "clone", "-q", b.remote("reader", "shop"), clone)
		commit(t, clone, map[string]string{fmt.Sprint(i): "x"})
		wg.Go(func() {
			out, err := tryGit(t, clone, "push", "-q", b.remote("writer", "shop"), fmt.Sprintf("HEAD:b%d", i))
			if err != nil {
				t.Errorf("push %d: %v: %s", i, err, out)
			}
		})
	}
	wg.Wait()
	seen := map[taubyte.Branch]int{}
	for _, p := range b.told() {
		seen[p.Branch]++
	}
	require.Len(t, seen, 7)
	for branch, n := range seen {
		require.Equal(t, 1, n, "branch %s is told once", branch)
	}
}

// A few objects that stand for a tree without end are refused before they are read.
func TestSourceOfATreeWithoutEnd(t *testing.T) {
	b := newBench(t)
	dir := work(t, map[string]string{"a.txt": "one"})
	megabyte := filepath.Join(t.TempDir(), "blob")
	require.NoError(t, os.WriteFile(megabyte, make([]byte, 1<<20), 0o600))
	blob := git(t, dir, "hash-object", "-w", megabyte)
	small := git(t, dir, "rev-parse", "HEAD:a.txt")
	// nested is a commit of folders that each hold the same one, width times.
	nested := func(levels, width int, leaf string) taubyte.Commit {
		object, kind, mode := leaf, "blob", "100644"
		for range levels {
			var list strings.Builder
			for i := range width {
				fmt.Fprintf(&list, "%s %s %s\tname-%d\n", mode, kind, object, i)
			}
			file := filepath.Join(t.TempDir(), "list")
			require.NoError(t, os.WriteFile(file, []byte(list.String()), 0o600))
			out, err := exec.Command("sh", "-c", "git -C '"+dir+"' mktree <'"+file+"'").CombinedOutput()
			require.NoError(t, err, "%s", out)
			object, kind, mode = strings.TrimSpace(string(out)), "tree", "040000"
		}
		return taubyte.Commit(git(t, dir, "commit-tree", "-m", "nested", object))
	}
	for name, c := range map[string]struct {
		commit taubyte.Commit
		want   string
	}{
		"entries": {nested(9, 10, small), "more than 200000 files and folders"},
		"bytes":   {nested(4, 8, blob), "more than 2147483648 bytes"},
		"depth":   {nested(140, 1, small), "nested more than 64 deep"},
	} {
		git(t, dir, "push", "-q", b.remote("writer", "shop"), string(c.commit)+":refs/heads/"+name)
		var got bytes.Buffer
		began := time.Now()
		err := b.server.Source(t.Context(), auth.Remote{ID: "shop"}, c.commit, &got)
		require.ErrorIs(t, err, taubyte.ErrTooLarge, name)
		require.ErrorContains(t, err, c.want)
		require.Zero(t, got.Len(), "nothing of it is given out")
		t.Logf("%s: refused after %s", name, time.Since(began))
	}
	wide := nested(3, 20, small)
	git(t, dir, "push", "-q", b.remote("writer", "shop"), string(wide)+":refs/heads/wide")
	require.NoError(t, b.server.Source(t.Context(), auth.Remote{ID: "shop"}, wide, io.Discard))
}
