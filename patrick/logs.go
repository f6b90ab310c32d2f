package patrick

import (
	"bytes"
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

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
	"github.com/taubyte/taubyte/internal/rpc"
)

// The log of an attempt is a stream of bytes, and the worker says where in it each piece
// belongs. So what it sends again after an answer was lost is there once, and every node
// that has a place of the log has the same bytes there.
//
// The node that looks after the lease keeps the log in its own store and has one other
// node keep a copy, the one that would look after the lease next, before it acknowledges
// anything. After the attempt hoarder keeps it: see archive.go.

// attemptID names an attempt.
type attemptID struct {
	job   taubyte.JobID
	fence uint64
}

// pieceSize is the length of the values that a log is kept in, at
// /log/<job>/<fence>/<number>. The last one is written anew until it is full, so that many
// short lines do not make many keys.
const pieceSize = 32 << 10

// maxLogCall bounds what is logged at once.
const maxLogCall = 256 << 10

// logBuffer is what a node has of the log of an attempt, from its beginning on.
type logBuffer struct {
	adding sync.Mutex        // one writer at a time
	copied map[peer.ID]int64 // guarded by adding: how much of it other nodes have

	// Under the service's mu:
	size    int64
	tail    []byte // of the last piece, which is not full; what is in it does not change
	full    bool   // it was cut off
	closed  bool   // nothing is added any more
	touched time.Time
	more    chan struct{} // closed at the next change
}

func (b *logBuffer) changed() {
	b.touched = time.Now()
	close(b.more)
	b.more = make(chan struct{})
}

func checkLog(at int64, lines []byte) error {
	if len(lines) > maxLogCall {
		return fmt.Errorf("%w: %d bytes of log at once", taubyte.ErrTooLarge, len(lines))
	}
	if at < -1 {
		return fmt.Errorf("%w place in a log: %d", taubyte.ErrInvalid, at)
	}
	return nil
}

func (a attemptID) prefix() string { return fmt.Sprintf("/log/%s/%020d", a.job, a.fence) }

func (a attemptID) piece(n int64) ds.Key {
	return ds.RawKey(fmt.Sprintf("%s/%08d", a.prefix(), n))
}

// buffer returns an attempt's log, under mu.
func (s *Service) buffer(a attemptID) *logBuffer {
	b := s.logs[a]
	if b == nil {
		b = &logBuffer{copied: map[peer.ID]int64{}, touched: time.Now(), more: make(chan struct{})}
		s.logs[a] = b
	}
	return b
}

// Log adds lines to the log of the calling worker's attempt. at is where in the log they
// belong, in bytes: lines that are sent again after an answer was lost are there once. -1 is
// its end. What is beyond the limit is dropped, which the log says.
//
// When it returns the lines are on the disks of two nodes of patrick, where there are two.
func (s *Service) Log(ctx context.Context, l Lease, at int64, lines []byte) error {
	return s.addLog(ctx, s.here(l), at, lines, true)
}

func (s *Service) addLog(ctx context.Context, l leaseID, at int64, lines []byte, forward bool) error {
	if err := allowLease(ctx, l); err != nil {
		return err
	}
	if err := checkLog(at, lines); err != nil {
		return err
	}
	a := attemptID{l.job, l.fence}
	var b *logBuffer
	var key string
	err := s.withLease(ctx, l, forward, func(ctx context.Context, p peer.ID) error {
		resp, err := s.peers.Open(ctx, p, http.MethodPost, leasePath(l, "log", true)+fmt.Sprintf("&at=%d", at), bytes.NewReader(lines))
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}, func() error {
		e, err := s.holds(ctx, l)
		if err != nil {
			return err
		}
		s.index.timing.Hear(l.job, l.fence, time.Now())
		b, key = s.buffer(a), e.key()
		return nil
	})
	if err != nil || b == nil {
		return err
	}
	b.adding.Lock()
	defer b.adding.Unlock()
	if err := s.append(ctx, a, b, at, lines); err != nil {
		return err
	}
	return s.copyLog(ctx, a, b, key)
}

