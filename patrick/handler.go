package patrick

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/internal/rpc"
)

// kindHeader tells what a source is; deletedHeader that there is none.
const (
	kindHeader       = "Taubyte-Source-Kind"
	deletedHeader    = "Taubyte-Source-Deleted"
	repositoryHeader = "Taubyte-Source-Repository" // one for each, escaped as in a query
)

// handler serves patrick over HTTP:
//
//	GET  /jobs?project=&repository=&branch=&state=&after=&limit=   a Page
//	GET  /jobs/{id}
//	GET  /jobs/{id}/logs?attempt=&follow=   text, or events for Accept: text/event-stream
//	POST /jobs/{id}/cancel, /jobs/{id}/retry
//	GET  /watch                             a Job on each line
//	POST /push                              an auth.Push; answers the Job
//	POST /reconcile
//
// of which the methods say who may; and for workers
//
//	POST /claim                             a Lease, empty after a while
//	POST /jobs/{id}/renew?fence=
//	POST /jobs/{id}/log?fence=              the body is text
//	POST /jobs/{id}/finish?fence=           an Outcome
//	GET  /jobs/{id}/source?fence=           tar
//	POST /jobs/{id}/environment?fence=      an EnvironmentRequest
//
// of which the last four name the node that granted the lease (arbiter=). A node of role
// patrick speaks for a worker that asked it (worker=), and calls
//
//	GET  /alive
//	POST /submit                            a submission; answers the Job
//	POST /heard                             of some heldLeases those that were renewed here
//	POST /jobs/{id}/grant                   a Lease
func handler(s *Service) http.Handler {
	mux := http.NewServeMux()
	on := func(pattern string, h http.HandlerFunc, workers ...taubyte.Role) {
		if len(workers) > 0 {
			h = rpc.Only(h, workers...)
		}
		mux.HandleFunc(pattern, h)
	}
	workers := []taubyte.Role{taubyte.RoleMonkey, taubyte.RolePatrick}

	on("GET /jobs", func(w http.ResponseWriter, r *http.Request) {
		f, err := filter(r)
		var page Page
		if err == nil {
			page, err = s.Jobs(r.Context(), f)
		}
		rpc.Reply(w, page, err, nil)
	})
	on("GET /jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		j, err := s.Job(r.Context(), jobOf(r))
		rpc.Reply(w, j, err, nil)
	})
	on("GET /jobs/{id}/logs", s.serveLogs)
	on("GET /watch", s.serveWatch)
	on("POST /jobs/{id}/cancel", func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, s.Cancel(r.Context(), jobOf(r)), nil)
	})
	on("POST /jobs/{id}/retry", func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, s.Retry(r.Context(), jobOf(r)), nil)
	})
	on("POST /push", func(w http.ResponseWriter, r *http.Request) {
		var p auth.Push
		err := rpc.Decode(w, r, 64<<10, &p)
		var j Job
		if err == nil {
			j, err = s.Submit(r.Context(), p)
		}
		rpc.Reply(w, j, err, nil)
	})
	on("POST /reconcile", func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, s.Reconcile(r.Context()), nil)
	})

	on("GET /alive", func(w http.ResponseWriter, r *http.Request) { rpc.Reply(w, nil, s.life.Err(), nil) }, taubyte.RolePatrick)
	on("POST /submit", func(w http.ResponseWriter, r *http.Request) {
		var sub submission
		err := rpc.Decode(w, r, 64<<10, &sub)
		var j Job
		if err == nil {
			j, err = s.decide(r.Context(), sub)
		}
		rpc.Reply(w, j, err, nil)
	}, taubyte.RolePatrick)
	on("POST /heard", func(w http.ResponseWriter, r *http.Request) {
		var leases []heldLease
		err := rpc.Decode(w, r, 1<<20, &leases)
		rpc.Reply(w, s.heard(leases), err, nil)
	}, taubyte.RolePatrick)
	on("POST /claim", func(w http.ResponseWriter, r *http.Request) {
		l, err := s.claim(r.Context(), caller(r.Context()))
		rpc.Reply(w, l, err, nil)
	}, taubyte.RoleMonkey)
	on("POST /jobs/{id}/grant", func(w http.ResponseWriter, r *http.Request) {
		id, _, err := leaseOf(r)
		var l Lease
		if err == nil {
			l, err = s.grant(r.Context(), id.job, id.worker)
		}
		rpc.Reply(w, l, err, nil)
	}, taubyte.RolePatrick)
	on("POST /jobs/{id}/renew", func(w http.ResponseWriter, r *http.Request) {
		id, forward, err := leaseOf(r)
		var l Lease
		if err == nil {
			l, err = s.renew(r.Context(), id, forward)
		}
		rpc.Reply(w, l, err, nil)
	}, workers...)
	on("POST /jobs/{id}/log", func(w http.ResponseWriter, r *http.Request) {
		id, forward, err := leaseOf(r)
		var lines []byte
		if err == nil {
			lines, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogCall))
		}
		if err == nil {
			err = s.addLog(r.Context(), id, lines, forward)
		}
		rpc.Reply(w, nil, err, nil)
	}, workers...)
	on("POST /jobs/{id}/finish", func(w http.ResponseWriter, r *http.Request) {
		id, forward, err := leaseOf(r)
		var o Outcome
		if err == nil {
			err = rpc.Decode(w, r, 1<<20, &o)
		}
		if err == nil {
			err = s.finish(r.Context(), id, o, forward)
		}
		rpc.Reply(w, nil, err, nil)
	}, workers...)
	on("GET /jobs/{id}/source", s.serveSource, taubyte.RoleMonkey)
	on("POST /jobs/{id}/environment", func(w http.ResponseWriter, r *http.Request) {
		id, _, err := leaseOf(r)
		var in EnvironmentRequest
		var all []environment.Variable
		if err == nil {
			err = rpc.Decode(w, r, 1<<18, &in)
		}
		if err == nil {
			all, err = s.environment(r.Context(), id, in)
		}
		w.Header().Set("Cache-Control", "no-store")
		rpc.Reply(w, all, err, nil)
	}, taubyte.RoleMonkey)
	return mux
}

