package hoarder

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/unixfs"
)

// version is a File as the replicas keep it.
type version struct {
	File
	Nonce string `json:"nonce"`
	key   string
}

func decodeVersion(value []byte) (v version, err error) {
	if err = json.Unmarshal(value, &v); err != nil {
		return v, fmt.Errorf("%w record of a file: %w", taubyte.ErrInvalid, err)
	}
	if v.Size < 0 || checkRoot(v.CID) != nil {
		return v, fmt.Errorf("%w record of the file %.100q", taubyte.ErrInvalid, v.Name)
	}
	return v, nil
}

func newNonce() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func fileDir(name string) string { return files + "/" + hex.EncodeToString([]byte(name)) }

func versionKey(name string, n uint32, nonce string) string {
	return fmt.Sprintf("%s/%010d/%s", fileDir(name), n, nonce)
}

// versions reads the versions of a file, or of all files where name is empty, by name
// and version, without what has expired.
func (r *replica) versions(ctx context.Context, name string) ([]version, error) {
	prefix := files
	if name != "" {
		prefix = fileDir(name)
	}
	all, err := r.records(ctx, prefix, nil)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	sp := r.spec
	r.mu.Unlock()
	return unexpired(settleVersions(all, sp), sp, time.Now()), nil
}

// records returns the records below a prefix, with the changes of t if there is one.
func (r *replica) records(ctx context.Context, prefix string, t *tx) ([]version, error) {
	var all []version
	add := func(key string, value []byte) error {
		v, err := decodeVersion(value)
		v.key = key
		all = append(all, v)
		return err
	}
	res, err := r.data.Query(ctx, query.Query{Prefix: prefix})
	if err != nil {
		return nil, err
	}
	defer res.Close()
	for e := range res.Next() {
		if e.Error != nil {
			return nil, e.Error
		}
		if t != nil {
			if _, changed := t.values[e.Key]; changed {
				continue
			}
		}
		if err := add(e.Key, e.Value); err != nil {
			return nil, err
		}
	}
	if t == nil {
		return all, nil
	}
	for key, value := range t.values {
		if value != nil && strings.HasPrefix(key, prefix+"/") {
			if err := add(key, value); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// settleVersions numbers versions as every replica does. Two that were added at once
// have one number: the second, by time and then nonce, and those behind it move up.
func settleVersions(all []version, sp spec) []version {
	slices.SortFunc(all, func(a, b version) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		if a.Version != b.Version && sp.Versioning {
			return int(int64(a.Version) - int64(b.Version))
		}
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Nonce, b.Nonce)
	})
	out := all[:0:0]
	for i, v := range all {
		switch {
		case !sp.Versioning:
			if i+1 < len(all) && all[i+1].Name == v.Name {
				continue // the last one is the file
			}
			v.Version = 1
		case i > 0 && all[i-1].Name == v.Name && v.Version <= all[i-1].Version:
			v.Version = all[i-1].Version + 1
			all[i].Version = v.Version
		}
		out = append(out, v)
	}
	return out
}

func unexpired(all []version, sp spec, now time.Time) []version {
	if sp.TTL == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(v version) bool { return !now.Before(v.Time.Add(sp.TTL)) })
}

// pick returns a version of a file, 0 being the latest.
func pick(all []version, n uint32) (version, error) {
	if n == 0 && len(all) > 0 {
		return all[len(all)-1], nil
	}
	for _, v := range all {
		if v.Version == n {
			return v, nil
		}
	}
	return version{}, fmt.Errorf("%w: no such file", taubyte.ErrNotFound)
}

func (s *Service) stat(ctx context.Context, r ref, after position, name string, n uint32) (f File, err error) {
	if err := checkKey("name", name); err != nil {
		return f, err
	}
	err = s.reading(ctx, r, kindStorage, after, false, func(rep *replica) error {
		all, err := rep.versions(ctx, name)
		if err != nil {
			return err
		}
		v, err := pick(all, n)
		f = v.File
		return err
	})
	return f, err
}

// content reads from the node's own disk.
func (s *Service) content(ctx context.Context, r ref, after position, f File, from int64) (content io.ReadCloser, err error) {
	err = s.reading(ctx, r, kindStorage, after, false, func(rep *replica) error {
		all, err := rep.versions(ctx, f.Name)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(v version) bool { return v.CID == f.CID })
		if i < 0 {
			return fmt.Errorf("%w: no such version any more", taubyte.ErrNotFound)
		}
		if err := rep.waitFor(ctx, all[i].key, s.o.reach); err != nil {
			return err
		}
		file, err := unixfs.Open(ctx, blockservice.New(s.host.Blocks().Blockstore(), nil), f.CID, "")
		if err != nil {
			return err
		}
		if _, err := file.Seek(from, io.SeekStart); err != nil {
			_ = file.Close()
			return err
		}
		content = file
		return nil
	})
	return content, err
}

