package abi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/substrate/internal/abi"
)

// stores are those of a real hoarder; content is kept in memory.
type stores struct {
	h    *hoarder.Service
	spec hoarder.StorageSpec
	size int64 // of databases

	content map[cid.Cid][]byte
}

func newStores(t *testing.T) *stores {
	n := testnet.New(t).Node()
	h, err := hoarder.New(t.Context(), n, n.Store, hoarder.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	return &stores{h: h, content: map[cid.Cid][]byte{}}
}

func (s *stores) instance(name string) hoarder.Instance {
	return hoarder.Instance{Project: "the-project", Branch: "main", Name: name}
}

func (s *stores) Database(ctx context.Context, name string) (abi.Database, error) {
	if name != "notes" {
		return nil, fmt.Errorf("%w: no database %q", taubyte.ErrNotFound, name)
	}
	return s.h.Database(ctx, s.instance(name), hoarder.DatabaseSpec{Size: s.size})
}

func (s *stores) Globals(ctx context.Context) (abi.Database, error) {
	return s.h.Database(ctx, s.instance("globals"), hoarder.DatabaseSpec{})
}

func (s *stores) Storage(ctx context.Context, name string) (abi.Storage, error) {
	if name != "files" {
		return nil, fmt.Errorf("%w: no storage %q", taubyte.ErrNotFound, name)
	}
	return s.h.Storage(ctx, s.instance(name), s.spec)
}

func (s *stores) AddContent(_ context.Context, r io.ReadSeeker) (cid.Cid, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return cid.Undef, err
	}
	sum, err := multihash.Sum(raw, multihash.SHA2_256, -1)
	c := cid.NewCidV1(cid.Raw, sum)
	s.content[c] = raw
	return c, err
}

type section struct{ *bytes.Reader }

func (section) Close() error { return nil }

func (s *stores) OpenContent(_ context.Context, root cid.Cid) (io.ReadSeekCloser, error) {
	if raw, ok := s.content[root]; ok {
		return section{bytes.NewReader(raw)}, nil
	}
	return nil, taubyte.ErrNotFound
}

// words places texts in a guest's memory, one after the other.
type words struct {
	s    *script
	next int
}

func (w *words) put(text string) (ptr, size int) {
	ptr = w.next
	w.s.m.Data(uint32(ptr), text)
	w.next += len(text)
	return ptr, len(text)
}

// args are those of a call, with each text turned into its address and size.
func (w *words) args(args ...any) []any {
	var out []any
	for _, a := range args {
		if text, ok := a.(string); ok {
			ptr, n := w.put(text)
			out = append(out, ptr, n)
		} else {
			out = append(out, a)
		}
	}
	return out
}

// Where the tests have results written to.
const (
	cellAt = 2000
	textAt = 2004
)

// tell runs calls, and returns their results and what was written from textAt on.
func (h *host) tell(calls func(do func(name string, args ...any) call) []call) (errnos []uint32, cell uint32, text string) {
	h.Helper()
	all := names(h.T)
	s := newScript()
	w := &words{s: s, next: 16}
	out, e := s.run(h, httptest.NewRequest("GET", "/", nil), cellAt, textAt+500, calls(func(name string, args ...any) call {
		return call{name, all[name], w.args(args...)}
	})...)
	return e, binary.LittleEndian.Uint32([]byte(out)), out[4:]
}