// append adds to a log what it does not have yet, with adding held.
func (s *Service) append(ctx context.Context, a attemptID, b *logBuffer, at int64, lines []byte) error {
	s.mu.Lock()
	size, full := b.size, b.full
	s.mu.Unlock()
	switch {
	case full:
		return nil
	case at < 0:
		at = size
	case at > size:
		// Another node had the log until now.
		if err := s.catchUp(ctx, a, b, at); err != nil {
			return err
		}
		if err := s.fillHole(ctx, a, b, at); err != nil {
			return err
		}
		size = at
	}
	if size-at >= int64(len(lines)) {
		return nil
	}
	lines = lines[size-at:]
	if room := int64(s.opts.logLimit) - size; int64(len(lines)) > room {
		lines, full = append(slices.Clone(lines[:max(room, 0)]), fmt.Sprintf("\n… the log is cut off here: it is longer than %d bytes\n", s.opts.logLimit)...), true
	}
	return s.extend(ctx, a, b, lines, full)
}

// extend makes the log longer, on disk and for its readers.
func (s *Service) extend(ctx context.Context, a attemptID, b *logBuffer, lines []byte, full bool) error {
	s.mu.Lock()
	size, closed := b.size, b.closed
	data := append(b.tail[:len(b.tail):len(b.tail)], lines...)
	s.mu.Unlock()
	if closed {
		return fmt.Errorf("%w: the attempt of job %s has ended", taubyte.ErrConflict, a.job)
	}
	batch, err := s.own.Batch(ctx)
	if err != nil {
		return fmt.Errorf("keeping the log of job %s: %w", a.job, err)
	}
	n, tail := size/pieceSize, data
	for i := 0; i < len(data); i += pieceSize {
		tail = data[i:min(i+pieceSize, len(data))]
		if err == nil {
			err = batch.Put(ctx, a.piece(n+int64(i/pieceSize)), tail)
		}
	}
	if err == nil {
		err = batch.Commit(ctx)
	}
	if err != nil {
		return fmt.Errorf("keeping the log of job %s: %w", a.job, err)
	}
	if len(tail) == pieceSize {
		tail = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.size, b.tail, b.full = size+int64(len(lines)), slices.Clone(tail), full
	b.changed()
	return nil
}

// piece returns some of what a node has of a log, from a place on; nothing at its end.
func (s *Service) piece(ctx context.Context, a attemptID, b *logBuffer, at int64) ([]byte, error) {
	s.mu.Lock()
	size, tail := b.size, b.tail
	s.mu.Unlock()
	n, from := at/pieceSize, at%pieceSize
	switch {
	case at >= size:
		return nil, nil
	case n == size/pieceSize:
		return tail[from:], nil
	}
	value, err := s.own.Get(ctx, a.piece(n))
	if err == nil && len(value) < pieceSize {
		err = fmt.Errorf("%w: it has %d bytes", taubyte.ErrInvalid, len(value))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: a piece of the log of job %s: %w", taubyte.ErrUnavailable, a.job, err)
	}
	return value[from:], nil
}

// catchUp takes over what other nodes have of a log beyond what this one has, up to a
// place in it; -1 is all of it.
func (s *Service) catchUp(ctx context.Context, a attemptID, b *logBuffer, to int64) error {
	buf := make([]byte, maxLogCall)
	for _, p := range s.live() {
		s.mu.Lock()
		size := b.size
		s.mu.Unlock()
		if p == s.host.ID() || to >= 0 && size >= to {
			continue
		}
		body, err := s.openAt(ctx, p, a, size, 0, false)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if away(err) {
				s.suspect(p, err)
			}
			continue
		}
		in := io.Reader(body)
		if to >= 0 {
			in = io.LimitReader(in, to-size)
		}
		for err == nil {
			var n int
			n, err = io.ReadFull(in, buf)
			if n > 0 {
				if e := s.extend(ctx, a, b, buf[:n], size+int64(n) > int64(s.opts.logLimit)); e != nil {
					_ = body.Close()
					return e
				}
				size += int64(n)
			}
		}
		_ = body.Close()
	}
	return nil
}

