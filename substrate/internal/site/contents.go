package site

import (
	"bytes"
	lru "container/list"
	"sync"

	"github.com/ipfs/go-cid"
)

// contents keeps large files in memory whole, by what is in them: one that several sites or
// deployments have is there once. A file that is being sent is not given up, so that limit
// bounds what slow users keep as well; what finds no room is streamed.
type contents struct {
	limit int64
	mu    sync.Mutex
	bytes int64
	kept  map[cid.Cid]*content
	order lru.List // of *content, the one used last in front
}

type content struct {
	id    cid.Cid
	data  []byte
	ready bool // data is there
	users int  // who read it at the moment
	place *lru.Element
}

// largest is the share of the limit that one file may have.
const largest = 4

func newContents(limit int64) *contents {
	return &contents{limit: limit, kept: map[cid.Cid]*content{}}
}

// open returns a file's content, which is read by load if it is not here. It is nil where
// it has to be streamed: there is no room, or somebody else is loading it.
func (c *contents) open(id cid.Cid, size int64, load func(to []byte) error) (*contentFile, error) {
	f, mine := c.take(id, size)
	if f == nil {
		return nil, nil
	}
	if !mine {
		return newContentFile(c, f), nil
	}
	data := make([]byte, size)
	err := load(data)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.drop(f, size)
		return nil, err
	}
	f.data, f.ready = data, true
	return newContentFile(c, f), nil
}

// take returns a content for one more user, nil where there is none to be had. One that
// is mine has its room, and the caller loads it.
func (c *contents) take(id cid.Cid, size int64) (f *content, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.kept[id]; f != nil {
		if !f.ready {
			return nil, false
		}
		f.users++
		c.order.MoveToFront(f.place)
		return f, false
	}
	if size > c.limit/largest {
		return nil, false
	}
	for e := c.order.Back(); e != nil && c.bytes+size > c.limit; {
		old := e.Value.(*content)
		e = e.Prev()
		if old.users == 0 {
			c.drop(old, int64(len(old.data)))
		}
	}
	if c.bytes+size > c.limit {
		return nil, false
	}
	f = &content{id: id, users: 1}
	f.place = c.order.PushFront(f)
	c.kept[id] = f
	c.bytes += size
	return f, true
}

// drop gives a content of that size up. mu is held.
func (c *contents) drop(f *content, size int64) {
	delete(c.kept, f.id)
	c.order.Remove(f.place)
	c.bytes -= size
}

func (c *contents) release(f *content) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.users--
}

// contentFile reads a content. It is for one goroutine.
type contentFile struct {
	bytes.Reader
	close func()
}

func newContentFile(c *contents, f *content) *contentFile {
	file := &contentFile{close: sync.OnceFunc(func() { c.release(f) })}
	file.Reset(f.data)
	return file
}

// Close implements io.Closer.
func (f *contentFile) Close() error {
	f.close()
	return nil
}