func TestDatabase(t *testing.T) {
	h := newHost(t)
	h.stores = newStores(t)
	e, size, text := h.tell(func(do func(string, ...any) call) []call {
		return []call{
			do("newDatabase", "other", cellAt), // not configured
			do("databaseGetSize", 0, "a", cellAt),
			do("newDatabase", "notes", cellAt),
			do("databaseGetSize", 0, "a/1", cellAt), // no such key
			do("databasePut", 0, "a/1", "one"),
			do("databasePut", 0, "a/2", "two"),
			do("databasePut", 0, "ab", "three"),
			do("databasePut", 0, "empty", 0, 0),
			do("databasePut", 0, "/", "nameless"),
			do("databasePut", 0, "nul\x00", "x"),
			do("databaseDelete", 0, "ab"),
			do("databaseDelete", 0, "ab"), // which is no error
			do("databaseListSize", 0, "a", cellAt),
			do("databaseList", 0, "a", textAt),
			do("databaseGetSize", 0, "/a/1", textAt+20), // the same key
			do("databaseGet", 0, "/a/1", textAt+24),
			do("databaseGetSize", 0, "empty", textAt+30),
			do("databaseGet", 0, "a/2", textAt+34), // without asking for its size
			do("databaseClose", 0),
			do("databaseClose", 0),
			do("databaseGetSize", 0, "a/1", cellAt),
		}
	})
	require.Equal(t, []uint32{22, 25, 0, 29, 0, 0, 0, 0, 24, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 25}, e)
	require.EqualValues(t, 10, size)
	require.Equal(t, "/a/1\x00/a/2\x00", text[:10])
	require.Equal(t, "\x03\x00\x00\x00one", text[20:27])
	require.Equal(t, "\x00\x00\x00\x00two", text[30:37])
	require.Contains(t, h.log.String(), `no database \"other\"`, "the guest gets a number, and the log the reason")
}

// Keys that differ are different, but for the slash at the start, and none leaves the
// database.
func TestKeys(t *testing.T) {
	h := newHost(t)
	h.stores = newStores(t)
	keys := []string{
		"u/a", "u/a/", "u/a//", "u//a", "//u/a", "n/1", "n//1", "n/./1", "n/../n/1", "../n/1", "..", ".", "a.", "a", "A", "a ", " a", "a\\b", "a%2Fb", "a/b", "a/b/c",
		"page/http://example.com/", "page/http:/example.com", "page/http://example.com", "caf\u00e9", "cafe\u0301", "//", "///", "a/..", "\t", "a\n", "value", "/application/x",
	}
	e, _, _ := h.tell(func(do func(string, ...any) call) []call {
		calls := []call{do("newDatabase", "notes", cellAt)}
		for i, key := range keys {
			calls = append(calls, do("databasePut", 0, key, string(rune('!'+i))))
		}
		return calls
	})
	for i, errno := range e {
		require.Zero(t, errno, "call %d", i)
	}
	for i, key := range keys {
		e, size, text := h.tell(func(do func(string, ...any) call) []call {
			return []call{do("newDatabase", "notes", cellAt), do("databaseGetSize", 0, key, cellAt), do("databaseGet", 0, key, textAt)}
		})
		require.Equal(t, []uint32{0, 0, 0}, e, key)
		require.EqualValues(t, 1, size)
		require.Equal(t, string(rune('!'+i)), text[:1], "%q", key)
	}
	for prefix, want := range map[string]string{
		"u": "/u//a\x00/u/a\x00/u/a/\x00/u/a//\x00", "u/": "/u//a\x00/u/a\x00/u/a/\x00/u/a//\x00", "/u/a": "/u/a/\x00/u/a//\x00", "u//": "/u//a\x00", "n/.": "/n/./1\x00",
	} {
		e, size, text := h.tell(func(do func(string, ...any) call) []call {
			return []call{do("newDatabase", "notes", cellAt), do("databaseListSize", 0, prefix, cellAt), do("databaseList", 0, prefix, textAt)}
		})
		require.Equal(t, []uint32{0, 0, 0}, e, prefix)
		require.Equal(t, want, text[:size], prefix)
	}
	e, _, _ = h.tell(func(do func(string, ...any) call) []call {
		return []call{
			do("newDatabase", "notes", cellAt), do("databasePut", 0, "", "x"), do("databasePut", 0, "/", "x"), do("databasePut", 0, "a\x00b", "x"),
			do("databasePut", 0, "\xff", "x"), do("databasePut", 0, strings.Repeat("k", 1024), "x"),
		}
	})
	require.Equal(t, []uint32{0, 24, 24, 24, 24, 24}, e, "what is no key is refused")
}

