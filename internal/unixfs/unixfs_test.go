package unixfs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/merkledag"
	ft "github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	ufsio "github.com/ipfs/boxo/ipld/unixfs/io"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/internal/unixfs"
)

func store(t *testing.T) blockservice.BlockService {
	testnet.CheckLeaks(t)
	return blockservice.New(blockstore.NewBlockstore(taubyte.MemoryDatastore()), nil)
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(int64(n))).Read(b)
	return b
}

func read(t *testing.T, bs blockservice.BlockService, root cid.Cid, name string) []byte {
	t.Helper()
	f, err := unixfs.Open(t.Context(), bs, root, name)
	require.NoError(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	require.EqualValues(t, len(b), f.Size())
	return b
}

func TestFilesOfEverySize(t *testing.T) {
	bs := store(t)
	for _, n := range []int{0, 1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 3 << 20, 174*(256<<10) + 5} {
		content := noise(n)
		// How the bytes arrive makes no difference.
		root, err := unixfs.AddFile(t.Context(), bs, iotest.HalfReader(bytes.NewReader(content)))
		require.NoError(t, err)
		again, err := unixfs.AddFile(t.Context(), bs, bytes.NewReader(content))
		require.NoError(t, err)
		require.Equal(t, root, again)
		require.EqualValues(t, 1, root.Version())
		require.True(t, bytes.Equal(content, read(t, bs, root, "")), "%d bytes", n)

		size, err := unixfs.Fetch(t.Context(), bs, root)
		require.NoError(t, err)
		require.GreaterOrEqual(t, size, int64(n))
	}
}

func TestSeek(t *testing.T) {
	bs := store(t)
	content := noise(1 << 20)
	root, err := unixfs.AddFile(t.Context(), bs, bytes.NewReader(content))
	require.NoError(t, err)
	f, err := unixfs.Open(t.Context(), bs, root, "")
	require.NoError(t, err)
	defer f.Close()
	for _, at := range []int64{700_000, 3, 1<<20 - 10, 256 << 10} {
		_, err := f.Seek(at, io.SeekStart)
		require.NoError(t, err)
		got := make([]byte, 10)
		_, err = io.ReadFull(f, got)
		require.NoError(t, err)
		require.Equal(t, content[at:at+10], got)
	}
	end, err := f.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	require.Equal(t, f.Size(), end)
}

// The roots are what the format promises: a change of them is a change of the
// format, and every node would keep everything twice.
func TestVectors(t *testing.T) {
	bs := store(t)
	file, err := unixfs.AddFile(t.Context(), bs, bytes.NewReader([]byte("hello\n")))
	require.NoError(t, err)
	require.Equal(t, "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am", file.String())
	dir, err := unixfs.AddFS(t.Context(), bs, fstest.MapFS{})
	require.NoError(t, err)
	require.Equal(t, "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354", dir.String())
}

func TestTrees(t *testing.T) {
	bs := store(t)
	big := noise(600 << 10)
	tree := fstest.MapFS{
		"index.html":     {Data: []byte("<p>")},
		"css/style.css":  {Data: []byte("p{}"), Mode: 0o755, ModTime: time.Now()},
		"a/b/c/deep.bin": {Data: big},
		"empty":          {Mode: fs.ModeDir},
	}
	root, err := unixfs.AddFS(t.Context(), bs, tree)
	require.NoError(t, err)
	require.Equal(t, "p{}", string(read(t, bs, root, "css/style.css")))
	require.True(t, bytes.Equal(big, read(t, bs, root, "a/b/c/deep.bin")))

	for _, dir := range []string{"", "css", "a/b", "empty"} {
		f, err := unixfs.Open(t.Context(), bs, root, dir)
		require.NoError(t, err, dir)
		require.True(t, f.IsDir())
		require.NoError(t, f.Close())
	}
	for _, no := range []string{"none", "css/none", "index.html/x", "..", "../x", "css/../index.html", "/index.html", "css/", ".", "css//style.css"} {
		_, err := unixfs.Open(t.Context(), bs, root, no)
		require.ErrorIs(t, err, taubyte.ErrNotFound, no)
	}

	// Times and modes are not part of the content.
	tree["css/style.css"] = &fstest.MapFile{Data: []byte("p{}")}
	again, err := unixfs.AddFS(t.Context(), bs, tree)
	require.NoError(t, err)
	require.Equal(t, root, again)
}

func TestLinksAreRefused(t *testing.T) {
	bs := store(t)
	_, err := unixfs.AddFS(t.Context(), bs, fstest.MapFS{
		"ok": {Data: []byte("x")}, "sub/out": {Data: []byte("/etc/passwd"), Mode: fs.ModeSymlink},
	})
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	require.ErrorContains(t, err, "sub/out")

	// One that another program added leads nowhere.
	data, err := ft.SymlinkData("/etc/passwd")
	require.NoError(t, err)
	link := merkledag.NodeWithData(data)
	dag := merkledag.NewDAGService(bs)
	require.NoError(t, dag.Add(t.Context(), link))
	dir, err := ufsio.NewBasicDirectory(dag)
	require.NoError(t, err)
	require.NoError(t, dir.AddChild(t.Context(), "link", link))
	root, err := dir.GetNode()
	require.NoError(t, err)
	require.NoError(t, dag.Add(t.Context(), root))
	_, err = unixfs.Open(t.Context(), bs, root.Cid(), "link")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	_, err = unixfs.Open(t.Context(), bs, root.Cid(), "link/x")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
}

func TestLargeDirectoriesAreSharded(t *testing.T) {
	bs := store(t)
	tree := fstest.MapFS{}
	for i := range 6000 {
		tree[fmt.Sprintf("assets/%05d-a-name-as-bundlers-make-them.js", i)] = &fstest.MapFile{Data: []byte{byte(i), byte(i >> 8)}}
	}
	root, err := unixfs.AddFS(t.Context(), bs, tree)
	require.NoError(t, err)
	for _, i := range []int{0, 17, 5999} {
		require.Equal(t, []byte{byte(i), byte(i >> 8)}, read(t, bs, root, fmt.Sprintf("assets/%05d-a-name-as-bundlers-make-them.js", i)))
	}
	_, err = unixfs.Open(t.Context(), bs, root, "assets/none")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	require.NoError(t, unixfs.Walk(t.Context(), bs, root, func(c cid.Cid, size int) error {
		require.Less(t, size, 300<<10, "a block that bitswap would carry slowly")
		return nil
	}))
}

func TestFetchFromAnotherNode(t *testing.T) {
	net := testnet.New(t)
	a, b := net.Node(), net.Node()
	content := noise(2 << 20)
	root, err := unixfs.AddFS(t.Context(), a.Blocks(), fstest.MapFS{"x/big": {Data: content}, "y": {Data: []byte("y")}})
	require.NoError(t, err)

	// A path is opened without what is beside it.
	f, err := unixfs.Open(t.Context(), b.Blocks(), root, "y")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	local := blockservice.New(b.Blocks().Blockstore(), nil)
	_, err = unixfs.Fetch(t.Context(), local, root)
	require.ErrorIs(t, err, taubyte.ErrUnavailable, "the big file is not here yet")

	size, err := unixfs.Fetch(t.Context(), b.Blocks(), root)
	require.NoError(t, err)
	there, err := unixfs.Fetch(t.Context(), a.Blocks(), root)
	require.NoError(t, err)
	require.Equal(t, there, size)
	require.True(t, bytes.Equal(content, read(t, local, root, "x/big")))
}

func TestWalkEnds(t *testing.T) {
	net := testnet.New(t)
	a := net.Node()
	missing := blocks.NewBlock([]byte("nobody has it")).Cid()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := unixfs.Fetch(ctx, a.Blocks(), missing)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	root, err := unixfs.AddFile(t.Context(), a.Blocks(), bytes.NewReader(noise(8<<20)))
	require.NoError(t, err)
	seen := 0
	err = unixfs.Walk(t.Context(), a.Blocks(), root, func(cid.Cid, int) error {
		if seen++; seen == 3 {
			return taubyte.ErrTooLarge
		}
		return nil
	})
	require.ErrorIs(t, err, taubyte.ErrTooLarge)
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("\x0a\x02\x08\x01"), "x")
	f.Fuzz(func(t *testing.T, node []byte, name string) {
		bs := blockservice.New(blockstore.NewBlockstore(taubyte.MemoryDatastore()), nil)
		b, err := blocks.NewBlockWithCid(node, cid.NewCidV1(cid.DagProtobuf, blocks.NewBlock(node).Cid().Hash()))
		require.NoError(t, err)
		require.NoError(t, bs.AddBlock(t.Context(), b))
		if file, err := unixfs.Open(t.Context(), bs, b.Cid(), name); err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(file, 1<<20))
			_ = file.Close()
		}
		_, _ = unixfs.Fetch(t.Context(), bs, b.Cid())
	})
}