// fillHole stands for what was acknowledged by nodes that are both gone. It says so, and is
// as long as what is missing, so that places in the log stay what they are; readers leave
// the zeros out.
func (s *Service) fillHole(ctx context.Context, a attemptID, b *logBuffer, to int64) error {
	s.mu.Lock()
	missing := to - b.size
	s.mu.Unlock()
	if missing <= 0 {
		return nil
	}
	s.log.Warn("a part of a log is lost with the nodes that had it", "job", a.job, "bytes", missing)
	note := fmt.Appendf(nil, "\n… %d bytes of the log are lost with the nodes that had them\n", missing)
	for missing > 0 {
		n := min(missing, maxLogCall)
		text := make([]byte, n)
		note = note[copy(text, note):]
		if err := s.extend(ctx, a, b, text, false); err != nil {
			return err
		}
		missing -= n
	}
	return nil
}

// copyLog has another node keep all of the log that this one has, with adding held: the
// one that will look after the branch when this one is gone. Where none answers there is
// one copy, which is acknowledged all the same.
func (s *Service) copyLog(ctx context.Context, a attemptID, b *logBuffer, key string) error {
	for {
		var to peer.ID
		for _, p := range rendezvous.Rank(key, s.live()) {
			if p != s.host.ID() {
				to = p
				break
			}
		}
		if to == "" {
			return nil
		}
		call, cancel := context.WithTimeout(taubyte.AsService(ctx), forwardTimeout)
		err := s.copyTo(call, to, a, b)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		delete(b.copied, to)
		if !away(err) {
			s.log.Debug("a log is not copied", "job", a.job, "peer", to, "err", err)
			return nil
		}
		s.suspect(to, err)
	}
}

// logSize is how much of a log a node has.
type logSize struct {
	Size int64 `json:"size"`
}

func (s *Service) copyTo(ctx context.Context, to peer.ID, a attemptID, b *logBuffer) error {
	s.mu.Lock()
	size := b.size
	s.mu.Unlock()
	have, known := b.copied[to]
	for back := 0; !known || have < size; {
		var some []byte
		at := have
		if !known {
			at = size // to hear how much it has
		}
		for known && int64(len(some)) < min(size-have, maxLogCall-pieceSize) {
			next, err := s.piece(ctx, a, b, have+int64(len(some)))
			if err != nil {
				return err
			}
			some = append(some, next...)
		}
		var got logSize
		resp, err := s.peers.Open(ctx, to, http.MethodPost, fmt.Sprintf("/jobs/%s/pieces?fence=%d&at=%d", a.job, a.fence, at), bytes.NewReader(some))
		if err != nil {
			return err
		}
		err = readJSON(resp.Body, &got)
		if err != nil {
			return err
		}
		if known && got.Size <= have { // it has lost what it had
			if back++; back > 2 {
				return fmt.Errorf("%w: the copy of the log of job %s does not grow", taubyte.ErrConflict, a.job)
			}
		}
		have, known = got.Size, true
	}
	b.copied[to] = have
	return nil
}