func TestAHandleLastsFromEventToEvent(t *testing.T) {
	h := newHost(t)
	h.stores = newStores(t)
	s := newScript()
	w := &words{s: s, next: 16}
	put := call{"databasePut", "iiiii:i", w.args(0, "k", "v")}
	open := call{"newDatabase", "iii:i", w.args("notes", cellAt)}
	f := h.function(s.bytes(cellAt, cellAt+4, put, open, open))
	for i := range 600 { // as one that opens it each time
		e := s.results(h.serve(f, httptest.NewRequest("GET", "/", nil)))
		if i == 0 {
			require.Equal(t, []uint32{25, 0, 0}, e)
		} else {
			require.Equal(t, []uint32{0, 0, 0}, e, "event %d", i)
		}
	}
}

func TestFullDatabase(t *testing.T) {
	h := newHost(t)
	st := newStores(t)
	st.size = 64
	h.stores = st
	e, _, text := h.tell(func(do func(string, ...any) call) []call {
		return []call{
			do("newDatabase", "notes", cellAt),
			do("databasePut", 0, "a", strings.Repeat("x", 40)),
			do("databasePut", 0, "b", strings.Repeat("x", 40)),
			do("databaseDelete", 0, "a"),
			do("databasePut", 0, "b", strings.Repeat("y", 40)),
			do("databaseGet", 0, "b", textAt),
		}
	})
	require.Equal(t, []uint32{0, 0, 24, 0, 0, 0}, e)
	require.Equal(t, strings.Repeat("y", 40), text[:40])
	require.Contains(t, h.log.String(), "the store is full")
}

// growing is a database whose values grow each time they are read.
type growing struct {
	abi.Database
	n int
}

func (g *growing) Get(context.Context, string) ([]byte, error) {
	g.n += 4
	return bytes.Repeat([]byte("x"), g.n), nil
}

type growingStores struct {
	abi.Stores
	db *growing
}

func (s growingStores) Database(context.Context, string) (abi.Database, error) { return s.db, nil }

func TestAValueThatGrewInBetweenStaysInItsPlace(t *testing.T) {
	h := newHost(t)
	h.stores = growingStores{db: &growing{}}
	e, size, text := h.tell(func(do func(string, ...any) call) []call {
		return []call{
			do("newDatabase", "notes", cellAt),
			do("databaseGetSize", 0, "k", cellAt),
			do("databaseGet", 0, "k", textAt),
		}
	})
	require.Equal(t, []uint32{0, 0, 0}, e)
	require.EqualValues(t, 4, size)
	require.Equal(t, "xxxx\x00\x00\x00\x00", text[:8])
}

// What was measured once and is fetched twice, or long after, has room for no more.
func TestAValueThatWasMeasuredIsNotReadAgain(t *testing.T) {
	h := newHost(t)
	h.stores = growingStores{db: &growing{}}
	many := func(n int) (e []uint32, text string) {
		e, _, text = h.tell(func(do func(string, ...any) call) []call {
			calls := []call{do("newDatabase", "notes", cellAt), do("databaseGetSize", 0, "k", cellAt)}
			for i := range n {
				calls = append(calls, do("databaseGetSize", 0, fmt.Sprint(i), cellAt))
			}
			return append(calls, do("databaseGet", 0, "k", textAt), do("databaseGet", 0, "k", textAt))
		})
		return e[len(e)-2:], text
	}
	e, text := many(10)
	require.Equal(t, []uint32{0, 0}, e)
	require.Equal(t, "xxxx\x00\x00\x00\x00", text[:8])
	e, text = many(100)
	require.Equal(t, []uint32{uint32(abi.ErrSizeMismatch), uint32(abi.ErrSizeMismatch)}, e)
	require.Equal(t, "\x00\x00\x00\x00", text[:4])
}

type brokenStores struct{ abi.Stores }

var errBroken = errors.New("out of reach")

type brokenDatabase struct{ abi.Database }

func (brokenDatabase) Get(context.Context, string) ([]byte, error)    { return nil, errBroken }
func (brokenDatabase) Put(context.Context, string, []byte) error      { return errBroken }
func (brokenDatabase) Delete(context.Context, string) error           { return errBroken }
func (brokenDatabase) List(context.Context, string) ([]string, error) { return nil, errBroken }

