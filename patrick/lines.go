package patrick

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// StepMark ends the name of a step at the beginning of a line that a worker logs. A line
// without it is of no step.
const StepMark = '\x1f'

// A LogLine is a line of a job's log. One that is longer than 64 KiB comes in parts.
type LogLine struct {
	// ID is its place: what follows it is read with LogOptions.After. It stays the same
	// on every node.
	ID   string `json:"id"`
	Step string `json:"step,omitempty"` // of the build, as in Job.Steps
	Text string `json:"text"`
}

// String is the line for people.
func (l LogLine) String() string {
	if l.Step == "" {
		return l.Text
	}
	return l.Step + ": " + l.Text
}

// LogOptions say what of a job's log is read.
type LogOptions struct {
	// Attempt is which, from 1 on. 0 is the newest, or that of After.
	Attempt int
	// Step leaves the lines of other steps out.
	Step string
	// After is the ID of the line to go on after.
	After string
	// Follow goes on as the attempt does, until it ends. One that has not begun is waited
	// for.
	Follow bool
}

const (
	longestLine = 64 << 10
	// endEvent is the event after the last line.
	endEvent = "end"
	// resumeFor is how long a client looks for a node to go on reading from.
	resumeFor = time.Minute
)

func lineID(fence uint64, at int64) string { return fmt.Sprintf("%d-%d", fence, at) }

func parseLineID(id string) (fence uint64, at int64, err error) {
	f, a, ok := strings.Cut(id, "-")
	if fence, err = strconv.ParseUint(f, 10, 64); err == nil {
		at, err = strconv.ParseInt(a, 10, 64)
	}
	if !ok || err != nil || at < 0 {
		return 0, 0, fmt.Errorf("%w place in a log: %.100q is the ID of no line", taubyte.ErrInvalid, id)
	}
	return fence, at, nil
}

// Lines reads the lines of a job's log. A read that can't go on ends with an error; the ID
// of the last line says from where it can be taken up. The log is where its attempt is: one
// of which a node goes away is read on from another. Of a log only as much is in memory as is
// on its way, however slow its reader is.
//
// It takes the verb read on the job's project, or a node of the roles auth or patrick;
// a worker reads those of the jobs that it holds. ErrNotFound: there is no such attempt.
func (s *Service) Lines(ctx context.Context, id taubyte.JobID, o LogOptions) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		log, err := s.openLines(ctx, id, o)
		if err != nil {
			yield(LogLine{}, err)
			return
		}
		defer log.Close()
		log.each(yield)
	}
}

