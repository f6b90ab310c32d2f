package substrate

import (
	"context"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte/internal/unixfs"
	"github.com/taubyte/taubyte/substrate/internal/site"
)

// tree is the content network, as websites see it. Hoarders open content by its root, so
// that each of a site's trees has its own way to them.
type tree struct {
	root        blockservice.BlockService
	encoded     blockservice.BlockService // where there are encodings
	encodedRoot cid.Cid
}

func (t tree) Open(ctx context.Context, root cid.Cid, name string) (site.File, error) {
	from := t.root
	if t.encoded != nil && root.Equals(t.encodedRoot) {
		from = t.encoded
	}
	f, err := unixfs.Open(ctx, from, root, name)
	if err != nil {
		return nil, err
	}
	return f, nil
}
