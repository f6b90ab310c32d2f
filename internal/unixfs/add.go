package unixfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"sync"

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
	return add(ctx, bs, func(_ context.Context, dag ipld.DAGService) (ipld.Node, error) { return addFile(dag, r) })
}

// AddFS adds a tree of directories and regular files. Anything else in it, a
// symbolic link for one, is taubyte.ErrInvalid with the name: a link could lead
// out of the tree. The blocks are on disk when it returns.
//
// Several files are read at a time: fsys has to be safe for that, as those of
// package os and fstest are.
func AddFS(ctx context.Context, bs blockservice.BlockService, fsys fs.FS) (cid.Cid, error) {
	return add(ctx, bs, func(ctx context.Context, dag ipld.DAGService) (ipld.Node, error) {
		a := &adder{fsys: fsys, dag: dag, places: make(chan struct{}, runtime.GOMAXPROCS(0))}
		root, err := a.dir(ctx, ".", 0)
		if err == nil {
			err = dag.Add(ctx, root)
		}
		return root, err
	})
}

// add writes what build makes in batches, while build makes more.
func add(ctx context.Context, bs blockservice.BlockService, build func(context.Context, ipld.DAGService) (ipld.Node, error)) (cid.Cid, error) {
	w := newWriter(ctx, bs)
	defer w.close()
	root, err := build(w.ctx, w)
	if err != nil {
		return cid.Undef, w.cause(err)
	}
	if err := w.flush(); err != nil {
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

// adder adds a tree.
type adder struct {
	fsys   fs.FS
	dag    ipld.DAGService
	places chan struct{} // one for each file that is read at a time
}

// dir adds a directory. The files of a directory are read side by side, and beside
// those of the next; their names and links are all that is held of them.
func (a *adder) dir(ctx context.Context, name string, depth int) (ipld.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w tree: directories are nested more than %d deep at %s", taubyte.ErrInvalid, maxDepth, name)
	}
	entries, err := fs.ReadDir(a.fsys, name) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("adding %s: %w", name, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var files sync.WaitGroup
	nodes := make([]ipld.Node, len(entries))
	for i, e := range entries {
		if ctx.Err() != nil {
			break
		}
		child := path.Join(name, e.Name())
		switch {
		case e.IsDir():
			node, err := a.dir(ctx, child, depth+1)
			if err == nil {
				err = a.dag.Add(ctx, node)
			}
			if err == nil {
				nodes[i], err = linkTo(node)
			}
			if err != nil {
				cancel(err)
			}
		case e.Type().IsRegular():
			select {
			case a.places <- struct{}{}:
			case <-ctx.Done():
				continue
			}
			files.Go(func() {
				defer func() { <-a.places }()
				node, err := a.file(child)
				if err == nil {
					nodes[i], err = linkTo(node)
				}
				if err != nil {
					cancel(err)
				}
			})
		default:
			cancel(fmt.Errorf("%w tree: %s is neither a directory nor a regular file (%s)", taubyte.ErrInvalid, child, e.Type()))
		}
	}
	files.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	dir, err := ufsio.NewDirectory(a.dag,
		ufsio.WithCidBuilder(merkledag.V1CidPrefix()),
		ufsio.WithMaxHAMTFanout(256),
		ufsio.WithSizeEstimationMode(ufsio.SizeEstimationLinks))
	if err != nil {
		return nil, fmt.Errorf("adding %s: %w", name, err)
	}
	dir.SetHAMTShardingSize(shardSize)
	for i, e := range entries {
		if err := dir.AddChild(ctx, e.Name(), nodes[i]); err != nil {
			return nil, fmt.Errorf("adding %s: %w", path.Join(name, e.Name()), err)
		}
	}
	node, err := dir.GetNode()
	if err != nil {
		return nil, fmt.Errorf("adding %s: %w", name, err)
	}
	return node, nil
}

func (a *adder) file(name string) (node ipld.Node, err error) {
	f, err := a.fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("adding %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if node, err = addFile(a.dag, f); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return node, nil
}
