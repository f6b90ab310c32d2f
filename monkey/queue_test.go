package monkey_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/patrick"
)

// A queue grants leases on jobs as patrick does, and shows what workers say.
type queue struct {
	ttl     time.Duration
	backOff time.Duration // of what is given back

	mu    sync.Mutex
	jobs  []*queued
	fence uint64

	repositories []taubyte.RepositoryID // of the project
}

type queued struct {
	job   patrick.Job
	kind  auth.Kind
	files map[string]string

	fence   uint64
	expires time.Time
	log     strings.Builder
	out     *patrick.Outcome
	needs   []string
	back    []patrick.Outcome // how often it was given back, and why
}

func newQueue() *queue { return &queue{ttl: 2 * time.Second, backOff: 50 * time.Millisecond} }

// push adds a job that builds files.
func (q *queue) push(repo taubyte.RepositoryID, kind auth.Kind, files map[string]string) *queued {
	q.mu.Lock()
	n := len(q.jobs) + 1
	q.mu.Unlock()
	return q.pushCommit(repo, kind, files, taubyte.Commit(fmt.Sprintf("%040x", n)))
}

func (q *queue) pushCommit(repo taubyte.RepositoryID, kind auth.Kind, files map[string]string, commit taubyte.Commit) *queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.jobs) + 1
	j := &queued{kind: kind, files: files, job: patrick.Job{
		ID: taubyte.JobID(fmt.Sprintf("job%03d", n)), Project: projectID, Repository: repo, Branch: "main",
		Commit: commit, Order: uint64(n), Created: time.Now().UTC(), State: patrick.Queued,
	}}
	q.jobs = append(q.jobs, j)
	return j
}

func (q *queue) Claim(ctx context.Context, labels ...string) (patrick.Lease, error) {
	for {
		q.mu.Lock()
		for _, j := range q.jobs {
			if j.out == nil && time.Now().After(j.expires) && !slices.ContainsFunc(j.needs, func(l string) bool { return !slices.Contains(labels, l) }) {
				q.fence++
				j.fence, j.expires = q.fence, time.Now().Add(q.ttl)
				j.job.Attempt++
				lease := patrick.Lease{Job: j.job, Fence: j.fence, Lasts: q.ttl, Expires: j.expires}
				q.mu.Unlock()
				return lease, nil
			}
		}
		q.mu.Unlock()
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return patrick.Lease{}, ctx.Err()
		}
	}
}

func (q *queue) with(l patrick.Lease, do func(*queued)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.jobs {
		if j.job.ID == l.Job.ID && j.fence == l.Fence && j.out == nil {
			do(j)
			return nil
		}
	}
	return fmt.Errorf("%w: job %s is another's", taubyte.ErrConflict, l.Job.ID)
}

func (q *queue) Renew(_ context.Context, held patrick.Lease) (l patrick.Lease, err error) {
	err = q.with(held, func(j *queued) {
		j.expires = time.Now().Add(q.ttl)
		l = patrick.Lease{Job: j.job, Fence: held.Fence, Lasts: q.ttl, Expires: j.expires}
	})
	return l, err
}

func (q *queue) Log(_ context.Context, l patrick.Lease, _ int64, lines []byte) error {
	return q.with(l, func(j *queued) { j.log.Write(bytes.ReplaceAll(lines, []byte{patrick.StepMark}, []byte(": "))) })
}

func (q *queue) Finish(_ context.Context, l patrick.Lease, o patrick.Outcome) error {
	return q.with(l, func(j *queued) {
		if o.State == patrick.Queued { // given back
			j.needs = append(j.needs, o.Needs...)
			j.back, j.fence, j.expires = append(j.back, o), 0, time.Now().Add(q.backOff)
			return
		}
		j.out = &o
	})
}

func (q *queue) Source(_ context.Context, l patrick.Lease) (s patrick.Source, err error) {
	err = q.with(l, func(j *queued) {
		s = patrick.Source{Kind: j.kind, Repositories: q.repositories}
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, name := range slices.Sorted(maps.Keys(j.files)) {
			text := j.files[name]
			h := tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}
			if to, ok := strings.CutPrefix(text, "->"); ok {
				h = tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
				text = ""
			}
			if strings.HasSuffix(name, "/") { // as of a submodule
				h = tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}
			}
			_ = w.WriteHeader(&h)
			_, _ = w.Write([]byte(text))
		}
		_ = w.Close()
		s.Archive = io.NopCloser(&b)
	})
	return s, err
}

// take cancels a job, as a user or a lost lease does.
func (q *queue) take(j *queued) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j.fence, j.expires = 0, time.Now().Add(time.Hour)
}

func (q *queue) outcome(j *queued) *patrick.Outcome {
	q.mu.Lock()
	defer q.mu.Unlock()
	return j.out
}

func (q *queue) returned(j *queued) []patrick.Outcome {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(j.back)
}

func (q *queue) text(j *queued) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return j.log.String()
}

// fenceOf is that of a job's lease, 0 while it has none.
func (j *queued) fenceOf(q *queue) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return j.fence
}
