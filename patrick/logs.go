package patrick

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/unixfs"
)

// attemptID names an attempt.
type attemptID struct {
	job   taubyte.JobID
	fence uint64
}

// logBuffer is the log of a running attempt. Its pieces are also in the node's own
// store, at /log/<job>/<fence>/<number>, so that a crash loses none.
type logBuffer struct {
	began  time.Time
	adding sync.Mutex // one writer at a time

	// Under the service's mu:
	data   []byte // only grows, so that readers may hold a part of it
	pieces int
	full   bool
	closed bool
	more   chan struct{} // closed at the next change
}

func (b *logBuffer) changed() {
	close(b.more)
	b.more = make(chan struct{})
}

const maxLogCall = 256 << 10

func checkLog(lines []byte) error {
	if len(lines) > maxLogCall {
		return fmt.Errorf("%w: %d bytes of log at once", taubyte.ErrTooLarge, len(lines))
	}
	return nil
}

func (a attemptID) prefix() string { return fmt.Sprintf("/log/%s/%020d", a.job, a.fence) }

func (a attemptID) piece(n int) ds.Key {
	return ds.RawKey(fmt.Sprintf("%s/%08d", a.prefix(), n))
}

// buffer returns an attempt's log, under mu.
func (s *Service) buffer(a attemptID) *logBuffer {
	b := s.logs[a]
	if b == nil {
		b = &logBuffer{began: time.Now().UTC(), more: make(chan struct{})}
		s.logs[a] = b
	}
	return b
}

// Log adds lines to the log of the calling worker's attempt. What is beyond the
// limit is dropped, which the log says.
func (s *Service) Log(ctx context.Context, l Lease, lines []byte) error {
	return s.addLog(ctx, s.here(l), lines, true)
}

func (s *Service) addLog(ctx context.Context, l leaseID, lines []byte, forward bool) error {
	if err := allowLease(ctx, l); err != nil {
		return err
	}
	if err := checkLog(lines); err != nil {
		return err
	}
	a := attemptID{l.job, l.fence}
	var b *logBuffer
	err := s.withLease(ctx, l, forward, func(ctx context.Context, p peer.ID) error {
		resp, err := s.peers.Open(ctx, p, http.MethodPost, leasePath(l, "log", true), bytes.NewReader(lines))
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}, func() error {
		if _, err := s.holds(ctx, l); err != nil {
			return err
		}
		s.index.timing.Hear(l.job, l.fence, time.Now())
		b = s.buffer(a)
		return nil
	})
	if err != nil || b == nil {
		return err
	}
	return s.append(ctx, a, b, lines)
}