// openLines finds an attempt and opens its log.
func (s *Service) openLines(ctx context.Context, id taubyte.JobID, o LogOptions) (*lineReader, error) {
	if o.Attempt < 0 {
		return nil, fmt.Errorf("%w attempt %d", taubyte.ErrInvalid, o.Attempt)
	}
	var fence uint64
	var at int64
	if o.After != "" {
		var err error
		if fence, at, err = parseLineID(o.After); err != nil {
			return nil, err
		}
	}
	if _, err := s.Job(ctx, id); err != nil {
		return nil, err
	}
	for {
		e, err := s.find(ctx, id)
		if err != nil {
			return nil, err
		}
		grants := e.history.Grants()
		n, wait, done := len(grants), s.more, e.job.State.Done()
		s.mu.Unlock()
		found := n > 0 && o.Attempt <= n && fence == 0
		which := o.Attempt
		if found && which == 0 {
			which = n
		}
		for i, g := range grants {
			if fence != 0 && g.Fence == fence && (o.Attempt == 0 || o.Attempt == i+1) {
				found, which = true, i+1
			}
		}
		if found {
			a := attemptID{id, grants[which-1].Fence}
			log := s.newAttemptLog(ctx, a, at, o.Follow)
			return &lineReader{log: log, in: bufio.NewReaderSize(log, longestLine), fence: a.fence, at: at, of: o.Step}, nil
		}
		if fence != 0 {
			return nil, fmt.Errorf("%w: job %s has no attempt with the line %s", taubyte.ErrNotFound, id, o.After)
		}
		if !o.Follow || done {
			return nil, fmt.Errorf("%w: attempt %d of job %s: it has had %d", taubyte.ErrNotFound, o.Attempt, id, n)
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

// lineReader takes a log apart.
type lineReader struct {
	log   *attemptLog
	in    *bufio.Reader
	fence uint64
	at    int64
	of    string // the step that is wanted
	step  string // of a line that goes on
	part  bool   // the next bytes go on with a line
}

func (r *lineReader) Close() error { return r.log.Close() }

// waits reports whether there is nothing more to be had at once.
func (r *lineReader) waits() bool { return r.in.Buffered() == 0 }

func (r *lineReader) each(yield func(LogLine, error) bool) {
	for {
		line, ok, err := r.next()
		switch {
		case err == io.EOF:
			return
		case err != nil:
			yield(LogLine{}, err)
			return
		case ok && !yield(line, nil):
			return
		}
	}
}

// next reads a line. ok is false for what is not shown.
func (r *lineReader) next() (l LogLine, ok bool, err error) {
	raw, err := r.in.ReadSlice('\n')
	if len(raw) == 0 {
		return LogLine{}, false, err
	}
	r.at += int64(len(raw))
	text, ended := bytes.CutSuffix(raw, []byte{'\n'})
	if !r.part {
		r.step = ""
		if i := bytes.IndexByte(text, StepMark); i >= 0 {
			r.step, text = string(text[:i]), text[i+1:]
		}
	}
	r.part = !ended
	hole := false
	if bytes.IndexByte(text, 0) >= 0 { // see fillHole
		text = bytes.ReplaceAll(text, []byte{0}, nil)
		hole = len(text) == 0
	}
	text = bytes.TrimSuffix(text, []byte{'\r'})
	l = LogLine{ID: lineID(r.fence, r.at), Step: r.step, Text: strings.ToValidUTF8(string(text), "\uFFFD")}
	return l, !hole && (r.of == "" || r.of == l.Step), nil
}

// Logs returns the log of an attempt of a job as text; attempt 0 is the newest. With follow
// the reader goes on, waiting for the attempt to begin if none has, until it ends. The caller
// closes it. It takes what Lines takes.
func (s *Service) Logs(ctx context.Context, id taubyte.JobID, attempt int, follow bool) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	log, err := s.openLines(ctx, id, LogOptions{Attempt: attempt, Follow: follow})
	if err != nil {
		cancel()
		return nil, err
	}
	return &textLog{next: log.next, close: func() error {
		cancel()
		return log.Close()
	}}, nil
}

// textLog is lines as text.
type textLog struct {
	next  func() (LogLine, bool, error)
	close func() error
	ready []byte
	err   error
}

func (t *textLog) Read(p []byte) (int, error) {
	for len(t.ready) == 0 {
		if t.err != nil {
			return 0, t.err
		}
		line, ok, err := t.next()
		if t.err = err; err == nil && ok {
			t.ready = append(append(t.ready[:0], line.String()...), '\n')
		}
	}
	n := copy(p, t.ready)
	t.ready = t.ready[n:]
	return n, nil
}

func (t *textLog) Close() error { return t.close() }

// serveLogs serves the log of a job to people and programs.
func (s *Service) serveLogs(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
	q := r.URL.Query()
	o := LogOptions{Step: q.Get("step"), After: q.Get("after"), Follow: q.Get("follow") == "true"}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		o.After = last
	}
	var err error
	if text := q.Get("attempt"); text != "" {
		if o.Attempt, err = strconv.Atoi(text); err != nil {
			err = fmt.Errorf("%w attempt %.100q", taubyte.ErrInvalid, text)
		}
	}
	var log *lineReader
	events := q.Get("format") == "events" || strings.Contains(r.Header.Get("Accept"), "text/event-stream")
	if err == nil {
		log, err = s.openNow(r.Context(), jobOf(r), o, events)
	}
	if err != nil {
		rpc.WriteError(w, err, codes)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if !events {
		defer log.Close()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		err = sendText(w, log)
	} else {
		w.Header().Set("Content-Type", "text/event-stream")
		err = s.sendEvents(w, r, log, o)
	}
	if err != nil {
		panic(http.ErrAbortHandler) // so that the part does not look like the whole
	}
}

// openNow is openLines, and where the attempt is to come nil, so that the answer can begin.
func (s *Service) openNow(ctx context.Context, id taubyte.JobID, o LogOptions, events bool) (*lineReader, error) {
	now := o
	now.Follow = o.Follow && !events
	log, err := s.openLines(ctx, id, now)
	if err == nil {
		log.log.follow = o.Follow
		return log, nil
	}
	if errors.Is(err, taubyte.ErrNotFound) && o.Follow && events && o.After == "" {
		if j, e := s.Job(ctx, id); e == nil && !j.State.Done() {
			return nil, nil
		}
	}
	return nil, err
}

// sendText sends lines as they come.
func sendText(w http.ResponseWriter, log *lineReader) error {
	rc := http.NewResponseController(w)
	out := bufio.NewWriterSize(w, longestLine)
	if err := rc.Flush(); err != nil {
		return err
	}
	for {
		line, ok, err := log.next()
		if err == io.EOF {
			return out.Flush()
		}
		if err != nil {
			return err
		}
		if ok {
			_, _ = out.WriteString(line.String())
			if err := out.WriteByte('\n'); err != nil {
				return err
			}
		}
		if log.waits() {
			if err := out.Flush(); err != nil {
				return err
			}
			if err := rc.Flush(); err != nil {
				return err
			}
		}
	}
}

// sendEvents sends each line as an event with its ID, an empty comment for every second in
// which there is none, and an event after the last line.
func (s *Service) sendEvents(w http.ResponseWriter, r *http.Request, log *lineReader, o LogOptions) error {
	rc := http.NewResponseController(w)
	out := bufio.NewWriterSize(w, longestLine)
	if err := rc.Flush(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var mu sync.Mutex // guards out and what follows
	sent := time.Now()
	flush := func() error {
		sent = time.Now()
		if err := out.Flush(); err != nil {
			return err
		}
		return rc.Flush()
	}
	var beating sync.WaitGroup
	defer beating.Wait()
	defer cancel()
	beating.Go(func() {
		tick := time.NewTicker(rpc.Beat)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			mu.Lock()
			if time.Since(sent) >= rpc.Beat {
				_, _ = out.WriteString(":\n\n")
				if flush() != nil {
					cancel()
				}
			}
			mu.Unlock()
		}
	})
	if log == nil {
		var err error
		if log, err = s.openLines(ctx, jobOf(r), o); err != nil && !errors.Is(err, taubyte.ErrNotFound) {
			return err
		}
	}
	if log != nil {
		defer log.Close()
	}
	for log != nil {
		line, ok, err := log.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		mu.Lock()
		if ok {
			err = writeEvent(out, line)
		}
		if err == nil && log.waits() {
			err = flush()
		}
		mu.Unlock()
		if err != nil {
			return err
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if _, err := out.WriteString("event: " + endEvent + "\ndata:\n\n"); err != nil {
		return err
	}
	return flush()
}

// anEvent is what the data of an event is.
type anEvent struct {
	Step string `json:"step,omitempty"`
	Text string `json:"text"`
}

func writeEvent(out *bufio.Writer, l LogLine) error {
	data, err := json.Marshal(anEvent{l.Step, l.Text})
	if err != nil {
		return err
	}
	_, _ = out.WriteString("id: ")
	_, _ = out.WriteString(l.ID)
	_, _ = out.WriteString("\ndata: ")
	_, _ = out.Write(data)
	_, err = out.WriteString("\n\n")
	return err
}

// ReadEvents reads the events of a log from the answer of the HTTP API, as they come. What
// ends before the log does is io.ErrUnexpectedEOF.
func ReadEvents(body io.Reader) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		in := bufio.NewReaderSize(body, 16*longestLine) // a line in which each byte is escaped
		var id, event string
		var data []byte
		for {
			line, err := in.ReadSlice('\n')
			if err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				yield(LogLine{}, err)
				return
			}
			line = bytes.TrimRight(line, "\r\n")
			name, value, _ := bytes.Cut(line, []byte(":"))
			value = bytes.TrimPrefix(value, []byte(" "))
			switch string(name) {
			case "id":
				id = string(value)
			case "event":
				event = string(value)
			case "data":
				data = append(data[:0], value...)
			}
			if len(line) > 0 {
				continue
			}
			if event == endEvent {
				return
			}
			if len(data) > 0 {
				var e anEvent
				if err := json.Unmarshal(data, &e); err != nil {
					yield(LogLine{}, fmt.Errorf("%w event of a log: %w", taubyte.ErrInvalid, err))
					return
				}
				if !yield(LogLine{id, e.Step, e.Text}, nil) {
					return
				}
			}
			id, event, data = "", "", data[:0]
		}
	}
}
