package abi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
)

// Stores is where one function keeps data. What belongs to another project, branch
// or application it has no name for. All of it is safe for concurrent use.
type Stores interface {
	// Database and Storage open what the configuration has for a name.
	Database(ctx context.Context, name string) (Database, error)
	Storage(ctx context.Context, name string) (Storage, error)
	// Globals are the values that all functions of the project share.
	Globals(ctx context.Context) (Database, error)
	// AddContent keeps content, read from its beginning. OpenContent reads what was kept
	// for the project, as long as ctx lasts; of anything else it knows nothing.
	AddContent(ctx context.Context, content io.ReadSeeker) (cid.Cid, error)
	OpenContent(ctx context.Context, root cid.Cid) (io.ReadSeekCloser, error)
}

// Database is a *hoarder.Database.
type Database interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// Storage is a *hoarder.Storage.
type Storage interface {
	Add(ctx context.Context, name string, content io.Reader, overwrite bool) (hoarder.File, error)
	Stat(ctx context.Context, name string, version uint32) (hoarder.File, error)
	Open(ctx context.Context, name string, version uint32) (io.ReadSeekCloser, hoarder.File, error)
	Remove(ctx context.Context, name string, version uint32, all bool) error
	Versions(ctx context.Context, name string) ([]hoarder.File, error)
	List(ctx context.Context) ([]hoarder.File, error)
	Used(ctx context.Context) (int64, error)
	Capacity() int64
}

// Guarded is a Database or a Storage about whose use somebody is asked. The one who opens
// it was allowed to just then.
type Guarded interface {
	Allow(context.Context) error
}

// kept is what an instance has open of its stores.
type kept struct {
	databases opened[Database]
	storages  opened[*storage]
	clients   []*library // of IPFS

	// What follows ends with the event.
	scratch     library
	bytes       int // of all contents that are being written
	answers     map[question][]byte
	asked       []question // those that have an answer, the oldest first
	forgotten   bool       // some answers are
	answerBytes int
}

// end forgets what belongs to the event.
func (k *kept) end() {
	for i := range k.storages.all {
		if s := k.storages.all[i].value; s != nil {
			s.end()
		}
	}
	k.scratch.end()
	for _, c := range k.clients {
		c.end()
	}
	k.bytes = 0
	k.forget()
}

func (k *kept) spent() bool {
	const many = maxHandles / 2
	return len(k.databases.all) > many || len(k.storages.all) > many || len(k.clients) > many
}

// opened are the stores of one kind that an instance has open, by their handles. A
// name that is opened again gets the handle that it has: most functions open what
// they use at each event, and close nothing.
type opened[T any] struct{ all []holding[T] }

type holding[T any] struct {
	name  string
	value T
	users int // 0: the handle is free

	asked bool // in this event, whether it may be used
	no    error
}

var errTooMany = errors.New("too many handles")

func (o *opened[T]) open(name string, open func() (T, error)) (uint32, error) {
	free := -1
	for i := range o.all {
		switch h := &o.all[i]; {
		case h.users == 0:
			free = i
		case h.name == name:
			h.users++
			return uint32(i), nil
		}
	}
	if free < 0 && len(o.all) >= maxHandles {
		return 0, errTooMany
	}
	value, err := open()
	if err != nil {
		return 0, err
	}
	if free < 0 {
		free = len(o.all)
		o.all = append(o.all, holding[T]{})
	}
	o.all[free] = holding[T]{name: name, value: value, users: 1, asked: true}
	return uint32(free), nil
}

func (o *opened[T]) get(id uint64) (value T, ok bool) {
	if i := uint64(uint32(id)); i < uint64(len(o.all)) && o.all[i].users > 0 {
		return o.all[i].value, true
	}
	return value, false
}

// admit asks whether a store may be used, once in each event that uses it: who may in one
// may not in another, and an instance has its handles for many.
func (o *opened[T]) admit(g *Guest, id uint64) error {
	h := &o.all[uint32(id)]
	if !h.asked {
		h.asked = true
		if guard, ok := any(h.value).(Guarded); ok {
			h.no = guard.Allow(g.waiting())
		}
	}
	return h.no
}

// begin has every store asked about anew.
func (o *opened[T]) begin() {
	for i := range o.all {
		o.all[i].asked, o.all[i].no = false, nil
	}
}

func (o *opened[T]) close(id uint64) bool {
	if _, ok := o.get(id); !ok {
		return false
	}
	h := &o.all[uint32(id)]
	if h.users--; h.users == 0 {
		*h = holding[T]{}
	}
	return true
}

// A question is the first half of a pair of calls, that asks for the size of a
// value. The second half writes the value to a place of that size, without saying what
// it is: so it gets what was measured and nothing else, even if there is another value
// by now.
type question struct {
	of    string // the name of the second half
	store uint32
	name  string
}