func jobOf(r *http.Request) taubyte.JobID { return taubyte.JobID(r.PathValue("id")) }

func fenceOf(r *http.Request) uint64 {
	n, _ := strconv.ParseUint(r.URL.Query().Get("fence"), 10, 64)
	return n // no fence is 0
}

// leaseOf returns the lease that a request is about: of its sender, or, sent on by
// another node of patrick (and then not to be sent on again), of the worker it names.
func leaseOf(r *http.Request) (l leaseID, forward bool, err error) {
	m, _ := rpc.Caller(r.Context())
	q := r.URL.Query()
	l = leaseID{job: jobOf(r), fence: fenceOf(r), worker: m.Peer}
	if a := q.Get("arbiter"); a != "" {
		if l.arbiter, err = peer.Decode(a); err != nil {
			return l, false, fmt.Errorf("%w arbiter: %w", taubyte.ErrInvalid, err)
		}
	}
	named := q.Get("worker")
	switch {
	case named != "" && m.Has(taubyte.RolePatrick):
		if l.worker, err = peer.Decode(named); err != nil {
			return l, false, fmt.Errorf("%w worker: %w", taubyte.ErrInvalid, err)
		}
		return l, false, nil
	case named == "" && m.Has(taubyte.RoleMonkey):
		return l, true, nil
	}
	return l, false, fmt.Errorf("%w: this is for workers", taubyte.ErrForbidden)
}

func filter(r *http.Request) (Filter, error) {
	q := r.URL.Query()
	f := Filter{
		Project: taubyte.ProjectID(q.Get("project")), Repository: taubyte.RepositoryID(q.Get("repository")),
		Branch: taubyte.Branch(q.Get("branch")), State: State(q.Get("state")), After: taubyte.JobID(q.Get("after")),
	}
	if l := q.Get("limit"); l != "" {
		n, err := strconv.Atoi(l)
		if err != nil || n < 0 {
			return f, fmt.Errorf("%w limit %q", taubyte.ErrInvalid, l)
		}
		f.Limit = n
	}
	return f, nil
}

