// Package i2mv passes data between the modules of one call: a function and the
// libraries it imports, of which each has a memory of its own.
//
// A View is bytes of one module that others read by its number, a Fifo a queue
// of bytes. The number goes from one module to the other as a parameter.
package i2mv

import (
	"io"
	"runtime"

	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// View is bytes that this module shows to others.
type View struct {
	// ID is the number by which another module opens it.
	ID   uint32
	data []byte
	pin  runtime.Pinner
}

// NewView shows data, which must not be changed until Close.
func NewView(data []byte) (*View, error) {
	v := &View{data: data}
	buf, size := sdk.Data(data)
	if buf != nil {
		v.pin.Pin(buf)
	}
	if e := sdk.MemoryViewNew(buf, size, 1, &v.ID); e != 0 {
		v.pin.Unpin()
		return nil, e
	}
	return v, nil
}

// Close takes the view back.
func (v *View) Close() error {
	sdk.MemoryViewClose(v.ID)
	v.pin.Unpin()
	return nil
}

// OpenView reads what another module shows.
func OpenView(id uint32) (*ViewReader, error) {
	r := &ViewReader{id: id}
	var closable uint32
	if e := sdk.MemoryViewOpen(id, &closable, &r.size); e != 0 {
		return nil, e
	}
	return r, nil
}

// ViewReader reads another module's view.
type ViewReader struct{ id, size, at uint32 }

// Size is the number of bytes in the view.
func (r *ViewReader) Size() int { return int(r.size) }

// Read is that of io.Reader.
func (r *ViewReader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	p = p[:min(len(p), int(r.size-r.at))]
	n, err := sdk.Stream(p, func(buf *byte, size uint32, n *uint32) errno.Errno {
		return sdk.MemoryViewRead(r.id, r.at, size, buf, n)
	})
	r.at += uint32(n)
	return n, err
}

// Fifo is the number of a queue of bytes.
type Fifo uint32

// NewFifo makes an empty queue.
func NewFifo() Fifo { return Fifo(sdk.FifoNew(1)) }

// Write puts bytes at the end of the queue.
func (f Fifo) Write(p []byte) (int, error) {
	for i, c := range p {
		if e := sdk.FifoPush(uint32(f), uint32(c)); e != 0 {
			return i, e
		}
	}
	return len(p), nil
}

// Read takes bytes from the start of the queue; io.EOF tells that it is empty
// now.
func (f Fifo) Read(p []byte) (int, error) {
	for i := range p {
		switch e := sdk.FifoPop(uint32(f), &p[i]); {
		case e == errno.EOF && i > 0:
			return i, nil
		case e == errno.EOF:
			return 0, io.EOF
		case e != 0:
			return i, e
		}
	}
	return len(p), nil
}

// Close forgets the queue.
func (f Fifo) Close() error {
	sdk.FifoClose(uint32(f))
	return nil
}