// maxAnswerBytes bounds the answers that an event has waiting. Beyond that the oldest
// are forgotten.
const maxAnswerBytes = 4 << 20

func (k *kept) answer(q question, value []byte) {
	if old, ok := k.answers[q]; ok {
		k.answerBytes += len(value) - len(old)
	} else {
		k.asked = append(k.asked, q)
		k.answerBytes += len(value)
	}
	if k.answers == nil {
		k.answers = map[question][]byte{}
	}
	k.answers[q] = value
	for len(k.asked) > 1 && (len(k.asked) > maxAnswers || k.answerBytes > maxAnswerBytes) {
		oldest := 0
		if k.asked[oldest] == q {
			oldest = 1
		}
		k.answerBytes -= len(k.answers[k.asked[oldest]])
		delete(k.answers, k.asked[oldest])
		k.asked = slices.Delete(k.asked, oldest, oldest+1)
		k.forgotten = true
	}
}

func (k *kept) forget() {
	clear(k.answers)
	k.asked, k.answerBytes, k.forgotten = k.asked[:0], 0, false
}

// measure is the first half: it looks a value up, keeps it and writes its size.
func (g *Guest) measure(m module, q question, size uint64, look func() ([]byte, Errno)) Errno {
	value, e := look()
	if e != ErrNone {
		return e
	}
	g.kept.answer(q, value)
	return m.size(size, len(value))
}

// fetch is the second half. Where there was no first the guest knows by itself what
// there is room for.
func (g *Guest) fetch(m module, q question, ptr uint64, look func() ([]byte, Errno)) Errno {
	value, ok := g.kept.answers[q]
	switch {
	case ok:
	case g.kept.forgotten: // this one perhaps
		return ErrSizeMismatch
	default:
		var e Errno
		if value, e = look(); e != ErrNone {
			return e
		}
	}
	return m.bytes(ptr, value)
}

// bytes writes a value where the guest has made room for it.
func (m module) bytes(ptr uint64, value []byte) Errno {
	if len(value) > 0 && !m.Memory().Write(uint32(ptr), value) {
		return ErrAddressOutOfMemory
	}
	return ErrNone
}

// stream fills a guest's buffer as far as it goes, and says how much it was.
func (m module) stream(r io.Reader, ptr, size, count uint64, failed Errno) Errno {
	buf, ok := m.view(ptr, size)
	if !ok {
		return ErrAddressOutOfMemory
	}
	n, err := 0, error(nil)
	for n < len(buf) && err == nil {
		var more int
		more, err = r.Read(buf[n:])
		n += more
	}
	return m.took(n, err, count, failed)
}

// took says how much a read took, and how it ended.
func (m module) took(n int, err error, count uint64, failed Errno) Errno {
	if e := m.cell(count, uint32(n)); e != ErrNone {
		return e
	}
	switch {
	case err == nil:
		return ErrNone
	case errors.Is(err, io.EOF):
		return ErrEOF
	}
	return failed
}

// encode is a list of strings, each with a NUL behind it.
func encode(list []string) []byte {
	out := make([]byte, 0, sliceSize(list))
	for _, s := range list {
		out = append(append(out, s...), 0)
	}
	return out
}

// listable reports whether a name can stand in a list of strings.
func listable(name string) bool { return !strings.ContainsRune(name, 0) }

// wrong logs why a store did not do what it was asked, which the guest has no more
// than a number of, and returns that number.
func (g *Guest) wrong(e Errno, what string, err error) Errno {
	if ok, lost := g.stderr.rate.Take(); ok {
		text := err.Error() // with names in it that the guest has chosen
		if len(text) > maxLine {
			text = text[:maxLine] + " …"
		}
		g.stderr.log.Warn(what, "err", text, "lost", lost)
	}
	return e
}

// missing reports whether an error says that there is no such thing.
func missing(err error) bool { return errors.Is(err, taubyte.ErrNotFound) }

// A loan is a guest's memory as a reader. Who has it reads none of it once it was
// called back: the guest goes on, and its memory may be gone.
type loan struct {
	mu   sync.Mutex
	r    *bytes.Reader
	back bool
}

func lend(b []byte) *loan { return &loan{r: bytes.NewReader(b)} }

func (l *loan) callBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.back = true
}

var errCalledBack = errors.New("reading from a guest that goes on")

// Read implements io.Reader.
func (l *loan) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.back {
		return 0, errCalledBack
	}
	return l.r.Read(p)
}

// Seek implements io.Seeker.
func (l *loan) Seek(offset int64, whence int) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Seek(offset, whence)
}
