package monkey

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/mediatype"
	"github.com/taubyte/taubyte/internal/unixfs"
)

// Encodings of a website's files are made beside their publication. Which, and how well
// compressed, is told by the files alone: two workers make the same bytes. Their cost is
// bounded by sizes, since a bound in time would not be.
const (
	// encodersVersion is that of the libraries, in go.mod, and of what is below. Another
	// one makes other bytes.
	encodersVersion = "1"

	// minEncoded and maxEncoded are the sizes of files that are compressed. What is smaller
	// fits into a packet or two as it is; what is larger is in memory whole.
	minEncoded = 1 << 10
	maxEncoded = 8 << 20
	// mostEncoded bounds the files of one site that are compressed: the smallest first,
	// which are the pages, scripts and styles that everybody loads.
	mostEncoded = 128 << 20
	// wellEncoded is what all of them may have for those of up to 1 MiB to be compressed
	// well, at about 4 MB/s; else it is done quickly, at about 20 MB/s.
	wellEncoded     = 16 << 20
	wellEncodedFile = 1 << 20
	// sampled is how much of a file is tried before the whole of it is compressed.
	sampled = 32 << 10
)

// pays reports whether an encoding is worth keeping: it saves a tenth.
func pays(encoded, plain int) bool { return encoded <= plain-(plain+9)/10 }

// An encoder makes one encoding of a content. It is for one goroutine.
type encoder struct {
	suffix string
	encode func(to *bytes.Buffer, content []byte, well bool) error
}

// newEncoders returns one of each encoding.
func newEncoders() ([]encoder, error) {
	var quickZstd, wellZstd *zstd.Encoder
	for level, e := range map[zstd.EncoderLevel]**zstd.Encoder{zstd.SpeedDefault: &quickZstd, zstd.SpeedBestCompression: &wellZstd} {
		var err error
		// Browsers take windows of up to 8 MiB (RFC 9659).
		*e, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(4<<20), zstd.WithEncoderCRC(false))
		if err != nil {
			return nil, err
		}
	}
	stream := func(w io.WriteCloser, content []byte) error {
		if _, err := w.Write(content); err != nil {
			return err
		}
		return w.Close()
	}
	const quick, best = 5, 9
	quickBrotli, wellBrotli := brotli.NewWriterLevel(nil, quick), brotli.NewWriterLevel(nil, best)
	return []encoder{
		{".br", func(to *bytes.Buffer, content []byte, well bool) error {
			w, level := quickBrotli, quick
			if well {
				w, level = wellBrotli, best
			}
			// A writer keeps its tables, of up to 32 MiB, for small contents. For large ones it
			// would choose others if it had none yet, and so make other bytes.
			if len(content) < 1<<20 {
				w.Reset(to)
			} else {
				w = brotli.NewWriterLevel(to, level)
			}
			return stream(w, content)
		}},
		{".zst", func(to *bytes.Buffer, content []byte, well bool) error {
			e := quickZstd
			if well {
				e = wellZstd
			}
			to.Write(e.EncodeAll(content, nil))
			return nil
		}},
		{".gz", func(to *bytes.Buffer, content []byte, well bool) error {
			level := gzip.DefaultCompression
			if well {
				level = gzip.BestCompression
			}
			w, err := gzip.NewWriterLevel(to, level)
			if err != nil {
				return err
			}
			return stream(w, content)
		}},
	}, nil
}

// isShipped reports whether the author has any encoding of a file beside it. Then there is
// no other: the author has decided which.
func isShipped(all map[string]int64, name string) bool {
	return slices.ContainsFunc([]string{".br", ".zst", ".gz"}, func(suffix string) bool {
		_, ok := all[name+suffix]
		return ok
	})
}

// A file of a website that may be worth compressing.
type encodable struct {
	name string
	size int64
	well bool
	key  string            // of what is remembered of it
	has  []string          // the suffixes of its encodings
	at   map[string]string // the files that hold them, by suffix
}

