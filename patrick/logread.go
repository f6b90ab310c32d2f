package patrick

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// attemptLog reads the log of an attempt from wherever it is: from the node that looks after
// the lease, from hoarder, or from another node that has it. When that one goes away it
// goes on with the next, from the place where it is. It holds no more than a piece.
type attemptLog struct {
	ctx    context.Context // of the one read of the log that this is
	cancel context.CancelFunc
	s      *Service
	a      attemptID
	at     int64
	follow bool
	from   io.ReadCloser
}

// logPatience is how often a log is looked for that nobody has at the moment, in a row.
const logPatience = 20

func (s *Service) newAttemptLog(ctx context.Context, a attemptID, at int64, follow bool) *attemptLog {
	ctx, cancel := context.WithCancel(ctx)
	return &attemptLog{ctx: ctx, cancel: cancel, s: s, a: a, at: at, follow: follow}
}

func (r *attemptLog) Read(p []byte) (int, error) {
	for tries := 0; ; tries++ {
		var n int
		var err error
		if r.from == nil {
			r.from, err = r.s.openLog(r.ctx, r.a, r.at, r.follow)
		}
		if err == nil {
			if n, err = r.from.Read(p); n > 0 {
				r.at += int64(n)
				return n, nil
			}
			_ = r.from.Close()
		}
		r.from = nil
		switch {
		case r.ctx.Err() != nil:
			return 0, r.ctx.Err()
		case r.s.life.Err() != nil:
			return 0, fmt.Errorf("patrick: %w", taubyte.ErrClosed)
		case err == io.EOF && r.whole():
			return 0, io.EOF
		case err != io.EOF && !errors.Is(err, taubyte.ErrUnavailable) && !errors.Is(err, taubyte.ErrNotFound) && !away(err), tries == logPatience:
			if err == io.EOF {
				err = fmt.Errorf("%w: the log of job %s breaks off", taubyte.ErrUnavailable, r.a.job)
			}
			return 0, err
		}
		r.wait(time.Duration(min(tries+1, 10)) * 50 * time.Millisecond)
	}
}

// whole reports whether the log ends where the reader is, as far as this node knows.
func (r *attemptLog) whole() bool {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	ended, size := r.s.over(r.a)
	return !ended && !r.follow || ended && r.at >= size
}

// wait returns after a while, or when something is new.
func (r *attemptLog) wait(d time.Duration) {
	r.s.mu.Lock()
	more := r.s.more
	r.s.mu.Unlock()
	least := time.NewTimer(d / 10) // what is new may have nothing to do with it
	defer least.Stop()
	select {
	case <-least.C:
	case <-r.ctx.Done():
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-more:
	case <-t.C:
	case <-r.ctx.Done():
	case <-r.s.life.Done():
	}
}

func (r *attemptLog) Close() error {
	r.cancel()
	if r.from != nil {
		return r.from.Close()
	}
	return nil
}

// openLog opens an attempt's log at a place.
func (s *Service) openLog(ctx context.Context, a attemptID, at int64, follow bool) (io.ReadCloser, error) {
	for {
		live := s.live()
		keeper := s.keeper(leaseID{job: a.job, fence: a.fence}, live)
		s.mu.Lock()
		e, err := s.index.entry(a.job)
		if err != nil {
			s.mu.Unlock()
			return nil, err
		}
		b := s.logs[a]
		ended, size := s.over(a)
		if b == nil && !ended && keeper == s.host.ID() {
			b = s.buffer(a) // the worker has not said anything yet
		}
		own := b != nil && (ended && size >= 0 && b.size >= size || keeper == s.host.ID() && size < 0)
		archived, project := e.archived(a.fence), e.job.Project
		s.mu.Unlock()
		if own && !(ended && b.size == 0 && archived.CID != "") {
			return io.NopCloser(&liveLog{ctx: ctx, s: s, a: a, b: b, follow: follow, at: at}), nil
		}
		if !ended {
			from, err := s.openAt(ctx, keeper, a, at, 0, follow)
			if err != nil && ctx.Err() == nil && keeper != s.host.ID() && away(err) {
				s.suspect(keeper, err)
				continue // with the next that looks after it
			}
			return from, err
		}
		if size == 0 {
			return io.NopCloser(eof{}), nil
		}
		var errs []error
		if archived.CID != "" {
			from, err := s.openArchive(ctx, project, archived, at)
			if err == nil {
				return from, nil
			}
			errs = append(errs, err)
		}
		// Not with hoarder yet, or hoarder is away. The node that looked after it has it all.
		others := slices.DeleteFunc(slices.Clone(live), func(p peer.ID) bool { return p == keeper || p == s.host.ID() })
		if keeper != s.host.ID() {
			others = slices.Insert(others, 0, keeper)
		}
		for _, p := range others {
			from, err := s.openAt(ctx, p, a, at, max(size, 0), false)
			if err == nil {
				return from, nil
			}
			if away(err) && ctx.Err() == nil {
				s.suspect(p, err)
			}
			if !errors.Is(err, taubyte.ErrNotFound) {
				errs = append(errs, err)
			}
		}
		if b != nil && b.size > at {
			return io.NopCloser(&liveLog{ctx: ctx, s: s, a: a, b: b, at: at}), nil
		}
		if size < 0 && len(errs) == 0 { // nobody logged anything
			return io.NopCloser(eof{}), nil
		}
		return nil, fmt.Errorf("%w: job %s: %w", taubyte.ErrUnavailable, a.job, errors.Join(append(errs, errNoLog)...))
	}
}

// openAt reads what another node has of a log, if that is so much at least.
func (s *Service) openAt(ctx context.Context, p peer.ID, a attemptID, at, least int64, follow bool) (io.ReadCloser, error) {
	path := fmt.Sprintf("/jobs/%s/pieces?fence=%d&at=%d&least=%d&follow=%t", a.job, a.fence, at, least, follow)
	resp, err := s.peers.Open(taubyte.AsService(ctx), p, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// readJSON decodes a small answer and closes it.
func readJSON(body io.ReadCloser, out any) error {
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, 1<<16))
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, out)
}