// takeCopy keeps a part of a log for another node, and says how much of the log is here. A
// part that does not follow on what is here is not taken.
func (s *Service) takeCopy(ctx context.Context, a attemptID, at int64, some []byte) (logSize, error) {
	if !validID(string(a.job)) || a.fence == 0 {
		return logSize{}, fmt.Errorf("%w: job %.100q", taubyte.ErrNotFound, a.job)
	}
	if err := checkLog(at, some); err != nil {
		return logSize{}, err
	}
	s.mu.Lock()
	b := s.buffer(a)
	s.mu.Unlock()
	if !b.adding.TryLock() { // a node that looks after the log as well: neither waits for the other
		return logSize{}, fmt.Errorf("%w: the log of job %s is written here", taubyte.ErrConflict, a.job)
	}
	defer b.adding.Unlock()
	s.mu.Lock()
	size := b.size
	s.mu.Unlock()
	if at <= size && at+int64(len(some)) > size {
		some = some[size-at:]
		if err := s.extend(ctx, a, b, some, size+int64(len(some)) > int64(s.opts.logLimit)); err != nil {
			return logSize{}, err
		}
		size += int64(len(some))
	}
	return logSize{size}, nil
}

// loadLogs finds the logs that were not with hoarder yet when the node stopped.
func (s *Service) loadLogs(ctx context.Context) error {
	res, err := s.own.Query(ctx, query.Query{Prefix: "/log", KeysOnly: true, Orders: []query.Order{query.OrderByKey{}}})
	if err != nil {
		return fmt.Errorf("reading logs: %w", err)
	}
	defer res.Close()
	last := map[attemptID]int64{}
	for r := range res.Next() {
		if r.Error != nil {
			return fmt.Errorf("reading logs: %w", r.Error)
		}
		parts := strings.Split(r.Key, "/") // "", log, job, fence, number
		if len(parts) != 5 {
			continue
		}
		fence, err := strconv.ParseUint(parts[3], 10, 64)
		n, bad := strconv.ParseInt(parts[4], 10, 64)
		if err != nil || bad != nil {
			continue
		}
		last[attemptID{taubyte.JobID(parts[2]), fence}] = n
	}
	for a, n := range last {
		value, err := s.own.Get(ctx, a.piece(n))
		if err != nil {
			return fmt.Errorf("reading logs: %w", err)
		}
		b := s.buffer(a)
		b.size = n*pieceSize + int64(len(value))
		b.full = b.size > int64(s.opts.logLimit)
		if len(value) < pieceSize {
			b.tail = value
		}
	}
	return ctx.Err()
}

// dropLog forgets what this node has of a log.
func (s *Service) dropLog(ctx context.Context, a attemptID) error {
	s.mu.Lock()
	b := s.logs[a]
	s.mu.Unlock()
	if b == nil {
		return nil
	}
	b.adding.Lock()
	defer b.adding.Unlock()
	s.mu.Lock()
	b.closed = true
	size := b.size
	s.mu.Unlock()
	batch, err := s.own.Batch(ctx)
	// The last piece first, so that what a crash leaves is the beginning of a log.
	for n := (size - 1) / pieceSize; err == nil && n >= 0 && size > 0; n-- {
		err = batch.Delete(ctx, a.piece(n))
	}
	if err == nil {
		err = batch.Commit(ctx)
	}
	if err != nil {
		return fmt.Errorf("removing the log of job %s: %w", a.job, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs[a] == b {
		delete(s.logs, a)
	}
	b.changed()
	return nil
}

// over reports, under mu, whether an attempt has ended, and how long its log is; -1 where
// nobody has said so.
func (s *Service) over(a attemptID) (ended bool, size int64) {
	e := s.index.all[a.job]
	if e == nil || e.spec == nil {
		return false, -1 // its records are on their way, or it is gone
	}
	if end, ok := e.history.End(a.fence); ok {
		return true, end.Result.LogSize
	}
	last, _ := e.history.Newest()
	return last.Fence > a.fence || e.job.State.Done(), -1
}

// takeLog serves what a worker logs.
func (s *Service) takeLog(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
	id, forward, err := leaseOf(r)
	var at int64
	var lines []byte
	if err == nil {
		at, err = placeOf(r, -1)
	}
	if err == nil {
		lines, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogCall))
	}
	if err == nil {
		err = s.addLog(r.Context(), id, at, lines, forward)
	}
	rpc.Reply(w, nil, err, codes)
}