// encodables chooses from the entries of a website, with the sizes of files, and -1 for
// folders.
func encodables(all map[string]int64) []*encodable {
	var files []*encodable
	for name, size := range all {
		if size >= minEncoded && size <= maxEncoded && mediatype.Compressible(mediatype.Of(name)) && !isShipped(all, name) {
			files = append(files, &encodable{name: name, size: size})
		}
	}
	slices.SortFunc(files, func(a, b *encodable) int {
		return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.name, b.name))
	})
	total := int64(0)
	for i, f := range files {
		if total+f.size > mostEncoded {
			files = files[:i]
			break
		}
		total += f.size
	}
	for _, f := range files {
		f.well = total <= wellEncoded && f.size <= wellEncodedFile
	}
	return files
}

// encodings makes the tree of encodings of a website's files, cid.Undef where there are
// none. What was made of the same content for an earlier build is taken from there.
func (b *build) encodings(ctx context.Context, n int, out tree, all map[string]int64) (cid.Cid, error) {
	files := encodables(all)
	if len(files) == 0 {
		return cid.Undef, nil
	}
	name := fmt.Sprintf("encoded%d", n)
	if err := b.root.Mkdir(name, 0o700); err != nil {
		return cid.Undef, ours(fmt.Errorf("making a folder for encodings: %w", err))
	}
	to, err := b.root.OpenRoot(name)
	if err != nil {
		return cid.Undef, ours(fmt.Errorf("making a folder for encodings: %w", err))
	}
	defer to.Close()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next sync.Mutex
	taken := 0
	take := func() (int, *encodable) {
		next.Lock()
		defer next.Unlock()
		if taken == len(files) || ctx.Err() != nil {
			return 0, nil
		}
		taken++
		return taken - 1, files[taken-1]
	}
	var wg sync.WaitGroup
	for range max(1, runtime.GOMAXPROCS(0)/2) { // the site is hashed and written beside it
		wg.Go(func() {
			if err := b.encodeAll(ctx, out, to, take); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return cid.Undef, context.Cause(ctx)
	}
	made := newEncodedFS(to, files)
	root := cid.Undef
	if len(made.names) > 0 {
		if root, err = unixfs.AddFS(ctx, b.s.host.Blocks(), made); err != nil {
			return cid.Undef, err
		}
	}
	return root, ours(b.s.cache.putEncoded(ctx, root, files))
}

func (b *build) encodeAll(ctx context.Context, out tree, to *os.Root, take func() (int, *encodable)) (err error) {
	encoders, err := newEncoders()
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	for {
		i, f := take()
		if f == nil {
			return nil
		}
		if err := b.encode(ctx, encoders, &buf, out, to, fmt.Sprint(i), f); err != nil {
			return fmt.Errorf("compressing %s: %w", f.name, err)
		}
	}
}

// encode makes what pays of the encodings of one file, or copies what was made before.
func (b *build) encode(ctx context.Context, encoders []encoder, buf *bytes.Buffer, out tree, to *os.Root, as string, f *encodable) (err error) {
	defer func() { // of a library, for some content
		if r := recover(); r != nil {
			err = fmt.Errorf("the compressor failed: %v", r)
		}
	}()
	in, err := out.Open(f.name)
	if err != nil {
		return err
	}
	defer in.Close()
	content, err := io.ReadAll(io.LimitReader(in, maxEncoded+1))
	if err != nil || len(content) > maxEncoded {
		return err
	}
	f.key = encodedKey(b.job.Project, content, f.well)
	f.at = map[string]string{}
	keep := func(suffix string, encoded []byte) error {
		name := as + suffix
		if err := (tree{root: to, dir: "."}).create(name, encoded); err != nil {
			return ours(err)
		}
		f.has, f.at[suffix] = append(f.has, suffix), name
		return nil
	}
	if known, ok := b.s.cache.getEncoded(ctx, f.key); ok {
		for _, e := range encoders {
			if encoded, ok := known[e.suffix]; ok {
				if err := keep(e.suffix, encoded); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if len(content) > 2*sampled {
		buf.Reset()
		head := content[len(content)/2 : len(content)/2+sampled]
		if err := encoders[1].encode(buf, head, false); err != nil {
			return err
		}
		if !pays(buf.Len(), len(head)) {
			return nil
		}
	}
	for _, e := range encoders {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		buf.Reset()
		if err := e.encode(buf, content, f.well); err != nil {
			return err
		}
		if !pays(buf.Len(), len(content)) {
			continue
		}
		if err := keep(e.suffix, buf.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// encodedKey names what is made of a content, for one project: what one builds is not
// told to another.
func encodedKey(project taubyte.ProjectID, content []byte, well bool) string {
	h := sha256.New()
	fmt.Fprintf(h, "encodings %s;%d:%s;%v;", encodersVersion, len(project), project, well)
	sum := sha256.Sum256(content)
	h.Write(sum[:])
	return "encoded-" + hex.EncodeToString(h.Sum(nil))
}

// encodedFS is the tree of encodings: the names are those of a website's files, and the
// contents are in one folder.
type encodedFS struct {
	in    *os.Root
	names map[string]string        // of the files in the folder, by their place in the tree
	dirs  map[string][]fs.DirEntry // sorted by name
}

var _ fs.ReadDirFS = (*encodedFS)(nil)

func newEncodedFS(in *os.Root, files []*encodable) *encodedFS {
	t := &encodedFS{in: in, names: map[string]string{}, dirs: map[string][]fs.DirEntry{}}
	var add func(name string, dir bool)
	add = func(name string, dir bool) {
		parent := path.Dir(name)
		if _, ok := t.dirs[parent]; !ok && parent != "." {
			t.dirs[parent] = nil
			add(parent, true)
		}
		t.dirs[parent] = append(t.dirs[parent], encodedEntry{path.Base(name), dir})
	}
	for _, f := range files {
		for suffix, at := range f.at {
			t.names[f.name+suffix] = at
			add(f.name+suffix, false)
		}
	}
	for _, entries := range t.dirs {
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return t
}

// Open implements fs.FS, for files.
func (t *encodedFS) Open(name string) (fs.File, error) {
	at, ok := t.names[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return t.in.Open(at)
}

// ReadDir implements fs.ReadDirFS.
func (t *encodedFS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, ok := t.dirs[name]
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	return entries, nil
}

type encodedEntry struct {
	name string
	dir  bool
}

func (e encodedEntry) Name() string { return e.name }
func (e encodedEntry) IsDir() bool  { return e.dir }

func (e encodedEntry) Type() fs.FileMode {
	if e.dir {
		return fs.ModeDir
	}
	return 0
}

// Info implements fs.DirEntry. Nothing asks for it.
func (e encodedEntry) Info() (fs.FileInfo, error) { return nil, fs.ErrInvalid }

// getEncoded returns the encodings that were made of a content, by their suffixes.
func (c *cache) getEncoded(ctx context.Context, key string) (map[string][]byte, bool) {
	e, ok := c.entry(ctx, key)
	if !ok {
		return nil, false
	}
	all := map[string][]byte{}
	if len(e.Has) == 0 {
		return all, true
	}
	root, err := cid.Decode(e.Root)
	if err != nil {
		return nil, false
	}
	for _, suffix := range e.Has {
		f, err := unixfs.Open(ctx, c.blocks, root, e.Name+suffix)
		if err != nil {
			return nil, false
		}
		encoded, err := io.ReadAll(io.LimitReader(f, maxEncoded))
		_ = f.Close()
		if err != nil {
			return nil, false
		}
		all[suffix] = encoded
	}
	return all, true
}

// putEncoded remembers where the encodings of a website's files are, in the place of where
// they were: the older tree goes with its deployments.
func (c *cache) putEncoded(ctx context.Context, root cid.Cid, files []*encodable) error {
	batch, err := c.store.Batch(ctx)
	if err != nil {
		return fmt.Errorf("remembering encodings: %w", err)
	}
	now := time.Now().UTC()
	for _, f := range files {
		if f.key == "" {
			continue
		}
		e := cacheEntry{Name: f.name, Has: f.has, Used: now}
		if root.Defined() {
			e.Root = root.String()
		}
		if err := c.write(ctx, batch, f.key, e); err != nil {
			return err
		}
	}
	if err := batch.Commit(ctx); err != nil {
		return fmt.Errorf("remembering encodings: %w", err)
	}
	return nil
}