func (s *Service) files(ctx context.Context, r ref, after position, name string) (fs []File, err error) {
	if name != "" {
		if err := checkKey("name", name); err != nil {
			return nil, err
		}
	}
	fs = []File{}
	err = s.reading(ctx, r, kindStorage, after, true, func(rep *replica) error {
		all, err := rep.versions(ctx, name)
		for _, v := range all {
			fs = append(fs, v.File)
		}
		return err
	})
	return fs, err
}

// add has the content read by the caller's goroutine, who alone waits when its reader
// does: the service's own can end at any time.
func (s *Service) add(ctx context.Context, r ref, after position, a addition, content io.Reader) (w written, err error) {
	if err := checkKey("name", a.name); err != nil {
		return w, err
	}
	if _, err := hex.DecodeString(a.nonce); err != nil || len(a.nonce) != 24 {
		return w, fmt.Errorf("%w nonce", taubyte.ErrInvalid)
	}
	out, in := io.Pipe()
	done := make(chan struct{})
	s.mu.Lock()
	if s.life.Err() != nil {
		s.mu.Unlock()
		return w, taubyte.ErrClosed
	}
	s.wg.Go(func() {
		defer close(done)
		err = s.with(ctx, r, kindStorage, after, func(rep *replica) error {
			stop := context.AfterFunc(rep.taking, func() { _ = out.CloseWithError(errElsewhere) })
			defer stop()
			w, err = rep.add(ctx, a, out)
			return err
		})
		_ = out.CloseWithError(io.ErrClosedPipe) // whatever came, no more is read
	})
	s.mu.Unlock()
	_, broke := io.CopyBuffer(in, struct{ io.Reader }{content}, make([]byte, 256<<10))
	if errors.Is(broke, io.ErrClosedPipe) {
		broke = nil
	}
	if broke == nil {
		_ = in.Close()
	} else {
		_ = in.CloseWithError(broke)
	}
	<-done
	return w, err
}

// wouldAdd returns the error that an addition has for sure.
func (s *Service) wouldAdd(ctx context.Context, r ref, after position, a addition) error {
	if err := checkKey("name", a.name); err != nil {
		return err
	}
	return s.reading(ctx, r, kindStorage, after, false, func(rep *replica) error {
		_, _, err := rep.before(ctx, a)
		return err
	})
}

// before looks at what an addition finds: the file that it made already, if the call
// came before, and how many bytes it takes the place of.
func (r *replica) before(ctx context.Context, a addition) (*version, int64, error) {
	old, err := r.versions(ctx, a.name)
	if err != nil || len(old) == 0 {
		return nil, 0, err
	}
	r.mu.Lock()
	versioning := r.spec.Versioning
	r.mu.Unlock()
	last := old[len(old)-1]
	switch {
	case last.Nonce == a.nonce:
		return &last, 0, nil
	case a.overwrite:
		return nil, last.Size, nil
	case !versioning:
		return nil, 0, fmt.Errorf("%w: %.100q", ErrExists, a.name)
	}
	return nil, 0, nil
}

// add stores the content's blocks and then, in one commit, makes them a file. It waits
// until as many others have the content as are wanted, or say that they can't.
func (r *replica) add(ctx context.Context, a addition, content io.Reader) (written, error) {
	f, key, seq, disks, err := r.store(ctx, a, content)
	if err != nil {
		return written{}, err
	}
	w := r.answer(seq, disks)
	w.File = f
	if key != "" && disks > 1 {
		w.Copies.Disks = min(disks, r.contentConfirmed(ctx, key, f.Size, w.Copies.Wanted))
	}
	return w, nil
}

// store returns the file and the key of its record.
func (r *replica) store(ctx context.Context, a addition, content io.Reader) (f File, key string, seq uint64, disks int, err error) {
	there, freed, err := r.before(ctx, a)
	if err != nil {
		return f, "", 0, 0, err
	}
	if there != nil { // by a call that was not answered
		disks, err := r.settled(ctx)
		r.mu.Lock()
		seq = r.marks[r.s.host.ID()].seq
		r.mu.Unlock()
		return there.File, there.key, seq, disks, err
	}
	up := r.s.beginUpload()
	in := &counted{r: r, from: content, free: freed}
	defer in.end()
	root, err := unixfs.AddFile(ctx, up.blocks(), in)
	if err == nil {
		err = ctx.Err()
	}
	if in.err != nil { // some errors of readers pass for the end of the content
		err = in.err
	}
	if err != nil {
		up.abort()
		return f, "", 0, 0, err
	}
	// The file's record is there before its blocks lose their protection.
	release, err := r.s.holds.hold(ctx, short)
	if err != nil {
		up.abort()
		return f, "", 0, 0, err
	}
	defer release()
	f = File{Name: a.name, Size: in.n, CID: root, Time: time.Now().UTC().Truncate(time.Millisecond)}
	seq, disks, err = r.change(context.WithoutCancel(ctx), func(t *tx) (err error) {
		key, err = r.addVersion(t, a, &f)
		return err
	})
	if err != nil && !errors.Is(err, errUnconfirmed) {
		if key != "" {
			_ = r.s.releaseFile(context.WithoutCancel(ctx), r.ref, key)
		}
		up.abort()
		return f, "", 0, 0, err
	}
	in.kept = true
	up.done()
	return f, key, seq, disks, err
}

