package unixfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/ipld/merkledag"
	ft "github.com/ipfs/boxo/ipld/unixfs"
	ufsio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"github.com/taubyte/taubyte"
)

// A File is an open file or directory of a tree. It is for one goroutine at a
// time.
type File struct {
	io.ReadSeeker
	close func() error
	size  int64
	id    cid.Cid
	dir   bool
}

// Size is the file's length in bytes; a directory's is 0.
func (f *File) Size() int64 { return f.size }

// CID identifies the content.
func (f *File) CID() cid.Cid { return f.id }

// WriteTo implements io.WriterTo: what is left is written block by block, without a copy.
func (f *File) WriteTo(w io.Writer) (int64, error) {
	if from, ok := f.ReadSeeker.(io.WriterTo); ok {
		return from.WriteTo(w)
	}
	return io.Copy(w, f.ReadSeeker)
}

// IsDir reports whether it is a directory, which has no bytes to read.
func (f *File) IsDir() bool { return f.dir }

// Close ends the file, and what it was reading ahead.
func (f *File) Close() error { return f.close() }

// Open opens what is under a path of the tree, names joined by slashes as in
// io/fs; "" is the root itself. It reads the directories on the way and the file's
// first node, no more; the rest comes as it is read, some blocks ahead. ctx
// bounds the reading as well.
//
// A name that is not there, or that is no valid path, or that leads over a
// symbolic link, gives taubyte.ErrNotFound. A block that nobody has gives
// taubyte.ErrUnavailable, once ctx ends.
func Open(ctx context.Context, bs blockservice.BlockService, root cid.Cid, name string) (*File, error) {
	if name != "" && (name == "." || !fs.ValidPath(name)) {
		return nil, notFound(root, name)
	}
	ctx, cancel := context.WithCancel(ctx)
	f, err := open(ctx, cancel, bs, root, name)
	if err != nil {
		cancel()
		return nil, err
	}
	return f, nil
}

func notFound(root cid.Cid, name string) error {
	return fmt.Errorf("%w: %q in %s", taubyte.ErrNotFound, name, root)
}

func open(ctx context.Context, cancel func(), bs blockservice.BlockService, root cid.Cid, name string) (*File, error) {
	dag := merkledag.NewSession(ctx, merkledag.NewDAGService(bs))
	node, err := get(ctx, dag, root)
	if err != nil {
		return nil, err
	}
	for rest := name; rest != ""; {
		var first string
		first, rest, _ = strings.Cut(rest, "/")
		link, err := lookup(ctx, dag, node, first)
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return nil, notFound(root, name)
			}
			return nil, fmt.Errorf("opening %q in %s: %w", name, root, err)
		}
		if node, err = get(ctx, dag, link); err != nil {
			return nil, err
		}
	}
	f := &File{id: node.Cid(), close: func() error { cancel(); return nil }}
	if raw, ok := node.(*merkledag.RawNode); ok { // most files are one block
		f.ReadSeeker, f.size = bytes.NewReader(raw.RawData()), int64(len(raw.RawData()))
		return f, nil
	}
	data, err := parse(node)
	if err != nil {
		return nil, err
	}
	switch data.Type() {
	case ft.TDirectory, ft.THAMTShard:
		f.ReadSeeker, f.dir = bytes.NewReader(nil), true
	case ft.TFile, ft.TRaw:
		if data.FileSize() > math.MaxInt64 {
			return nil, fmt.Errorf("%w file %s: a size of %d", taubyte.ErrInvalid, f.id, data.FileSize())
		}
		r, err := ufsio.NewDagReader(ctx, node, dag)
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", f.id, err)
		}
		f.ReadSeeker, f.size = r, int64(r.Size())
		f.close = func() error { cancel(); return r.Close() }
	default:
		return nil, notFound(root, name)
	}
	return f, nil
}

// lookup finds a name in a directory. Where there is none it gives
// os.ErrNotExist.
func lookup(ctx context.Context, dag ipld.NodeGetter, node ipld.Node, name string) (cid.Cid, error) {
	pb, ok := node.(*merkledag.ProtoNode)
	if !ok {
		return cid.Undef, os.ErrNotExist // a file has no names in it
	}
	data, err := parse(node)
	if err != nil {
		return cid.Undef, err
	}
	switch data.Type() {
	case ft.TDirectory:
		link, err := pb.GetNodeLink(name)
		if err != nil {
			return cid.Undef, os.ErrNotExist
		}
		return link.Cid, nil
	case ft.THAMTShard:
		link, _, err := ufsio.ResolveUnixfsOnce(ctx, dag, node, []string{name})
		if err != nil {
			return cid.Undef, available(err)
		}
		return link.Cid, nil
	}
	return cid.Undef, os.ErrNotExist
}

func parse(node ipld.Node) (*ft.FSNode, error) {
	data, err := ft.ExtractFSNode(node)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is no UnixFS: %w", taubyte.ErrInvalid, node.Cid(), err)
	}
	return data, nil
}

func get(ctx context.Context, dag ipld.NodeGetter, c cid.Cid) (ipld.Node, error) {
	node, err := dag.Get(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("reading block %s: %w", c, available(err))
	}
	return node, nil
}

// available tells a block that can't be had from a name that does not exist.
func available(err error) error {
	if ipld.IsNotFound(err) {
		return fmt.Errorf("%w: %w", taubyte.ErrUnavailable, err)
	}
	return err
}