func (brokenStores) Database(context.Context, string) (abi.Database, error) {
	return brokenDatabase{}, nil
}
func (brokenStores) Globals(context.Context) (abi.Database, error) { return nil, errBroken }

// What is not read is not "not there".
func TestAFaultIsNoAbsence(t *testing.T) {
	h := newHost(t)
	h.stores = brokenStores{}
	e, _, _ := h.tell(func(do func(string, ...any) call) []call {
		return []call{
			do("newDatabase", "notes", cellAt),
			do("databaseGetSize", 0, "k", cellAt),
			do("databasePut", 0, "k", "v"),
			do("databaseDelete", 0, "k"),
			do("databaseListSize", 0, "k", cellAt),
			do("getGlobalValueSize", "k", 0, 0, cellAt),
		}
	})
	require.Equal(t, []uint32{0, 23, 24, 26, 27, 22}, e)
	require.Contains(t, h.log.String(), "out of reach")
}

func TestGlobals(t *testing.T) {
	h := newHost(t)
	h.stores = newStores(t)
	e, size, text := h.tell(func(do func(string, ...any) call) []call {
		return []call{
			do("getGlobalValueSize", "/string/n", 0, 0, cellAt),
			do("putGlobalValue", "/string/n", 0, 0, "value", 100), // with a capacity
			do("putGlobalValue", "/string/n", 0, 1, "mine", 4),
			do("getGlobalValueSize", "/string/n", 0, 0, cellAt),
			do("getGlobalValue", "/string/n", 0, 0, textAt),
			do("getGlobalValueSize", "/string/n", 0, 1, textAt+10),
			do("getGlobalValue", "/string/n", 0, 1, textAt+14),
			do("getGlobalValueSize", "/string/n", 1, 1, textAt+50), // the application's function's
			do("getOrCreateGlobalValueSize", "new", 0, 0, textAt+20),
			do("getGlobalValueSize", "new", 0, 0, textAt+24),
			do("getOrCreateGlobalValueSize", "/string/n", 0, 0, textAt+28),
			do("putGlobalValue", "x", 2, 0, "v", 1),
		}
	})
	require.Equal(t, []uint32{29, 0, 0, 0, 0, 0, 0, 29, 0, 0, 0, 114}, e)
	require.EqualValues(t, 5, size)
	require.Equal(t, "value", text[:5])
	require.Equal(t, "\x04\x00\x00\x00mine", text[10:18])
	require.Equal(t, "\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00", text[20:32])
}

