package site

import (
	"bytes"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte/internal/mediatype"
)

// An entry is what is known of one name of one site. It never changes, since the
// site is named by its content.
type entry struct {
	root    cid.Cid // of the tree that has it
	name    string
	missing bool
	dir     bool
	data    []byte // of a small file

	// Of a file, and as values of headers.
	size    int64
	etag    []string
	length  []string
	kind    []string
	caching []string

	compressible bool
	alone        atomic.Bool // it was seen to have no encodings

	id     cid.Cid
	wanted atomic.Bool // of a large file: it was asked for before
}

// sniffed is how much of a file is looked at where its name does not tell the type.
const sniffed = 512

// describe fills in what is said of a file. head is its beginning.
func (e *entry) describe(id cid.Cid, size int64, head []byte) {
	e.id, e.size = id, size
	e.etag = []string{`"` + id.String() + `"`}
	e.length = []string{strconv.FormatInt(size, 10)}
	e.caching = askAgain
	if hashed(e.name) {
		e.caching = forever
	}
	kind := mediatype.Of(e.name)
	if kind != "" {
		e.compressible = mediatype.Compressible(kind)
	} else {
		kind = http.DetectContentType(head)
	}
	e.kind = []string{kind}
}

func (e *entry) here() bool { return !e.missing && !e.dir }

type cacheKey struct {
	root    cid.Cid
	encoded cid.Cid // of the site: whether a file has encodings is remembered with it
	name    string
}

// A Cache holds what was found in sites, with the bytes of small files, and of large ones
// that are asked for more than once. It is shared by the sites of a node and safe for
// concurrent use.
type Cache struct {
	large   *contents
	limit   int
	mu      sync.RWMutex
	entries map[cacheKey]*entry
	bytes   int
}

const (
	maxCached = 64 << 10 // a larger file is among contents, or streamed
	overhead  = 400      // of an entry, about
)

// NewCache returns a cache that holds that many bytes, three quarters of them for large
// files.
func NewCache(limit int) *Cache {
	return &Cache{large: newContents(int64(limit) / 4 * 3), limit: limit / 4, entries: map[cacheKey]*entry{}}
}

func (c *Cache) get(key cacheKey) *entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.entries[key]
}

func (c *Cache) put(key cacheKey, e *entry) {
	cost := func(k cacheKey, e *entry) int { return overhead + len(k.name) + len(e.data) }
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; ok {
		return
	}
	c.bytes += cost(key, e)
	c.entries[key] = e
	for k, old := range c.entries { // in no order: any is as good as another
		if c.bytes <= c.limit {
			break
		}
		delete(c.entries, k)
		c.bytes -= cost(k, old)
	}
}

// memoryFile is a small file.
type memoryFile struct{ bytes.Reader }

func newMemoryFile(b []byte) *memoryFile {
	f := &memoryFile{}
	f.Reset(b)
	return f
}

// Close implements io.Closer.
func (*memoryFile) Close() error { return nil }
