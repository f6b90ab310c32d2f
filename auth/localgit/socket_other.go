//go:build !unix

package localgit

import (
	"fmt"
	"net"
	"os"

	"github.com/taubyte/taubyte"
)

// socketPair is not to be had: such a node is one of one.
func socketPair() (*net.UnixConn, *os.File, error) {
	return nil, nil, fmt.Errorf("%w: no objects of other control nodes on this system", taubyte.ErrUnavailable)
}
