package patrick

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/klauspost/compress/zstd"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/unixfs"
)

// Keeper is what patrick needs of hoarder: a hoarder.Client or a hoarder.Service.
type Keeper interface {
	Hold(ctx context.Context) (release func(), err error)
	Keep(ctx context.Context, root cid.Cid, o hoarder.KeepOptions) error
	Release(ctx context.Context, root cid.Cid, project taubyte.ProjectID) error
	// OpenLog opens what was kept with hoarder.ClassLog.
	OpenLog(ctx context.Context, project taubyte.ProjectID, root cid.Cid) (io.ReadCloser, error)
}

const (
	// archiveEvery is how often a node looks for logs that hoarder is to keep, beside
	// the moments at which attempts end, and archiveWait the first pause after hoarder
	// could not be had.
	archiveEvery = 5 * time.Second
	archiveWait  = time.Second
	// archiveTimeout bounds the keeping of one log.
	archiveTimeout = 5 * time.Minute
	// strandedFor is how long a node keeps the log of a job that it does not know.
	strandedFor = time.Hour
	// archiveOthers is how long after an attempt's end a node leaves its log to the one
	// that looked after it.
	archiveOthers = time.Minute
)

// archived is the longest log of an attempt that hoarder keeps. One of two nodes that did
// not see each other may have less.
func (e *entry) archived(fence uint64) (best logPart) {
	for _, p := range e.logs[fence] {
		if best.CID == "" || p.Size > best.Size || p.Size == best.Size && p.CID < best.CID {
			best = p
		}
	}
	return best
}

// archiveLogs hands the logs of attempts that have ended to hoarder.
func (s *Service) archiveLogs() {
	tick := time.NewTicker(archiveEvery)
	defer tick.Stop()
	var after time.Time
	for wait := archiveWait; ; {
		if !time.Now().Before(after) {
			if err := s.archiveAll(s.life); err != nil && s.life.Err() == nil {
				s.log.Debug("logs are not with hoarder yet", "err", err)
				after = time.Now().Add(wait)
				wait = min(2*wait, archiveTimeout)
			} else {
				wait = archiveWait
			}
		}
		select {
		case <-tick.C:
		case <-s.logsOver:
		case <-s.life.Done():
			return
		}
	}
}

// logsEnded has archiveLogs look at once.
func (s *Service) logsEnded() {
	select {
	case s.logsOver <- struct{}{}:
	default:
	}
}

// archiveAll does what is to be done with the logs that this node has. It goes on after one
// that fails, unless hoarder is away.
func (s *Service) archiveAll(ctx context.Context) error {
	live := s.live()
	now := time.Now()
	var keep, drop []attemptID
	s.mu.Lock()
	for a, b := range s.logs {
		e := s.index.all[a.job]
		if e == nil || e.spec == nil {
			if now.Sub(b.touched) > strandedFor || s.dropped[a.job] {
				drop = append(drop, a)
			}
			continue
		}
		ended, _ := s.over(a)
		if !ended {
			continue
		}
		if part := e.archived(a.fence); part.CID != "" && part.Size >= b.size || b.size == 0 {
			drop = append(drop, a)
			continue
		}
		keeper := s.index.keeper(leaseID{job: a.job, fence: a.fence}, live)
		if keeper == s.host.ID() || now.Sub(b.touched) > archiveOthers {
			keep = append(keep, a)
		}
	}
	clear(s.dropped)
	s.mu.Unlock()
	var errs []error
	for _, a := range drop {
		errs = append(errs, s.dropLog(ctx, a))
	}
	for _, a := range keep {
		if err := s.archive(ctx, a); err != nil {
			errs = append(errs, err)
			break
		}
	}
	return errors.Join(errs...)
}