func (s *Service) serveLogs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	follow := q.Get("follow") == "true"
	var log io.ReadCloser
	var err error
	if fence := fenceOf(r); fence != 0 { // another node of patrick asks
		if _, err = s.Job(r.Context(), jobOf(r)); err == nil {
			log, err = s.read(r.Context(), attemptID{jobOf(r), fence}, follow, false)
		}
	} else {
		attempt, bad := strconv.Atoi(q.Get("attempt"))
		if bad != nil && q.Get("attempt") != "" || attempt < 0 {
			err = fmt.Errorf("%w attempt %q", taubyte.ErrInvalid, q.Get("attempt"))
		} else {
			log, err = s.Logs(r.Context(), jobOf(r), attempt, follow)
		}
	}
	if err != nil {
		rpc.WriteError(w, err, nil)
		return
	}
	defer log.Close()
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	out := http.NewResponseController(w)
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = out.Flush()
		err = sendEvents(w, out, log)
	} else {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_ = out.Flush()
		err = send(w, out, log)
	}
	if err != nil {
		panic(http.ErrAbortHandler) // so that the part does not look like the whole
	}
}

// send copies text, each piece at once.
func send(w io.Writer, out *http.ResponseController, log io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := log.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if err := out.Flush(); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// sendEvents sends each line as an event, and an event "end" after the last.
func sendEvents(w io.Writer, out *http.ResponseController, log io.Reader) error {
	lines := bufio.NewReaderSize(log, 32<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			text := strings.Map(func(r rune) rune {
				if r == '\r' || r == '\n' {
					return -1
				}
				return r
			}, string(line))
			if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil {
				return err
			}
			if lines.Buffered() == 0 {
				if err := out.Flush(); err != nil {
					return err
				}
			}
		}
		switch err {
		case nil, bufio.ErrBufferFull:
		case io.EOF:
			_, err := io.WriteString(w, "event: end\ndata:\n\n")
			return err
		default:
			return err
		}
	}
}

func (s *Service) serveWatch(w http.ResponseWriter, r *http.Request) {
	jobs, err := s.Watch(r.Context())
	if err != nil {
		rpc.WriteError(w, err, nil)
		return
	}
	stream, err := rpc.NewStream(w)
	if err != nil {
		return
	}
	_ = rpc.Follow(stream, jobs, rpc.Beat)
}

func (s *Service) serveSource(w http.ResponseWriter, r *http.Request) {
	id, _, err := leaseOf(r)
	var src Source
	if err == nil {
		src, err = s.source(r.Context(), id)
	}
	if err != nil {
		rpc.WriteError(w, err, nil)
		return
	}
	w.Header().Set(kindHeader, string(src.Kind))
	if src.Deleted {
		w.Header().Set(deletedHeader, "true")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	defer src.Archive.Close()
	// What fails before the first byte is answered as an error.
	first := make([]byte, 512)
	n, err := io.ReadFull(src.Archive, first)
	if err != nil && err != io.ErrUnexpectedEOF {
		rpc.WriteError(w, err, nil)
		return
	}
	for _, id := range src.Repositories {
		w.Header().Add(repositoryHeader, url.QueryEscape(string(id)))
	}
	w.Header().Set("Content-Type", "application/x-tar")
	if _, err := w.Write(first[:n]); err != nil {
		return
	}
	if _, err := io.Copy(w, src.Archive); err != nil {
		panic(http.ErrAbortHandler) // so that half a tree does not look like one
	}
}

// decodeJobs reads what serveWatch sends.
func decodeJobs(r io.Reader, take func(Job) bool) {
	for lines := json.NewDecoder(r); ; {
		var j Job
		if lines.Decode(&j) != nil || !take(j) {
			return
		}
	}
}
