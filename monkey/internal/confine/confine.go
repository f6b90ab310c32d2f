// Package confine has what the environments that confine builds have in common.
package confine

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A Turn lets commands run one at a time, until Close.
type Turn struct {
	mu   sync.Mutex
	life context.Context
	end  context.CancelCauseFunc
}

var errClosed = errors.New("the session of the build is closed")

// NewTurn returns an open Turn.
func NewTurn() *Turn {
	t := &Turn{}
	t.life, t.end = context.WithCancelCause(context.Background())
	return t
}

// Begin waits for a command's turn, which is over with done. The context ends with Close.
func (t *Turn) Begin(ctx context.Context) (_ context.Context, done func(), _ error) {
	t.mu.Lock()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(t.life, func() { cancel(context.Cause(t.life)) })
	done = func() {
		stop()
		cancel(nil)
		t.mu.Unlock()
	}
	if t.life.Err() != nil || ctx.Err() != nil {
		err := context.Cause(ctx)
		if t.life.Err() != nil {
			err = context.Cause(t.life)
		}
		done()
		return nil, nil, err
	}
	return ctx, done, nil
}

// Close ends what runs, and waits for it.
func (t *Turn) Close() error {
	t.end(errClosed)
	t.mu.Lock()
	defer t.mu.Unlock()
	return nil
}

// Users for builds, where the node is root: numbers that no system gives to anybody.
const (
	firstUser = 0x70000000
	users     = 1 << 20
)

// User is the number of the user that an owner's commands run as.
func User(owner string) int {
	sum := fnv.New32a()
	_, _ = io.WriteString(sum, owner)
	return int(firstUser + sum.Sum32()%users)
}

// Room is the limit of a session's folders: limit, which is 0 for none, and no more than
// half of what is free in each of them.
func Room(limit int64, dirs []string) int64 {
	if limit == 0 {
		return 0
	}
	for _, dir := range dirs {
		if usage, err := vfs.Default.GetDiskUsage(dir); err == nil {
			limit = min(limit, int64(usage.AvailBytes/2))
		}
	}
	return limit
}

// A Disk watches how much is in folders.
type Disk struct {
	Dirs  []string
	Bytes int64 // the limit; 0 is no limit

	next time.Time
}

// What folders may hold besides: several times what is taken of a source or a result.
const (
	mostEntries = 1_000_000
	mostDepth   = 256
)

// share is a part of the time that is taken to look: 1 to this.
const share = 20

var errOver = errors.New("over the limit")

// Over says which limit is passed, "" for none, or when it was looked at a moment ago. held
// are bytes that have no name in a folder.
func (d *Disk) Over(ctx context.Context, held int64) string {
	if d.Bytes == 0 || time.Now().Before(d.next) {
		return ""
	}
	began := time.Now()
	limit := d.look(ctx, held)
	d.next = time.Now().Add(share * time.Since(began))
	return limit
}

func (d *Disk) look(ctx context.Context, held int64) string {
	bytes, entries, limit := held, 0, ""
	for _, dir := range d.Dirs {
		root, err := os.OpenRoot(dir)
		if err != nil {
			continue
		}
		_ = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return nil // it is gone, or closed to us
			}
			entries++
			if info, err := e.Info(); err == nil {
				bytes += taken(info)
			}
			switch {
			case bytes > d.Bytes:
				limit = fmt.Sprintf("more than %d bytes of disk", d.Bytes)
			case entries > mostEntries:
				limit = fmt.Sprintf("more than %d files and folders", mostEntries)
			case strings.Count(name, "/") > mostDepth:
				limit = fmt.Sprintf("folders nested more than %d deep", mostDepth)
			default:
				return nil
			}
			return errOver
		})
		_ = root.Close()
		if limit != "" {
			return limit
		}
	}
	if bytes > d.Bytes {
		return fmt.Sprintf("more than %d bytes of disk", d.Bytes)
	}
	return ""
}
