package substrate

import (
	"context"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte/internal/unixfs"
	"github.com/taubyte/taubyte/substrate/internal/site"
)

// tree is the content network, as websites see it.
type tree struct{ blocks blockservice.BlockService }

func (t tree) Open(ctx context.Context, root cid.Cid, name string) (site.File, error) {
	f, err := unixfs.Open(ctx, t.blocks, root, name)
	if err != nil {
		return nil, err
	}
	return f, nil
}