func (s *Service) append(ctx context.Context, a attemptID, b *logBuffer, lines []byte) error {
	b.adding.Lock()
	defer b.adding.Unlock()
	s.mu.Lock()
	if b.closed || b.full || len(lines) == 0 {
		s.mu.Unlock()
		return nil
	}
	full := len(b.data)+len(lines) > s.opts.logLimit
	if full {
		room := s.opts.logLimit - len(b.data)
		lines = append(slices.Clone(lines[:room]), fmt.Sprintf("\n… the log is cut off here: it is longer than %d bytes\n", s.opts.logLimit)...)
	}
	piece := b.pieces
	s.mu.Unlock()
	if err := s.own.Put(ctx, a.piece(piece), lines); err != nil {
		return fmt.Errorf("keeping the log of job %s: %w", a.job, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.data = append(b.data, lines...)
	b.pieces++
	b.full = full
	b.changed()
	return nil
}

// loadLogs finds the logs of attempts that were running when the node stopped.
func (s *Service) loadLogs(ctx context.Context) error {
	res, err := s.own.Query(ctx, query.Query{Prefix: "/log", Orders: []query.Order{query.OrderByKey{}}})
	if err != nil {
		return fmt.Errorf("reading logs: %w", err)
	}
	defer res.Close()
	for r := range res.Next() {
		if r.Error != nil {
			return fmt.Errorf("reading logs: %w", r.Error)
		}
		parts := strings.Split(r.Key, "/") // "", log, job, fence, number
		if len(parts) != 5 {
			continue
		}
		fence, err := strconv.ParseUint(parts[3], 10, 64)
		if err != nil {
			continue
		}
		b := s.buffer(attemptID{taubyte.JobID(parts[2]), fence})
		b.data = append(b.data, r.Value...)
		b.pieces++
		b.full = len(b.data) > s.opts.logLimit
	}
	return ctx.Err()
}

// sealLog makes content of what this node has of an attempt's log; nil where it has
// nothing. Nothing is added after it.
func (s *Service) sealLog(ctx context.Context, a attemptID) (*logPart, error) {
	s.mu.Lock()
	b := s.logs[a]
	s.mu.Unlock()
	if b == nil {
		return nil, nil
	}
	b.adding.Lock()
	defer b.adding.Unlock()
	s.mu.Lock()
	b.closed = true
	data := b.data
	s.mu.Unlock()
	root, err := unixfs.AddFile(ctx, s.blocks, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return &logPart{CID: root.String(), Began: b.began}, nil
}

// dropLog forgets a log that was sealed and is recorded.
func (s *Service) dropLog(ctx context.Context, a attemptID) {
	s.mu.Lock()
	b := s.logs[a]
	delete(s.logs, a)
	if b != nil {
		b.changed()
	}
	s.mu.Unlock()
	if b == nil {
		return
	}
	for n := range b.pieces {
		if err := s.own.Delete(ctx, a.piece(n)); err != nil {
			s.log.Warn("log not removed", "job", a.job, "err", err)
			return
		}
	}
}

// sealOrphans keeps the logs of attempts that another node ended.
func (s *Service) sealOrphans() {
	s.mu.Lock()
	var over []attemptID
	for a := range s.logs {
		e := s.index.all[a.job]
		if e == nil || e.spec == nil {
			continue // its records are on their way
		}
		last, _ := e.history.Newest()
		if _, ended := e.history.End(a.fence); ended || last.Fence > a.fence || e.job.State.Done() {
			over = append(over, a)
		}
	}
	s.mu.Unlock()
	for _, a := range over {
		part, err := s.sealLog(s.life, a)
		if err == nil && part != nil {
			err = s.write(s.life, map[ds.Key]any{jobKey(a.job, "log", a.fence, s.host.ID()): *part})
		}
		if err != nil {
			if s.life.Err() == nil {
				s.log.Warn("log not kept", "job", a.job, "err", err)
			}
			return
		}
		s.dropLog(s.life, a)
	}
}

// Logs returns what an attempt of a job has logged; attempt 0 is the newest. With
// follow the reader goes on, waiting for the attempt to begin if none has, until it
// ends. The caller closes it. It takes the verb read on the job's project, or a node of
// the roles auth, patrick or monkey.
func (s *Service) Logs(ctx context.Context, id taubyte.JobID, attempt int, follow bool) (io.ReadCloser, error) {
	if _, err := s.Job(ctx, id); err != nil {
		return nil, err
	}
	for {
		e, err := s.find(ctx, id)
		if err != nil {
			return nil, err
		}
		grants := e.history.Grants()
		n := len(grants)
		wait := s.more
		if n > 0 && attempt <= n {
			a := grants[n-1]
			if attempt > 0 {
				a = grants[attempt-1]
			}
			s.mu.Unlock()
			return s.read(ctx, attemptID{id, a.Fence}, follow, true)
		}
		done := e.job.State.Done()
		s.mu.Unlock()
		if !follow || done {
			return nil, fmt.Errorf("%w: attempt %d of job %s: it has had %d", taubyte.ErrNotFound, attempt, id, n)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.life.Done():
			return nil, fmt.Errorf("patrick: %w", taubyte.ErrClosed)
		}
	}
}

// read opens an attempt's log: as it was kept, as this node has it, or as the node
// has it that looks after the lease.
func (s *Service) read(ctx context.Context, a attemptID, follow, forward bool) (io.ReadCloser, error) {
	p := s.keeper(leaseID{job: a.job, fence: a.fence}, s.live())
	elsewhere := forward && p != s.host.ID() // or two nodes could ask each other for ever
	s.mu.Lock()
	e := s.index.all[a.job]
	var parts []logPart
	for _, p := range e.logs[a.fence] {
		parts = append(parts, p)
	}
	b := s.logs[a]
	running := e.running(a.fence)
	if b == nil && running && !elsewhere {
		b = s.buffer(a) // the worker has not said anything yet
	}
	s.mu.Unlock()
	slices.SortFunc(parts, func(x, y logPart) int {
		return cmp.Or(x.Began.Compare(y.Began), cmp.Compare(x.CID, y.CID))
	})
	if b == nil && running && elsewhere && len(parts) == 0 {
		resp, err := s.peers.Open(ctx, p, http.MethodGet, fmt.Sprintf("/jobs/%s/logs?fence=%d&follow=%t", a.job, a.fence, follow), nil)
		if err == nil {
			return resp.Body, nil
		}
		if ctx.Err() != nil || !away(err) {
			return nil, err
		}
		s.suspect(p, err)
		return s.read(ctx, a, follow, forward) // of the next that looks after it
	}
	var readers []io.Reader
	var files []io.Closer
	for _, p := range parts {
		root, err := cid.Decode(p.CID)
		if err != nil {
			continue
		}
		f, err := unixfs.Open(ctx, s.blocks, root, "")
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return nil, fmt.Errorf("log of job %s: %w", a.job, err)
		}
		readers, files = append(readers, f), append(files, f)
	}
	live, cancel := context.WithCancel(ctx)
	if b != nil {
		readers = append(readers, &liveLog{ctx: live, s: s, a: a, b: b, follow: follow})
	}
	return &logReader{Reader: io.MultiReader(readers...), close: func() error {
		cancel()
		var errs []error
		for _, f := range files {
			errs = append(errs, f.Close())
		}
		return errors.Join(errs...)
	}}, nil
}

type logReader struct {
	io.Reader
	close func() error
}

func (r *logReader) Close() error { return r.close() }

// liveLog reads a buffer to its end, which for a follower is the attempt's.
type liveLog struct {
	ctx    context.Context // of the one read of the log that this is
	s      *Service
	a      attemptID
	b      *logBuffer
	follow bool
	at     int
}

func (l *liveLog) Read(p []byte) (int, error) {
	for {
		l.s.mu.Lock()
		data, more := l.b.data, l.b.more
		over := l.b.closed || !l.follow
		if e := l.s.index.all[l.a.job]; e != nil && !over {
			over = !e.running(l.a.fence)
		}
		ended := l.s.more // a job's state changes with it
		l.s.mu.Unlock()
		if l.at < len(data) {
			n := copy(p, data[l.at:])
			l.at += n
			return n, nil
		}
		if over {
			return 0, io.EOF
		}
		select {
		case <-more:
		case <-ended:
		case <-l.ctx.Done():
			return 0, l.ctx.Err()
		case <-l.s.life.Done():
			return 0, fmt.Errorf("patrick: %w", taubyte.ErrClosed)
		}
	}
}