// takePieces serves a node that copies a log to this one.
func (s *Service) takePieces(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
	var got logSize
	at, err := placeOf(r, 0)
	var some []byte
	if err == nil {
		some, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogCall))
	}
	if err == nil {
		got, err = s.takeCopy(r.Context(), attemptID{jobOf(r), fenceOf(r)}, at, some)
	}
	rpc.Reply(w, got, err, codes)
}

// servePieces serves a node that reads what this one has of a log.
func (s *Service) servePieces(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
	q := r.URL.Query()
	a := attemptID{jobOf(r), fenceOf(r)}
	at, err := placeOf(r, 0)
	least, bad := strconv.ParseInt(q.Get("least"), 10, 64)
	if bad != nil {
		least = 0
	}
	var log io.Reader
	if err == nil {
		log, err = s.ownLog(r.Context(), a, at, least, q.Get("follow") == "true")
	}
	if err != nil {
		rpc.WriteError(w, err, codes)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	out := http.NewResponseController(w)
	_ = out.Flush()
	buf := make([]byte, pieceSize)
	for {
		n, err := log.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			if err := out.Flush(); err != nil {
				return
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler) // so that the part does not look like the whole
		}
	}
}

// ownLog reads what this node has of a log, if that is so much at least.
func (s *Service) ownLog(ctx context.Context, a attemptID, at, least int64, follow bool) (io.Reader, error) {
	e, err := s.find(ctx, a.job)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	b := s.logs[a]
	if b == nil && e.running(a.fence) {
		b = s.buffer(a) // the worker has not said anything yet
	}
	if b == nil || b.size < least {
		return nil, fmt.Errorf("%w: the log of job %s is not on this node", taubyte.ErrNotFound, a.job)
	}
	return &liveLog{ctx: ctx, s: s, a: a, b: b, follow: follow, at: at}, nil
}

// liveLog reads a node's own log to its end, which for a follower is the attempt's.
type liveLog struct {
	ctx    context.Context // of the one read of the log that this is
	s      *Service
	a      attemptID
	b      *logBuffer
	follow bool
	at     int64
	ready  []byte
}

func (l *liveLog) Read(p []byte) (int, error) {
	for len(l.ready) == 0 {
		l.s.mu.Lock()
		more, changed := l.b.more, l.s.more // a job's state changes with the second
		gone := l.b.closed && l.s.logs[l.a] != l.b
		over, _ := l.s.over(l.a)
		l.s.mu.Unlock()
		if gone {
			return 0, fmt.Errorf("%w: the log of job %s is with hoarder now", taubyte.ErrUnavailable, l.a.job)
		}
		var err error
		if l.ready, err = l.s.piece(l.ctx, l.a, l.b, l.at); err != nil {
			return 0, err
		}
		if len(l.ready) > 0 {
			break
		}
		if over || !l.follow {
			return 0, io.EOF
		}
		select {
		case <-more:
		case <-changed:
		case <-l.ctx.Done():
			return 0, l.ctx.Err()
		case <-l.s.life.Done():
			return 0, fmt.Errorf("patrick: %w", taubyte.ErrClosed)
		}
	}
	n := copy(p, l.ready)
	l.ready = l.ready[n:]
	l.at += int64(n)
	return n, nil
}

// placeOf is a place in a log that a request names.
func placeOf(r *http.Request, without int64) (int64, error) {
	q := r.URL.Query()
	text := q.Get("at")
	if text == "" {
		return without, nil
	}
	at, err := strconv.ParseInt(text, 10, 64)
	if err != nil || at < -1 {
		return 0, fmt.Errorf("%w place in a log: %.100q", taubyte.ErrInvalid, text)
	}
	return at, nil
}

var errNoLog = errors.New("no node in reach has the log")