// addVersion is the change that makes a file of blocks. It returns the key of the
// record that it has made of them in the node's store.
func (r *replica) addVersion(t *tx, a addition, f *File) (string, error) {
	gone, err := r.records(t.ctx, fileDir(a.name), t)
	if err != nil {
		return "", err
	}
	all := settleVersions(gone, t.spec)
	there := unexpired(all, t.spec, f.Time)
	f.Version = 1
	switch {
	case !t.spec.Versioning && len(there) > 0 && !a.overwrite:
		return "", fmt.Errorf("%w: %.100q", ErrExists, a.name)
	case !t.spec.Versioning: // all records go, concurrent ones too
	case a.overwrite && len(there) > 0:
		gone = there[len(there)-1:]
		f.Version = gone[0].Version
	default:
		gone = nil
		if len(all) > 0 {
			f.Version = all[len(all)-1].Version + 1
		}
	}
	if t.total.items >= maxVersions {
		return "", fmt.Errorf("%w: it has %d files", ErrFull, t.total.items)
	}
	for _, v := range gone {
		if err := t.remove(v.key); err != nil {
			return "", err
		}
	}
	key := versionKey(a.name, f.Version, a.nonce)
	value, err := json.Marshal(version{File: *f, Nonce: a.nonce})
	if err != nil {
		return "", err
	}
	if err := t.set(key, nil, value); err != nil {
		return "", err
	}
	return key, r.s.keepFile(t.ctx, r.ref, key, f.CID, f.Size)
}

// counted bounds what is read of a content by the room of the store and of the node.
type counted struct {
	r    *replica
	from io.Reader
	free int64 // what the file takes the place of
	n    int64
	err  error
	kept bool
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	if n > 0 {
		if full := c.take(int64(n)); full != nil {
			c.err = full
			return 0, full
		}
	}
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		c.err = fmt.Errorf("the content broke off after %d bytes: %w", c.n, err)
		err = c.err
	}
	return n, err
}

func (c *counted) take(n int64) error {
	c.r.mu.Lock()
	total := c.r.total().bytes
	if total+c.r.coming+n-c.free > c.r.spec.Size {
		c.r.mu.Unlock()
		return fmt.Errorf("%w: %d of %d bytes are used", ErrFull, total, c.r.spec.Size)
	}
	c.r.coming += n
	c.r.mu.Unlock()
	c.n += n
	return c.r.s.space.take(n)
}

func (c *counted) end() {
	c.r.mu.Lock()
	c.r.coming -= c.n
	c.r.mu.Unlock()
	if !c.kept {
		c.r.s.space.give(c.n)
	}
}

func (s *Service) removeFile(ctx context.Context, r ref, after position, name string, n uint32, all bool) (w written, err error) {
	if err := checkKey("name", name); err != nil {
		return w, err
	}
	err = s.with(ctx, r, kindStorage, after, func(rep *replica) error {
		seq, disks, err := rep.change(ctx, func(t *tx) error {
			records, err := rep.records(t.ctx, fileDir(name), t)
			if err != nil {
				return err
			}
			there := unexpired(settleVersions(records, t.spec), t.spec, time.Now())
			gone := records
			if len(there) == 0 {
				return fmt.Errorf("%w: no such file", taubyte.ErrNotFound)
			}
			if !all && t.spec.Versioning {
				v, err := pick(there, n)
				if err != nil {
					return err
				}
				gone = []version{v}
			} else if !all && n > 1 {
				return fmt.Errorf("%w: no such version", taubyte.ErrNotFound)
			}
			for _, v := range gone {
				if err := t.remove(v.key); err != nil {
					return err
				}
			}
			return nil
		})
		w = rep.answer(seq, disks)
		if errors.Is(err, taubyte.ErrNotFound) && s.inDoubt(rep.h) {
			err = fmt.Errorf("store %s: %w", r, errDoubt)
		}
		return err
	})
	return w, err
}