func TestStorage(t *testing.T) {
	for _, versioning := range []bool{false, true} {
		t.Run(fmt.Sprintf("versioning=%v", versioning), func(t *testing.T) {
			h := newHost(t)
			st := newStores(t)
			st.spec = hoarder.StorageSpec{Size: 1000, Versioning: versioning}
			h.stores = st
			e, version, text := h.tell(func(do func(string, ...any) call) []call {
				return []call{
					do("storageNew", "other", cellAt),
					do("storageGet", "other", cellAt),
					do("storageUsedSize", 0, cellAt), // no such storage
					do("storageNew", "files", cellAt),
					do("storageListFilesSize", 0, textAt),
					do("storageListFiles", 0, textAt+4),
					do("storageGetFile", 0, "a.txt", 0, textAt),
					do("storageAddFile", 0, "a.txt", textAt, "first", 0),
					do("storageAddFile", 0, "a.txt", textAt, "second!", 1), // in its place
					do("storageAddFile", 0, "a.txt", cellAt, "third", 0),   // a new one
					do("storageGetFile", 0, "a.txt", 0, textAt+8),
					do("storageReadFile", 0, 0, textAt+12, 4, textAt+20),
					do("storageReadFile", 0, 0, textAt+16, 4, textAt+24),
					do("storageCloseFile", 0, 0),
					do("storageCloseFile", 0, 0), // 3
					do("storageReadFile", 0, 0, textAt, 4, textAt),
					do("storageListVersionsSize", 0, "a.txt", textAt+28),
					do("storageListVersions", 0, "a.txt", textAt+32),
					do("storageCurrentVersionSize", 0, "a.txt", textAt+40),
					do("storageCurrentVersion", "a.txt", textAt+44),
					do("storageCurrentVersion", "b.txt", textAt+44), // was not asked for
					do("storageUsedSize", 0, textAt+48),
					do("storageUsed", 0, textAt+52),
					do("storageCapacitySize", 0, textAt+56),
					do("storageCapacity", 0, textAt+60),
					do("storageListFilesSize", 0, textAt+64),
					do("storageListFiles", 0, textAt+68),
					do("storageCid", 0, "a.txt", textAt+120),
					do("storageCid", 0, "b.txt", textAt+120),
					do("storageAddFile", 0, "big", cellAt+100, strings.Repeat("x", 1200), 0),
					do("storageDeleteFile", 0, "a.txt", 0, 0),
					do("storageDeleteFile", 0, "a.txt", 0, 1),
					do("storageListVersionsSize", 0, "a.txt", textAt+200),
				}
			})
			third, again := uint32(31), uint32(33)
			if versioning {
				third, again = 0, 0
			}
			require.Equal(t, []uint32{
				22, 92, 1, 0, 0, 0, 90, 0, 0, third, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 90, 0, 0, 0, 0, 0, 0, 0, 90, 31, 0, again, 36,
			}, withoutEnd(e, 11, 12))
			if versioning {
				require.EqualValues(t, 2, version)
				require.Equal(t, "thir", text[12:16])
				require.Equal(t, "1\x002\x00", text[32:36])
				require.Equal(t, "2", text[44:45])
				require.Equal(t, "12", text[52:54])
				require.Equal(t, "/file/a.txt/1\x00/file/a.txt/2\x00", text[68:96])
			} else {
				require.Equal(t, "second!", text[12:19])
				require.Equal(t, "1\x00", text[32:34])
				require.Equal(t, "1", text[44:45])
				require.Equal(t, "7", text[52:53])
				require.Equal(t, "/file/a.txt/1\x00", text[68:82])
			}
			require.Equal(t, "1000", text[60:64])
			_, c, err := cid.CidFromBytes([]byte(text[120:184]))
			require.NoError(t, err)
			require.True(t, c.Defined())
		})
	}
}

// withoutEnd takes the end of a stream, which may come with its last bytes, for no
// error.
func withoutEnd(e []uint32, at ...int) []uint32 {
	for _, i := range at {
		if e[i] == uint32(abi.ErrEOF) {
			e[i] = 0
		}
	}
	return e
}

// A file that is written piece by piece is there once it is committed. What was not
// committed when the event ends, was given up or does not fit never was.
func TestUploads(t *testing.T) {
	h := newHost(t)
	st := newStores(t)
	st.spec = hoarder.StorageSpec{Size: 100}
	h.stores = st
	s := newScript()
	w := &words{s: s, next: 16}
	do := func(name, typ string, args ...any) call { return call{name, typ, w.args(args...)} }
	create := func(name string, fd int) call { return do("storageCreateFile", "iiiii:i", 0, name, 0, fd) }
	write := func(fd int, text string) call { return do("storageWriteFile", "iiiii:i", 0, fd, text, 2000) }
	commit := func(fd int) call { return do("storageCommitFile", "iii:i", 0, fd, 2004) }
	text, e := s.run(h, httptest.NewRequest("GET", "/", nil), 2000, 2100,
		do("storageNew", "iii:i", "files", 2000),
		create("a", 2008), create("b", 2012), create("c", 2016),
		write(0, "first "), write(1, "lost"), write(0, ""), write(0, "second"), write(2, "open"),
		commit(0), commit(0), write(0, "late"),
		do("storageAbortFile", "ii:i", 0, 1), write(1, "late"),
		create("d", 2020), write(0, strings.Repeat("x", 90)), write(0, strings.Repeat("x", 90)), commit(0),
		do("storageGetFile", "iiiii:i", 0, "a", 1, 2024), do("storageReadFile", "iiiii:i", 0, 0, 2040, 50, 2028),
		do("storageGetFile", "iiiii:i", 0, "b", 1, 2024), do("storageGetFile", "iiiii:i", 0, "d", 1, 2024),
		do("storageCreateFile", "iiiii:i", 0, "e", 2, 2008),
	)
	require.Equal(t, []uint32{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 0, 3, 0}, e[:15])
	require.EqualValues(t, 31, e[17], "it does not fit")
	require.Equal(t, []uint32{0, 8, 90, 90, 114}, e[18:])
	require.Equal(t, "first second", text[40:52])
	storage, err := st.Storage(t.Context(), "files")
	require.NoError(t, err)
	files, err := storage.List(t.Context())
	require.NoError(t, err)
	require.Len(t, files, 1, "c was not committed")
}

