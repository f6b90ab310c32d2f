//go:build !unix

package localgit

import (
	"fmt"
	"net"
	"os"
	"os/exec"

	"github.com/taubyte/taubyte"
)

// endGroup has no effect where there are no process groups: git itself is ended,
// and its helpers end when their pipes close.
func endGroup(*exec.Cmd) {}

// yield has no effect where there are no priorities of process groups.
func yield(*exec.Cmd) {}

// socketPair is not to be had: such a node is one of one.
func socketPair() (*net.UnixConn, *os.File, error) {
	return nil, nil, fmt.Errorf("%w: no objects of other control nodes on this system", taubyte.ErrUnavailable)
}
