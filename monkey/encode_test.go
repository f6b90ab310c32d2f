package monkey_test

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/andybalholm/brotli"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/unixfs"
)

// lines is text of so many lines that compresses, but not to nothing.
func lines(n int) string {
	r := rand.New(rand.NewSource(int64(n)))
	var b strings.Builder
	for range n {
		fmt.Fprintf(&b, "function f%d() { return %d + this.value }\n", r.Intn(1000), r.Int())
	}
	return b.String()
}

func noiseOf(n int) string {
	b := make([]byte, n)
	rand.New(rand.NewSource(int64(n))).Read(b)
	return string(b)
}

func decoded(t *testing.T, suffix, text string) string {
	t.Helper()
	var r io.Reader
	var err error
	switch suffix {
	case ".br":
		r = brotli.NewReader(strings.NewReader(text))
	case ".zst":
		r, err = zstd.NewReader(strings.NewReader(text), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	case ".gz":
		r, err = gzip.NewReader(strings.NewReader(text))
	}
	require.NoError(t, err)
	raw, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(raw)
}

func TestEncodings(t *testing.T) {
	pages := map[string]string{
		"index.html":         "<p>hello", // too small
		"app.js":             lines(300),
		"css/deep/style.css": lines(3000), // more than a sample
		"noise.txt":          noiseOf(200 << 10),
		"short.txt":          noiseOf(2 << 10),
		"photo.jpg":          lines(100), // by its name
		"own.js":             lines(200),
		"own.js.br":          "the author's",
		"folder.js":          lines(150),
		"folder.js.gz/x.txt": "a folder in the way",
	}
	files := project(shFunction)
	maps.DeleteFunc(files, func(name, _ string) bool { return strings.HasPrefix(name, "websites/") })
	maps.Copy(files, under("websites/site", pages))
	tree := fstest.MapFS{}
	for name, text := range pages {
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}

	build := func(b *bench, files map[string]string) (cid.Cid, cid.Cid) {
		t.Helper()
		b.succeed(t, b.push(repo, auth.KindProject, files))
		site, ok := b.current(t).Asset(websiteID)
		require.True(t, ok)
		encodings, _ := b.current(t).Encoding(websiteID)
		return site, encodings
	}
	b := newBench(t)
	b.start(t)
	site, encodings := build(b, files)

	// The author's tree is what it is without them.
	bare, err := unixfs.AddFS(t.Context(), blockservice.New(blockstore.NewBlockstore(taubyte.MemoryDatastore()), nil), tree)
	require.NoError(t, err)
	require.Equal(t, bare, site)

	require.True(t, encodings.Defined())
	require.Equal(t, "app.js.br app.js.gz app.js.zst css/deep/style.css.br css/deep/style.css.gz css/deep/style.css.zst", b.list(t, encodings, pages))
	for _, name := range []string{"app.js", "css/deep/style.css"} {
		for _, suffix := range []string{".br", ".zst", ".gz"} {
			text := b.read(t, encodings, name+suffix)
			require.Less(t, len(text), len(pages[name])*9/10)
			require.Equal(t, pages[name], decoded(t, suffix, text))
		}
	}
	item, err := b.keep.Item(t.Context(), encodings)
	require.NoError(t, err)
	require.Len(t, item.Claims, 1, "it is kept for the project, and counted")
	require.Equal(t, projectID, item.Claims[0].Project)
	all, err := b.tns.Assets(t.Context(), projectID)
	require.NoError(t, err)
	require.Contains(t, all, encodings, "it goes when the deployment does")

	// Another worker makes the same, whatever it compresses before, and so does the next
	// build of what has not changed.
	other := newBench(t)
	other.start(t)
	before := maps.Clone(files)
	before["websites/site/first.css"] = lines(30)
	_, with := build(other, before)
	for _, name := range []string{"app.js.br", "app.js.gz", "app.js.zst", "css/deep/style.css.br", "css/deep/style.css.gz", "css/deep/style.css.zst"} {
		require.Equal(t, b.read(t, encodings, name), other.read(t, with, name), name)
	}
	_, same := build(other, files)
	require.Equal(t, encodings, same)
	changed := maps.Clone(files)
	changed["websites/site/index.html"] = "<p>changed"
	later, same := build(b, changed)
	require.NotEqual(t, site, later)
	require.Equal(t, encodings, same)

	// What is taken from an earlier build is what it left.
	changed["websites/site/more.css"] = lines(100)
	_, more := build(b, changed)
	require.Equal(t, b.read(t, encodings, "app.js.br"), b.read(t, more, "app.js.br"))
	require.Equal(t, changed["websites/site/more.css"], decoded(t, ".gz", b.read(t, more, "more.css.gz")))

	changed["config/websites/site.yaml"] += "precompress: false\n"
	_, none := build(b, changed)
	require.False(t, none.Defined())
}

// list names the encodings that there are of files.
func (b *bench) list(t *testing.T, root cid.Cid, files map[string]string) string {
	t.Helper()
	tree := fstest.MapFS{}
	for name := range files {
		for _, suffix := range []string{".br", ".gz", ".zst"} {
			if f, err := unixfs.Open(t.Context(), b.node.Blocks(), root, name+suffix); err == nil {
				require.NoError(t, f.Close())
				tree[name+suffix] = &fstest.MapFile{}
			}
		}
	}
	var all []string
	require.NoError(t, fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, name)
		}
		return err
	}))
	return strings.Join(all, " ")
}
