package unixfs

import (
	"context"
	"sync"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/ipld/merkledag"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// What is written at a time. A batch is a sync of the disk and, in an engine of logs and
// tables, a table of its own, which is merged with the others the more often the smaller
// it is; its bytes are in memory a few times over while the engine takes them. Between
// batches of 4 MiB and these, the engine alone was measured to be 1.5 to 2 times as quick
// for a gigabyte; beyond them it gains little.
const (
	batchBytes = 16 << 20
	batchNodes = 16 << 10
)

// A writer is a DAG service whose nodes are written in batches, one while the next is
// collected. It is safe for concurrent use, until flush.
type writer struct {
	ipld.DAGService // of what is written
	bs              blockservice.BlockService
	ctx             context.Context // ends with the first error
	cancel          context.CancelCauseFunc
	batches         chan []blocks.Block
	idle            chan struct{} // closed when the goroutine that writes has ended
	closed          sync.Once

	mu   sync.Mutex // guards what follows, and sending
	next []blocks.Block
	size int
}

func newWriter(ctx context.Context, bs blockservice.BlockService) *writer {
	w := &writer{
		DAGService: merkledag.NewDAGService(bs), bs: bs,
		batches: make(chan []blocks.Block), idle: make(chan struct{}),
	}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	go w.run() // until close
	return w
}

func (w *writer) run() {
	defer close(w.idle)
	for batch := range w.batches {
		if w.ctx.Err() != nil {
			continue
		}
		if err := w.bs.AddBlocks(w.ctx, batch); err != nil {
			w.cancel(err)
		}
	}
}

// Add implements ipld.DAGService. It waits while two batches are in memory.
func (w *writer) Add(ctx context.Context, node ipld.Node) error {
	return w.AddMany(ctx, []ipld.Node{node})
}

// AddMany implements ipld.DAGService.
func (w *writer) AddMany(_ context.Context, nodes []ipld.Node) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, node := range nodes {
		if _, ok := node.(link); ok {
			continue // what it leads to was added
		}
		w.next = append(w.next, node)
		if w.size += len(node.RawData()); w.size >= batchBytes || len(w.next) >= batchNodes {
			w.sendLocked()
		}
	}
	return context.Cause(w.ctx)
}

func (w *writer) sendLocked() {
	if len(w.next) == 0 {
		return
	}
	select {
	case w.batches <- w.next:
	case <-w.ctx.Done():
	}
	w.next, w.size = nil, 0
}

// flush returns when everything is written. Nothing is added after it.
func (w *writer) flush() error {
	w.mu.Lock()
	w.sendLocked()
	w.mu.Unlock()
	w.end()
	return context.Cause(w.ctx)
}

// end waits for the goroutine.
func (w *writer) end() {
	w.closed.Do(func() { close(w.batches) })
	<-w.idle
}

// close gives up what is not written yet.
func (w *writer) close() {
	w.cancel(context.Canceled)
	w.end()
}

// cause prefers what broke the writing to what broke by it.
func (w *writer) cause(err error) error {
	if cause := context.Cause(w.ctx); cause != nil {
		return cause
	}
	return err
}

// A link stands for a node that was added: what a directory needs to know of a child,
// without its content.
type link struct {
	ipld.Node
	id   cid.Cid
	size uint64
}

func linkTo(node ipld.Node) (link, error) {
	size, err := node.Size()
	return link{id: node.Cid(), size: size}, err
}

// Cid implements ipld.Node.
func (l link) Cid() cid.Cid { return l.id }

// Size implements ipld.Node.
func (l link) Size() (uint64, error) { return l.size, nil }
