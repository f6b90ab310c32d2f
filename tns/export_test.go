package tns

import (
	"context"
	"net/http"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// HandIn hands a copy of a deployment to a member.
func HandIn(ctx context.Context, from taubyte.Host, to peer.ID, object []byte) error {
	c := rpc.NewClient(from, Protocol, nil)
	defer c.Close()
	return c.CallPeer(ctx, to, http.MethodPost, "/copies", copyRequest{Object: object}, nil)
}