func TestFilesEndWithTheirEvent(t *testing.T) {
	h := newHost(t)
	h.stores = newStores(t)
	s := newScript()
	w := &words{s: s, next: 16}
	do := func(name string, args ...any) call { return call{name, names(t)[name], w.args(args...)} }
	f := h.function(s.bytes(0, 0,
		do("storageReadFile", 0, 0, textAt, 4, cellAt),
		do("storageNew", "files", cellAt),
		do("storageAddFile", 0, "f", cellAt, "data", 1),
		do("storageGetFile", 0, "f", 0, cellAt),
		do("contentWriteFile", 0, "x", cellAt),
		do("storageNewContent", cellAt),
	))
	require.Equal(t, []uint32{1, 0, 0, 0, 96, 0}, s.results(h.serve(f, httptest.NewRequest("GET", "/", nil))))
	require.Equal(t, []uint32{3, 0, 0, 0, 96, 0}, s.results(h.serve(f, httptest.NewRequest("GET", "/", nil))))
}

func TestContent(t *testing.T) {
	h := newHost(t)
	st := newStores(t)
	h.stores = st
	elsewhere, err := cid.Decode("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
	require.NoError(t, err)
	e, at, text := h.tell(func(do func(string, ...any) call) []call {
		return []call{
			do("storageNewContent", cellAt),
			do("contentWriteFile", 0, "hello world", cellAt),
			do("contentSeekFile", 0, int64(-5), 2, cellAt),
			do("contentWriteFile", 0, "there", textAt),
			do("contentSeekFile", 0, int64(0), 3, textAt),
			do("contentSeekFile", 0, int64(-1), 0, textAt),
			do("contentFileCid", 0, textAt+100), // it has none yet
			do("contentPushFile", 0, textAt+10),
			do("contentReadFile", 0, textAt+100, 20, textAt+4), // it was read to its end
			do("contentSeekFile", 0, int64(0), 0, textAt+4),
			do("contentReadFile", 0, textAt+100, 20, textAt+4),
			do("storageOpenCid", cellAt+400, textAt+10),
			do("contentReadFile", 1, textAt+120, 20, textAt+4),
			do("contentWriteFile", 1, "x", textAt+4), // it is what it is
			do("contentFileCid", 1, textAt+140),
			do("contentCloseFile", 0),
			do("contentCloseFile", 0),
			do("storageOpenCid", cellAt+400, 16), // no CID
		}
	})
	require.Equal(t, []uint32{0, 0, 0, 0, 98, 99, 0, 0, 8, 0, 0, 0, 0, 95, 0, 0, 96}, withoutEnd(e, 10, 12)[:17])
	require.EqualValues(t, 6, at)
	require.Equal(t, "hello there", text[100:111])
	require.Equal(t, "hello there", text[120:131])
	require.Equal(t, text[10:46], text[140:176])
	require.Contains(t, []uint32{19, 100}, e[17])

	// With a client, it is the same.
	e, at, text = h.tell(func(do func(string, ...any) call) []call {
		return []call{
			do("ipfsNewContent", 0, cellAt), // no client yet
			do("newIpfsClient", cellAt),
			do("ipfsNewContent", 0, cellAt),
			do("ipfsWriteFile", 0, 0, "hello", cellAt),
			do("ipfsSeekFile", 0, 0, int64(1), 0, cellAt),
			do("ipfsReadFile", 0, 0, textAt, 3, textAt+4),
			do("ipfsPushFile", 0, 0, textAt+10),
			do("ipfsOpenFile", 0, cellAt+400, textAt+10),
			do("ipfsReadFile", 0, 1, textAt+100, 20, textAt+4),
			do("ipfsFileCid", 0, 1, textAt+140),
			do("ipfsCloseFile", 0, 1),
			do("ipfsCloseFile", 0, 1),
			do("ipfsCloseFile", 1, 0),
			{"ipfsOpenFile", "iii:i", append([]any{0, cellAt + 400}, do("", string(elsewhere.Bytes())).args[0])}, // of others
		}
	})
	require.Equal(t, []uint32{10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 96, 10}, withoutEnd(e, 5, 8)[:13])
	require.EqualValues(t, 18, e[13])
	require.EqualValues(t, 1, at)
	require.Equal(t, "ell", text[:3])
	require.Equal(t, "hello", text[100:105])
	require.Equal(t, text[10:46], text[140:176])
}

func TestContentIsBounded(t *testing.T) {
	h := newHost(t)
	h.stores = newStores(t)
	e, _, _ := h.tell(func(do func(string, ...any) call) []call {
		return []call{
			do("storageNewContent", cellAt),
			do("contentSeekFile", 0, int64(16<<20-1), 0, cellAt), // far behind its end
			do("contentWriteFile", 0, "x", cellAt),
			do("contentWriteFile", 0, "x", cellAt),
			do("storageNewContent", cellAt),
			do("contentWriteFile", 1, "x", cellAt), // all together
			do("contentCloseFile", 0),
			do("contentWriteFile", 1, "x", cellAt),
			do("contentSeekFile", 1, int64(1<<40), 0, cellAt),
		}
	})
	require.Equal(t, []uint32{0, 0, 0, 95, 0, 95, 0, 0, 99}, e)
}

// Whatever a guest passes to stores that it has, the host does not panic.
func TestArbitraryArgumentsToStores(t *testing.T) {
	h := newHost(t)
	h.stores = newStores(t)
	random := rand.New(rand.NewPCG(3, 4))
	interesting := []any{0, 1, 2, 3, 4, 16, 100, cellAt, 65535, 65536, 1<<31 - 1, -1 << 31, -2, -1}
	var calls []call
	for name, typ := range names(t) {
		if !strings.HasPrefix(name, "storage") && !strings.HasPrefix(name, "content") && !strings.HasPrefix(name, "ipfs") && !strings.HasPrefix(name, "database") && !strings.Contains(name, "Global") {
			continue
		}
		params, _, _ := strings.Cut(typ, ":")
		for range 30 {
			c := call{name: name, typ: typ}
			for _, p := range params {
				if p == 'I' {
					c.args = append(c.args, random.Int64())
				} else {
					c.args = append(c.args, interesting[random.IntN(len(interesting))])
				}
			}
			calls = append(calls, c)
		}
	}
	random.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	for len(calls) > 0 {
		n := min(len(calls), 60)
		s := newScript()
		w := &words{s: s, next: 16}
		opened := []call{
			{"newDatabase", "iii:i", w.args("notes", cellAt)},
			{"storageNew", "iii:i", w.args("files", cellAt)},
			{"newIpfsClient", "i:i", []any{cellAt}},
			{"ipfsNewContent", "ii:i", []any{0, cellAt}},
			{"storageNewContent", "i:i", []any{cellAt}},
			{"storageAddFile", "iiiiiii:i", w.args(0, "f", cellAt, "content", 1)},
			{"storageGetFile", "iiiii:i", w.args(0, "f", 0, cellAt)},
		}
		s.answer(h, httptest.NewRequest("POST", "/", nil), 0, 0, append(opened, calls[:n]...)...)
		calls = calls[n:]
	}
	for line := range strings.Lines(h.log.String()) {
		require.NotContains(t, line, "call failed")
	}
}