func TestACutContentIsNoFile(t *testing.T) {
	n := store(t)
	_, err := unixfs.AddFile(t.Context(), n, io.MultiReader(strings.NewReader("half of it"), iotest.ErrReader(io.ErrUnexpectedEOF)))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// reference adds a tree file by file, as the format's own library does it.
func reference(t *testing.T, dag ipld.DAGService, fsys fs.FS, name string) ipld.Node {
	t.Helper()
	dir, err := ufsio.NewDirectory(dag, ufsio.WithCidBuilder(merkledag.V1CidPrefix()), ufsio.WithMaxHAMTFanout(256), ufsio.WithSizeEstimationMode(ufsio.SizeEstimationLinks))
	require.NoError(t, err)
	dir.SetHAMTShardingSize(256 << 10)
	entries, err := fs.ReadDir(fsys, name)
	require.NoError(t, err)
	for _, e := range entries {
		child := path.Join(name, e.Name())
		var node ipld.Node
		if e.IsDir() {
			node = reference(t, dag, fsys, child)
		} else {
			content, err := fs.ReadFile(fsys, child)
			require.NoError(t, err)
			db, err := (&helpers.DagBuilderParams{Maxlinks: 174, RawLeaves: true, CidBuilder: merkledag.V1CidPrefix(), Dagserv: dag}).New(chunk.NewSizeSplitter(bytes.NewReader(content), 256<<10))
			require.NoError(t, err)
			node, err = balanced.Layout(db)
			require.NoError(t, err)
		}
		require.NoError(t, dir.AddChild(t.Context(), e.Name(), node))
	}
	node, err := dir.GetNode()
	require.NoError(t, err)
	require.NoError(t, dag.Add(t.Context(), node))
	return node
}

// However many files are read at a time, a tree's root is the one that adding them one
// after the other gives, and every block is there.
func TestTreesAreWhatTheLibraryMakes(t *testing.T) {
	tree := fstest.MapFS{"empty": {Mode: fs.ModeDir}, "none.txt": {}, "big": {Data: noise(18 << 20)}, "a/b/big": {Data: noise(600 << 10)}, "a/same": {Data: noise(600 << 10)}}
	for i := range 7000 { // a sharded directory, and more than one batch
		tree[fmt.Sprintf("many/file-%06d.txt", i)] = &fstest.MapFile{Data: []byte(fmt.Sprint(i % 5000))}
	}
	bs := store(t)
	root, err := unixfs.AddFS(t.Context(), bs, tree)
	require.NoError(t, err)
	require.Equal(t, reference(t, merkledag.NewDAGService(store(t)), tree, ".").Cid().String(), root.String())
	_, err = unixfs.Fetch(t.Context(), bs, root)
	require.NoError(t, err)
	require.Equal(t, "4711", string(read(t, bs, root, "many/file-004711.txt")))
}

// failing refuses blocks after some.
type failing struct {
	blockservice.BlockService
	after int
}

func (f *failing) AddBlocks(ctx context.Context, bs []blocks.Block) error {
	if f.after--; f.after < 0 {
		return fmt.Errorf("%w: no room", taubyte.ErrUnavailable)
	}
	return f.BlockService.AddBlocks(ctx, bs)
}

// The error of a store that refuses blocks is the caller's, whenever it comes.
func TestAStoreThatRefuses(t *testing.T) {
	tree := fstest.MapFS{}
	for i := range 20 {
		tree[fmt.Sprint("d", i%3, "/", i)] = &fstest.MapFile{Data: noise(2<<20 + i)}
	}
	for after := range 3 {
		bs := &failing{store(t), after}
		_, err := unixfs.AddFS(t.Context(), bs, tree)
		require.ErrorIs(t, err, taubyte.ErrUnavailable)
		require.ErrorContains(t, err, "no room")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := unixfs.AddFS(ctx, store(t), tree)
	require.ErrorIs(t, err, context.Canceled)
}