// archive has hoarder keep the log of an attempt that has ended, and forgets its own.
func (s *Service) archive(ctx context.Context, a attemptID) error {
	ctx, cancel := context.WithTimeout(taubyte.AsService(ctx), archiveTimeout)
	defer cancel()
	s.mu.Lock()
	b, e := s.logs[a], s.index.all[a.job]
	if b == nil || e == nil || e.spec == nil {
		s.mu.Unlock()
		return nil
	}
	project := e.job.Project
	s.mu.Unlock()
	// Who is just writing has done so before the end of the log is looked at.
	b.adding.Lock()
	s.mu.Lock()
	b.closed = true
	size := b.size
	s.mu.Unlock()
	b.adding.Unlock()
	release, err := s.opts.keeper.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	// Blocks of a log are no other content's: it is compressed, and begins with its job.
	store := blockservice.New(s.host.Blocks().Blockstore(), nil)
	log := s.compressed(ctx, a, b)
	root, err := unixfs.AddFile(ctx, store, log)
	_ = log.Close()
	if err != nil {
		return fmt.Errorf("the log of job %s: %w", a.job, err)
	}
	err = s.opts.keeper.Keep(ctx, root, hoarder.KeepOptions{Project: project, Class: hoarder.ClassLog, Min: s.opts.replicas})
	if err == nil {
		err = s.write(ctx, map[ds.Key]any{jobKey(a.job, "log", a.fence, s.host.ID()): logPart{CID: root.String(), Size: size, Project: project}})
	}
	if s.host.Local(hoarder.Protocol) == nil { // else they are hoarder's
		if e := deleteBlocks(context.WithoutCancel(ctx), store, root); e != nil {
			s.log.Warn("blocks of a log are left behind", "job", a.job, "err", e)
		}
	}
	if err != nil {
		return fmt.Errorf("keeping the log of job %s: %w", a.job, err)
	}
	s.log.Debug("hoarder keeps a log", "job", a.job, "bytes", size, "root", root)
	return s.dropLog(ctx, a)
}

// compressed is a log as hoarder keeps it: a frame of zstd, after one to be skipped that
// names the attempt, so that no two logs have one root.
func (s *Service) compressed(ctx context.Context, a attemptID, b *logBuffer) io.ReadCloser {
	name := fmt.Sprintf("taubyte log of job %s, lease %020d", a.job, a.fence)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.CloseWithError(func() error {
			head := binary.LittleEndian.AppendUint32(nil, 0x184D2A50)
			head = append(binary.LittleEndian.AppendUint32(head, uint32(len(name))), name...)
			if _, err := w.Write(head); err != nil {
				return err
			}
			z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
			if err != nil {
				return err
			}
			_, err = io.Copy(z, &liveLog{ctx: ctx, s: s, a: a, b: b})
			return errors.Join(err, z.Close())
		}())
	}()
	return &archive{PipeReader: r, end: func() { <-done }}
}

// openArchive opens a log that hoarder keeps, at a place.
func (s *Service) openArchive(ctx context.Context, project taubyte.ProjectID, p logPart, at int64) (io.ReadCloser, error) {
	root, err := cid.Decode(p.CID)
	if err != nil {
		return nil, fmt.Errorf("%w log %q: %w", taubyte.ErrInvalid, p.CID, err)
	}
	body, err := s.opts.keeper.OpenLog(taubyte.AsService(ctx), project, root)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1))
	if err != nil {
		_ = body.Close()
		return nil, err
	}
	log := &archivedLog{z: z, body: body}
	if _, err := io.CopyN(io.Discard, z, at); err != nil && err != io.EOF {
		_ = log.Close()
		return nil, fmt.Errorf("%w: %w", taubyte.ErrUnavailable, err)
	}
	return log, nil
}

type archivedLog struct {
	z    *zstd.Decoder
	body io.Closer
}

func (l *archivedLog) Read(p []byte) (int, error) {
	n, err := l.z.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", taubyte.ErrUnavailable, err) // another hoarder has it
	}
	return n, err
}

func (l *archivedLog) Close() error {
	err := l.body.Close()
	l.z.Close()
	return err
}

// deleteBlocks takes back what archive has added.
func deleteBlocks(ctx context.Context, store blockservice.BlockService, root cid.Cid) error {
	var all []cid.Cid
	err := unixfs.Walk(ctx, store, root, func(c cid.Cid, _ int) error {
		all = append(all, c)
		return nil
	})
	if err != nil && !ipld.IsNotFound(err) {
		return err
	}
	for _, c := range all {
		if err := store.Blockstore().DeleteBlock(ctx, c); err != nil && !ipld.IsNotFound(err) {
			return err
		}
	}
	return nil
}
