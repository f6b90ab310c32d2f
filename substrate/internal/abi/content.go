package abi

import (
	"errors"
	"io"

	"github.com/ipfs/go-cid"
)

// A content is data that has a CID, or will have one when it is pushed. It has one
// position for reading and writing.
type content struct {
	opened io.ReadSeekCloser // of a CID
	root   cid.Cid           // with which it was opened

	data []byte // of a new one
	at   int64
}

// maxScratch bounds the bytes of the contents that an event writes. What is larger
// belongs into a storage.
const maxScratch = 16 << 20

var errReadOnly = errors.New("content that was opened by its CID can't be written")

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	if c.opened != nil {
		return c.opened.Read(p)
	}
	if c.at >= int64(len(c.data)) {
		return 0, io.EOF
	}
	n := copy(p, c.data[c.at:])
	c.at += int64(n)
	return n, nil
}

// write writes at the position, as far as the event may hold more bytes.
func (c *content) write(k *kept, p []byte) error {
	if c.opened != nil {
		return errReadOnly
	}
	end := c.at + int64(len(p))
	if more := end - int64(len(c.data)); more > 0 {
		if more > int64(maxScratch-k.bytes) {
			return errTooMany
		}
		k.bytes += int(more)
		c.data = append(c.data, make([]byte, more)...)
	}
	copy(c.data[c.at:], p)
	c.at = end
	return nil
}

// Seek implements io.Seeker.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	if c.opened != nil {
		return c.opened.Seek(offset, whence)
	}
	switch whence {
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += int64(len(c.data))
	}
	if offset < 0 || offset > maxScratch {
		return 0, errors.New("position out of range")
	}
	c.at = offset
	return offset, nil
}

// Close implements io.Closer.
func (c *content) Close() error {
	if c.opened != nil {
		return c.opened.Close()
	}
	return nil
}

// A library is a set of contents under handles. They end with the event.
type library struct{ contents []*content }

func (l *library) end() {
	for _, c := range l.contents {
		if c != nil {
			_ = c.Close()
		}
	}
	l.contents = nil
}

func (l *library) add(c *content) (uint32, bool) {
	for i, have := range l.contents {
		if have == nil {
			l.contents[i] = c
			return uint32(i), true
		}
	}
	if len(l.contents) >= maxFiles {
		_ = c.Close()
		return 0, false
	}
	l.contents = append(l.contents, c)
	return uint32(len(l.contents) - 1), true
}

// content returns one by its handle, or nil.
func (l *library) content(id uint64) *content {
	if i := uint64(uint32(id)); i < uint64(len(l.contents)) {
		return l.contents[i]
	}
	return nil
}

// A shelf finds the library that a function is about, which may not be there, and
// says how many of its parameters that takes.
type shelf struct {
	find func(*Guest, []uint64) *library
	skip int
}

// The functions about contents come twice: for those of storages, and for those of an
// IPFS client.
var (
	scratchShelf = shelf{find: func(g *Guest, _ []uint64) *library { return &g.kept.scratch }}
	clientShelf  = shelf{skip: 1, find: func(g *Guest, a []uint64) *library {
		if i := uint64(uint32(a[0])); i < uint64(len(g.kept.clients)) {
			return g.kept.clients[i]
		}
		return nil
	}}
)

var contents = []decl{
	{"storageNewContent", "i", newContent(scratchShelf, ErrCreatingNewFile)},
	{"storageOpenCid", "ii", openContent(scratchShelf, ErrCidNotFound)},
	{"contentCloseFile", "i", closeContent(scratchShelf)},
	{"contentFileCid", "ii", contentCID(scratchShelf)},
	{"contentReadFile", "iiii", readContent(scratchShelf)},
	{"contentWriteFile", "iiii", writeContent(scratchShelf)},
	{"contentPushFile", "ii", pushContent(scratchShelf)},
	{"contentSeekFile", "iIii", seekContent(scratchShelf)},
}

// in is a function about a library; what it is given begins behind what named that.
func (s shelf) in(do func(*Guest, *library, module, []uint64) Errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		l := s.find(g, a)
		if l == nil {
			return ErrClientNotFound
		}
		return do(g, l, m, a[s.skip:])
	}
}

