package cloud

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/patrick"
)

// logFollower hands the lines of a job's attempts, one after the other, to a
// function.
type logFollower struct {
	jobs    *patrick.Service
	line    func(string)
	attempt int // the newest that is followed
	wg      sync.WaitGroup
	mu      sync.Mutex // one attempt's lines at a time
}

func newLogFollower(jobs *patrick.Service, line func(string)) *logFollower {
	return &logFollower{jobs: jobs, line: line}
}

// follow begins with the job's attempt unless it has begun.
func (l *logFollower) follow(ctx context.Context, job patrick.Job) {
	if l.line == nil || job.Attempt <= l.attempt {
		return
	}
	l.attempt = job.Attempt
	l.wg.Go(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.copy(ctx, job.ID, job.Attempt)
	})
}

func (l *logFollower) copy(ctx context.Context, id taubyte.JobID, attempt int) {
	r, err := l.jobs.Logs(ctx, id, attempt, true)
	if err != nil {
		if ctx.Err() == nil {
			l.line("the job's log: " + err.Error())
		}
		return
	}
	defer r.Close()
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	defer stop()
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if len(line) > 0 {
			l.line(trimNewline(line))
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				l.line("the job's log: " + err.Error())
			}
			return
		}
	}
}

func trimNewline(s string) string {
	for len(s) > 0 && (s[len(s)-1] == '\n' || s[len(s)-1] == '\r') {
		s = s[:len(s)-1]
	}
	return s
}

// wait returns when all lines were handed over.
func (l *logFollower) wait() { l.wg.Wait() }
