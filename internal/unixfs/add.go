package unixfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/ipfs/boxo/blockservice"
	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	ufsio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/taubyte/taubyte"
)

const (
	chunkSize = 256 << 10
	fileLinks = 174
	shardSize = 256 << 10 // of names and links, beyond which a directory is sharded
	maxDepth  = 256       // of directories
)

// AddFile adds the bytes of r as one file. Its blocks are on disk when it
// returns.
func AddFile(ctx context.Context, bs blockservice.BlockService, r io.Reader) (cid.Cid, error) {
	return add(ctx, bs, func(dag ipld.DAGService) (ipld.Node, error) { return addFile(dag, r) })
}

// AddFS adds a tree of directories and regular files. Anything else in it, a
// symbolic link for one, is taubyte.ErrInvalid with the name: a link could lead
// out of the tree. The blocks are on disk when it returns.
func AddFS(ctx context.Context, bs blockservice.BlockService, fsys fs.FS) (cid.Cid, error) {
	return add(ctx, bs, func(dag ipld.DAGService) (ipld.Node, error) { return addDir(ctx, dag, fsys, ".", 0) })
}

// add collects what build makes into batches: one sync of the disk for many
// blocks.
func add(ctx context.Context, bs blockservice.BlockService, build func(ipld.DAGService) (ipld.Node, error)) (cid.Cid, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dag := ipld.NewBufferedDAG(ctx, merkledag.NewDAGService(bs))
	root, err := build(dag)
	if err != nil {
		cancel()
		_ = dag.Commit() // waits for the batches under way
		return cid.Undef, err
	}
	if err := dag.Add(ctx, root); err != nil {
		return cid.Undef, fmt.Errorf("adding %s: %w", root.Cid(), err)
	}
	if err := dag.Commit(); err != nil {
		return cid.Undef, fmt.Errorf("adding %s: %w", root.Cid(), err)
	}
	return root.Cid(), nil
}

// whole keeps an unexpected end from the chunker, which takes io.ErrUnexpectedEOF for
// its own word for a last piece, and would make a file of what came before a
// connection was cut.
type whole struct {
	r   io.Reader
	cut error
}

var errCut = errors.New("the content was cut")

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		w.cut, err = err, errCut
	}
	return n, err
}

func addFile(dag ipld.DAGService, r io.Reader) (ipld.Node, error) {
	content := &whole{r: r}
	params := helpers.DagBuilderParams{
		Maxlinks:   fileLinks,
		RawLeaves:  true,
		CidBuilder: merkledag.V1CidPrefix(),
		Dagserv:    dag,
	}
	db, err := params.New(chunk.NewSizeSplitter(content, chunkSize))
	if err != nil {
		return nil, fmt.Errorf("adding a file: %w", err)
	}
	node, err := balanced.Layout(db)
	if content.cut != nil {
		err = content.cut
	}
	if err != nil {
		return nil, fmt.Errorf("adding a file: %w", err)
	}
	return node, nil
}

func addDir(ctx context.Context, dag ipld.DAGService, fsys fs.FS, name string, depth int) (ipld.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w tree: directories are nested more than %d deep at %s", taubyte.ErrInvalid, maxDepth, name)
	}
	entries, err := fs.ReadDir(fsys, name) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("adding %s: %w", name, err)
	}
	dir, err := ufsio.NewDirectory(dag,
		ufsio.WithCidBuilder(merkledag.V1CidPrefix()),
		ufsio.WithMaxHAMTFanout(256),
		ufsio.WithSizeEstimationMode(ufsio.SizeEstimationLinks))
	if err != nil {
		return nil, fmt.Errorf("adding %s: %w", name, err)
	}
	dir.SetHAMTShardingSize(shardSize)
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		child := path.Join(name, e.Name())
		var node ipld.Node
		switch {
		case e.IsDir():
			node, err = addDir(ctx, dag, fsys, child, depth+1)
		case e.Type().IsRegular():
			node, err = openAndAdd(dag, fsys, child)
		default:
			err = fmt.Errorf("%w tree: %s is neither a directory nor a regular file (%s)", taubyte.ErrInvalid, child, e.Type())
		}
		if err != nil {
			return nil, err
		}
		if err := dag.Add(ctx, node); err != nil {
			return nil, fmt.Errorf("adding %s: %w", child, err)
		}
		if err := dir.AddChild(ctx, e.Name(), node); err != nil {
			return nil, fmt.Errorf("adding %s: %w", child, err)
		}
	}
	node, err := dir.GetNode()
	if err != nil {
		return nil, fmt.Errorf("adding %s: %w", name, err)
	}
	return node, nil
}

func openAndAdd(dag ipld.DAGService, fsys fs.FS, name string) (node ipld.Node, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("adding %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if node, err = addFile(dag, f); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return node, nil
}