// on is a function about one content.
func (s shelf) on(do func(*Guest, *content, module, []uint64) Errno) errno {
	return s.in(func(g *Guest, l *library, m module, a []uint64) Errno {
		if c := l.content(a[0]); c != nil {
			return do(g, c, m, a)
		}
		return ErrContentNotFound
	})
}

func newContent(s shelf, failed Errno) errno {
	return s.in(func(g *Guest, l *library, m module, a []uint64) Errno {
		if g.self.Stores == nil {
			return failed
		}
		id, ok := l.add(&content{})
		if !ok {
			return failed
		}
		return m.cell(a[0], id)
	})
}

func openContent(s shelf, failed Errno) errno {
	return s.in(func(g *Guest, l *library, m module, a []uint64) Errno {
		if g.self.Stores == nil {
			return failed
		}
		root, ok := m.cid(a[1])
		if !ok {
			return ErrInvalidCid
		}
		opened, err := g.self.Stores.OpenContent(g.waiting(), root)
		if missing(err) {
			return failed
		} else if err != nil {
			return g.wrong(failed, "content not opened", err)
		}
		id, ok := l.add(&content{opened: opened, root: root})
		if !ok {
			return failed
		}
		return m.cell(a[0], id)
	})
}

func closeContent(s shelf) errno {
	return s.in(func(g *Guest, l *library, _ module, a []uint64) Errno {
		c := l.content(a[0])
		if c == nil {
			return ErrContentNotFound
		}
		l.contents[uint32(a[0])] = nil
		g.kept.bytes -= len(c.data)
		if c.Close() != nil {
			return ErrCloseFileFailed
		}
		return ErrNone
	})
}

// contentCID writes the CID that the content was opened with; of a new one nothing.
func contentCID(s shelf) errno {
	return s.on(func(_ *Guest, c *content, m module, a []uint64) Errno {
		if !c.root.Defined() {
			return ErrNone
		}
		return m.bytes(a[1], c.root.Bytes())
	})
}

func readContent(s shelf) errno {
	return s.on(func(_ *Guest, c *content, m module, a []uint64) Errno {
		return m.stream(c, a[1], a[2], a[3], ErrReadingFile)
	})
}

func writeContent(s shelf) errno {
	return s.on(func(g *Guest, c *content, m module, a []uint64) Errno {
		data, ok := m.view(a[1], a[2])
		if !ok {
			return ErrAddressOutOfMemory
		}
		if err := c.write(&g.kept, data); err != nil {
			return g.wrong(ErrWritingFile, "content not written", err)
		}
		return m.cell(a[3], uint32(len(data)))
	})
}

func pushContent(s shelf) errno {
	return s.on(func(g *Guest, c *content, m module, a []uint64) Errno {
		if _, err := c.Seek(0, io.SeekStart); err != nil {
			return g.wrong(ErrSeekingFile, "content not pushed", err)
		}
		root, err := g.self.Stores.AddContent(g.waiting(), c)
		if err != nil {
			return g.wrong(ErrAddFileToIpfsFailed, "content not pushed", err)
		}
		return m.bytes(a[1], root.Bytes())
	})
}

func seekContent(s shelf) errno {
	return s.on(func(_ *Guest, c *content, m module, a []uint64) Errno {
		if uint32(a[2]) > io.SeekEnd {
			return ErrInvalidWhence
		}
		at, err := c.Seek(int64(a[1]), int(uint32(a[2])))
		if err != nil {
			return ErrSeekingFile
		}
		return m.cell(a[3], uint32(at))
	})
}

// maxCID is the room that guests make for a CID.
const maxCID = 64

// cid reads the CID at the beginning of 64 bytes, or of as many as there are.
func (m module) cid(ptr uint64) (cid.Cid, bool) {
	size := uint64(m.Memory().Size())
	if at := uint64(uint32(ptr)); at < size {
		if raw, ok := m.view(ptr, min(maxCID, size-at)); ok {
			_, c, err := cid.CidFromBytes(raw)
			return c, err == nil
		}
	}
	return cid.Undef, false
}
