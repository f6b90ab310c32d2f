package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/patrick"
)

func jobsCommand() command {
	return command{
		name: "jobs", args: "[list | cancel ID | retry ID]", summary: "list the builds, the newest first, or cancel or repeat one",
		verbs: []string{"list", "cancel ID", "retry ID"},
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			project := fs.String("project", "", "only those of this project, by its id or name")
			limit := fs.Int("limit", 20, "how many")
			return asking(fs, func(inv *invocation, c *api) error {
				if inv.verb != "list" {
					return changeJob(inv, c)
				}
				id, err := c.likelyProject(*project)
				if err != nil {
					return err
				}
				var page patrick.Page
				q := url.Values{"project": {string(id)}, "limit": {fmt.Sprint(*limit)}}
				if err := c.call(http.MethodGet, "/v1/patrick/jobs?"+q.Encode(), nil, &page); err != nil {
					return err
				}
				if inv.asJSON {
					return inv.json(page)
				}
				var rows [][]string
				for _, j := range page.Jobs {
					took := ""
					if !j.Ended.IsZero() && !j.Started.IsZero() {
						took = round(j.Ended.Sub(j.Started)).String()
					}
					rows = append(rows, []string{string(j.ID), string(j.State), string(j.Repository), string(j.Branch), short(j.Commit), j.Created.Local().Format(time.DateTime), took, j.Error})
				}
				return inv.table([]string{"JOB", "STATE", "REPOSITORY", "BRANCH", "COMMIT", "CREATED", "TOOK", "ERROR"}, rows)
			})
		},
	}
}

func changeJob(inv *invocation, c *api) error {
	id, done := inv.args[0], map[string]string{"cancel": "cancelled", "retry": "queued again"}[inv.verb]
	if err := c.call(http.MethodPost, "/v1/patrick/jobs/"+url.PathEscape(id)+"/"+inv.verb, nil, nil); err != nil {
		return err
	}
	return told(inv, map[string]any{"job": id, "done": done}, "job "+id+" is "+done)
}

func logsCommand() command {
	return command{
		name: "logs", args: "[JOB]", summary: "print the log of a build, by default of the newest",
		maxArgs: 1,
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			follow := fs.Bool("f", false, "go on as the build does, over all its attempts")
			attempt := fs.Int("attempt", 0, "which attempt, from 1 (default: the last)")
			step := fs.String("step", "", "only the lines of that step of the build")
			return asking(fs, func(inv *invocation, c *api) error {
				var id string
				if len(inv.args) == 1 {
					id = inv.args[0]
				} else {
					var page patrick.Page
					if err := c.call(http.MethodGet, "/v1/patrick/jobs?limit=1", nil, &page); err != nil {
						return err
					}
					if len(page.Jobs) == 0 {
						return fmt.Errorf("%w: nothing was built yet", taubyte.ErrNotFound)
					}
					id = string(page.Jobs[0].ID)
				}
				l := &logPrinter{inv: inv, c: c, job: "/v1/patrick/jobs/" + url.PathEscape(id), step: *step, follow: *follow}
				if !*follow || *attempt > 0 {
					return l.print(*attempt)
				}
				return l.printAll()
			})
		},
	}
}

// logPatience is how long a node is waited for that goes away in the midst of a log.
const logPatience = time.Minute

// logPrinter prints the log of a job.
type logPrinter struct {
	inv    *invocation
	c      *api
	job    string // its path
	step   string
	follow bool
}

// printAll prints the attempts of a job, from the last on, until the job has ended.
func (l *logPrinter) printAll() error {
	for attempt := 0; ; attempt++ {
		var j patrick.Job
		if err := l.again(func() error { return l.c.call(http.MethodGet, l.job, nil, &j) }); err != nil {
			return err
		}
		if attempt == 0 {
			attempt = max(j.Attempt, 1)
		}
		if j.State.Done() && attempt > max(j.Attempt, 1) {
			return nil
		}
		err := l.print(attempt)
		if errors.Is(err, taubyte.ErrNotFound) && j.State.Done() && j.Attempt == 0 {
			return nil // it was never begun
		}
		if err != nil {
			return err
		}
	}
}

// again repeats what fails because the node can't be had, for a while.
func (l *logPrinter) again(do func() error) error {
	for began := time.Now(); ; {
		err := do()
		if !errors.Is(err, taubyte.ErrUnavailable) || time.Since(began) > logPatience {
			return err
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-l.inv.ctx.Done():
			return l.inv.ctx.Err()
		}
	}
}

// print prints the log of an attempt. When the answer breaks off, because the node or what
// is between goes away, it goes on after the last line.
func (l *logPrinter) print(attempt int) error {
	q := url.Values{"format": {"events"}, "follow": {strconv.FormatBool(l.follow)}}
	if l.step != "" {
		q.Set("step", l.step)
	}
	if attempt > 0 {
		q.Set("attempt", strconv.Itoa(attempt))
	}
	out := bufio.NewWriterSize(l.inv.out, 64<<10)
	begun := false
	for last := time.Now(); ; {
		err := l.read(q, out, &begun, &last)
		if e := out.Flush(); e != nil {
			return e
		}
		cut := errors.Is(err, errCut) || begun && errors.Is(err, taubyte.ErrUnavailable)
		switch {
		case l.inv.ctx.Err() != nil:
			return l.inv.ctx.Err()
		case !cut:
			return err
		case time.Since(last) > logPatience:
			return fmt.Errorf("%w: the log breaks off, and the node does not come back: %w", taubyte.ErrUnavailable, err)
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-l.inv.ctx.Done():
		}
	}
}

// errCut: an answer is not whole.
var errCut = errors.New("the answer breaks off")

// read prints what one answer has of a log.
func (l *logPrinter) read(q url.Values, out *bufio.Writer, begun *bool, last *time.Time) error {
	resp, err := l.c.stream(http.MethodGet, l.job+"/logs?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	*begun = true
	// A node that lives says so every second.
	silent := time.AfterFunc(logSilence, func() { _ = resp.Body.Close() })
	defer silent.Stop()
	body := &heard{resp.Body, silent, out}
	defer body.Close()
	for line, err := range patrick.ReadEvents(body) {
		if err != nil {
			return fmt.Errorf("%w: %w", errCut, err)
		}
		*last = time.Now()
		q.Set("after", line.ID)
		if l.inv.asJSON {
			text, err := json.Marshal(line)
			if err != nil {
				return err
			}
			_, _ = out.Write(text)
		} else {
			_, _ = out.WriteString(line.String())
		}
		if err := out.WriteByte('\n'); err != nil {
			return err
		}
	}
	return nil
}

// logSilence is how long nothing comes from a node until it is taken for gone.
const logSilence = 10 * time.Second

// heard is the answer of a node. What was printed is shown before more is waited for.
type heard struct {
	io.ReadCloser
	silent *time.Timer
	out    *bufio.Writer
}

func (h *heard) Read(p []byte) (int, error) {
	if err := h.out.Flush(); err != nil {
		return 0, err
	}
	h.silent.Reset(logSilence)
	return h.ReadCloser.Read(p)
}
