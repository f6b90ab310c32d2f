package messages

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// What may wait to be told, of all projects and of one, and what is kept of what was
// told, for those that missed it.
const (
	maxUntold        = 8 << 20
	maxUntoldProject = 2 << 20
	maxKept          = 8 << 20
	maxKeptFrames    = 1024
)

// outbox is what a node tells the others: what is still to be told, and the last
// frames.
type outbox struct {
	epoch uint64
	fresh chan struct{} // something is untold

	mu     sync.Mutex
	untold []untold
	bytes  int
	of     map[taubyte.ProjectID]int

	last      uint64 // sequence
	kept      [][]byte
	keptBytes int
}

type untold struct {
	project taubyte.ProjectID
	message []byte // as it is in a frame
}

func newOutbox() *outbox {
	return &outbox{epoch: rand.Uint64(), fresh: make(chan struct{}, 1), of: map[taubyte.ProjectID]int{}}
}

// put takes a message, unless there are too many.
func (o *outbox) put(m *told) bool {
	p := m.branch.Project
	size := len(m.data) + len(m.channel) + len(m.scope) + len(p) + len(m.branch.Branch) + 5*binary.MaxVarintLen32 + len(textNext)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes+size > maxUntold || o.of[p]+size > maxUntoldProject {
		return false
	}
	b := m.append(make([]byte, 0, size))
	o.untold = append(o.untold, untold{p, b})
	o.bytes += cap(b)
	o.of[p] += cap(b)
	select {
	case o.fresh <- struct{}{}:
	default:
	}
	return true
}

// next packs the next frame, or returns nil where nothing is untold. An empty one
// is made where beacon says so.
func (o *outbox) next(beacon bool) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.untold) == 0 && !beacon {
		return nil
	}
	o.last++
	f := beginFrame(make([]byte, 0, 512), o.epoch, o.last)
	n := 0
	for _, u := range o.untold {
		if n > 0 && len(f)+len(u.message) > inFrame {
			break
		}
		f = append(f, u.message...)
		o.bytes -= cap(u.message)
		if o.of[u.project] -= cap(u.message); o.of[u.project] == 0 {
			delete(o.of, u.project)
		}
		n++
	}
	if n == len(o.untold) {
		o.untold = nil
	} else {
		o.untold = o.untold[n:]
		select {
		case o.fresh <- struct{}{}:
		default:
		}
	}
	o.kept = append(o.kept, f)
	for o.keptBytes += len(f); o.keptBytes > maxKept || len(o.kept) > maxKeptFrames; {
		o.keptBytes -= len(o.kept[0])
		o.kept[0] = nil
		o.kept = o.kept[1:]
	}
	return f
}

// frames returns those that are still there of a range, in order.
func (o *outbox) frames(epoch, from, to uint64) [][]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	first := o.last + 1 - uint64(len(o.kept))
	from, to = max(from, first), min(to, o.last)
	if epoch != o.epoch || from > to {
		return nil
	}
	return append([][]byte(nil), o.kept[from-first:to-first+1]...)
}

// maxAgain bounds the bytes of an answer to a node that has missed frames.
const maxAgain = 4 << 20

// again answers a node that has missed frames: each with its length (uvarint)
// before it.
func (o *outbox) again(w http.ResponseWriter, r *http.Request) {
	var n [3]uint64
	for i, name := range []string{"epoch", "from", "to"} {
		var err error
		if n[i], err = strconv.ParseUint(r.URL.Query().Get(name), 10, 64); err != nil {
			rpc.WriteError(w, fmt.Errorf("%w %s: %w", taubyte.ErrInvalid, name, err), nil)
			return
		}
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	total := 0
	for _, f := range o.frames(n[0], n[1], n[2]) {
		if total += len(f); total > maxAgain {
			return
		}
		if _, err := w.Write(appendField(nil, f)); err != nil {
			return
		}
	}
}
