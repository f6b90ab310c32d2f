package patrick

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/internal/api"
	"github.com/taubyte/taubyte/internal/rpc"
)

// kindHeader tells what a source is; deletedHeader that there is none.
const (
	kindHeader       = "Taubyte-Source-Kind"
	deletedHeader    = "Taubyte-Source-Deleted"
	repositoryHeader = "Taubyte-Source-Repository" // one for each, escaped as in a query
)

// handler serves patrick over HTTP, for users and for workers. Of what workers call, a
// lease is named by its fence and by the node that granted it (arbiter); a node of role
// patrick speaks for a worker that asked it (worker).
func handler(s *Service) http.Handler {
	mux := api.New(nil)
	s.handleJobs(mux)
	s.handleLeases(mux)
	s.handlePeers(mux)
	return mux
}

var (
	jobID = api.Texts{"id": "The job's ID."}
	lease = []api.Parameter{
		{Name: "fence", Text: "The number of the lease.", Type: uint64(0)},
		{Name: "arbiter", Text: "The peer ID of the node that granted it."},
		{Name: "worker", Text: "Asked by a node of role patrick: the peer ID of the worker that it speaks for."},
	}
)

var labels = api.Parameter{Name: "labels", Text: "The labels of the worker, with commas between them."}

// handleJobs mounts what users call.
func (s *Service) handleJobs(mux *api.Mux) {
	mayRead, mayDeploy := api.Project(taubyte.VerbRead, seers...), api.Project(taubyte.VerbDeploy, operators...)
	mux.Handle("GET /jobs", api.Operation{
		Summary: "Lists jobs, the newest first, a page at a time.",
		Query: []api.Parameter{
			{Name: "project", Text: "The ID of a project: only what is of it. Without one the token has to be good for everything."},
			{Name: "repository", Text: "The ID of a repository."}, {Name: "branch", Text: "A branch."},
			{Name: "state", Text: "A state of jobs."},
			{Name: "after", Text: "The ID of the last job of the page before."},
			{Name: "limit", Text: "The most jobs of a page.", Type: 0},
		},
		Rights: mayRead,
	}, api.Answer(func(r *http.Request) (Page, error) {
		f, err := filter(r)
		if err != nil {
			return Page{}, err
		}
		return s.Jobs(r.Context(), f)
	}))
	mux.Handle("GET /jobs/{id}", api.Operation{
		Summary: "Returns a job.", Path: jobID, Rights: mayRead, Text: "A worker sees the jobs that it holds.",
	}, api.Answer(func(r *http.Request) (Job, error) {
		return s.Job(r.Context(), jobOf(r))
	}))
	mux.Handle("GET /jobs/{id}/logs", api.Operation{
		Summary: "Returns the log of a job.", Path: jobID,
		Text: "As text, or as events where they are accepted: one for each line, whose data is JSON with the line (text) and the step of the build that it is of, and whose ID goes into the header Last-Event-ID, or after, of a request that goes on after it, at this node or at another; and one named end after the last. A worker sees those of the jobs that it holds.",
		Query: []api.Parameter{
			{Name: "attempt", Text: "Which attempt, from 1 on: the last where nothing is said.", Type: 0},
			{Name: "follow", Text: "Answers what is to come as well, until the attempt ends.", Type: false},
			{Name: "step", Text: "Only the lines of that step of the build."},
			{Name: "after", Text: "Goes on after the line of that ID."},
			{Name: "format", Text: "events: for who can't say which it accepts."},
		},
		Rights: mayRead,
	}, api.Serve(s.serveLogs).
		Bytes("text/plain; charset=utf-8", "The log. An answer that breaks off is not whole.").
		Bytes("text/event-stream", "The log. An answer that breaks off is not whole."))
	mux.Handle("POST /jobs/{id}/cancel", api.Operation{
		Summary: "Ends a job.", Path: jobID, Rights: mayDeploy,
	}, api.Act(func(r *http.Request) error {
		return s.Cancel(r.Context(), jobOf(r))
	}))
	mux.Handle("POST /jobs/{id}/retry", api.Operation{
		Summary: "Queues a job again that failed, was cancelled or timed out.", Path: jobID, Rights: mayDeploy,
	}, api.Act(func(r *http.Request) error {
		return s.Retry(r.Context(), jobOf(r))
	}))
	mux.Handle("GET /watch", api.Operation{
		Summary: "Follows jobs: each that changes.", Rights: api.Everybody(seers...),
	}, api.Follow(func(r *http.Request) (<-chan Job, error) {
		return s.Watch(r.Context())
	}))
	mux.Handle("POST /push", api.Operation{
		Summary: "Makes a job of a push.", Rights: api.Project(taubyte.VerbDeploy, operators...),
	}, api.Call(64<<10, func(r *http.Request, p auth.Push) (Job, error) {
		return s.Submit(r.Context(), p)
	}))
	mux.Handle("POST /reconcile", api.Operation{
		Summary: "Compares the branches of all repositories with what was built, and makes the jobs that are missing.",
		Rights:  api.Everything(taubyte.VerbDeploy, operators...),
	}, api.Act(func(r *http.Request) error {
		return s.Reconcile(r.Context())
	}))
}

// handleLeases mounts what workers call.
func (s *Service) handleLeases(mux *api.Mux) {
	monkeys := api.Nodes(taubyte.RoleMonkey).Guarded()
	workers := api.Nodes(taubyte.RoleMonkey, taubyte.RolePatrick).Guarded()
	mux.Handle("POST /claim", api.Operation{
		Summary: "Waits for a job, and returns its lease.", Text: "The lease is empty where there was none for a while.",
		Query:  []api.Parameter{labels},
		Rights: monkeys,
	}, api.Answer(func(r *http.Request) (Lease, error) {
		stated, err := splitLabels(r.URL.Query().Get("labels"))
		if err != nil {
			return Lease{}, err
		}
		return s.claim(r.Context(), worker{caller(r.Context()), stated})
	}))
	mux.Handle("POST /jobs/{id}/renew", api.Operation{
		Summary: "Renews a lease.", Path: jobID, Query: lease, Rights: workers,
	}, api.Answer(func(r *http.Request) (Lease, error) {
		id, forward, err := leaseOf(r)
		if err != nil {
			return Lease{}, err
		}
		return s.renew(r.Context(), id, forward)
	}))
	mux.Handle("POST /jobs/{id}/log", api.Operation{
		Summary: "Adds to the log of a job.", Path: jobID, Rights: workers,
		Query: append(slices.Clone(lease), api.Parameter{Name: "at", Text: "Where in the log the lines belong, in bytes: what is there already is not added again. Its end where nothing is said.", Type: int64(0)}),
	}, api.Serve(s.takeLog).Reads("text/plain", "Lines of the log.").Empty("Kept."))
	mux.Handle("POST /jobs/{id}/finish", api.Operation{
		Summary: "Ends a job with its outcome.", Path: jobID, Query: lease, Rights: workers,
	}, api.Take(1<<20, func(r *http.Request, o Outcome) error {
		id, forward, err := leaseOf(r)
		if err != nil {
			return err
		}
		return s.finish(r.Context(), id, o, forward)
	}))
	mux.Handle("GET /jobs/{id}/source", api.Operation{
		Summary: "Returns the tree that a job builds.", Path: jobID, Query: lease, Rights: monkeys,
	}, api.Serve(s.serveSource).
		Bytes("application/x-tar", "The tree; the header "+kindHeader+" says of what kind of repository, and "+repositoryHeader+" which others the project has.").
		Empty("There is none: the branch is gone."))
	mux.Handle("POST /jobs/{id}/environment", api.Operation{
		Summary: "Returns the variables and secrets that a build sees.", Path: jobID, Query: lease, Rights: monkeys,
	}, api.Call(1<<18, func(r *http.Request, in EnvironmentRequest) ([]environment.Variable, error) {
		id, _, err := leaseOf(r)
		if err != nil {
			return nil, err
		}
		return s.environment(r.Context(), id, in)
	}))
}

// handlePeers mounts what the other nodes of role patrick call.
func (s *Service) handlePeers(mux *api.Mux) {
	peers := api.Nodes(taubyte.RolePatrick).Guarded()
	mux.Handle("GET /alive", api.Operation{
		Summary: "Answers as long as the service runs.", Rights: peers,
	}, api.Act(func(*http.Request) error {
		return s.life.Err()
	}))
	mux.Handle("POST /submit", api.Operation{
		Summary: "Has the node that decides on a branch make a job.", Rights: peers,
	}, api.Call(64<<10, func(r *http.Request, sub submission) (Job, error) {
		return s.decide(r.Context(), sub)
	}))
	mux.Handle("POST /heard", api.Operation{
		Summary: "Says which of some leases were renewed here.", Rights: peers,
	}, api.Call(1<<20, func(_ *http.Request, leases []heldLease) ([]heldLease, error) {
		return s.heard(leases), nil
	}))
	mux.Handle("POST /jobs/{id}/grant", api.Operation{
		Summary: "Asks an arbiter for the lease of a job.", Path: jobID, Query: append(slices.Clone(lease), labels), Rights: peers,
	}, api.Answer(func(r *http.Request) (Lease, error) {
		id, _, err := leaseOf(r)
		if err != nil {
			return Lease{}, err
		}
		stated, err := splitLabels(r.URL.Query().Get("labels"))
		if err != nil {
			return Lease{}, err
		}
		return s.grant(r.Context(), id.job, worker{id.worker, stated})
	}))
	part := []api.Parameter{
		{Name: "fence", Text: "The number of the attempt's lease.", Type: uint64(0)},
		{Name: "at", Text: "A place in the log, in bytes.", Type: int64(0)},
	}
	mux.Handle("POST /jobs/{id}/pieces", api.Operation{
		Summary: "Copies a part of the log of an attempt to this node, and says how much it has.", Path: jobID, Query: part, Rights: peers,
	}, api.Serve(s.takePieces).Reads("application/octet-stream", "The part.").Bytes("application/json", "How many bytes of the log this node has (size)."))
	mux.Handle("GET /jobs/{id}/pieces", api.Operation{
		Summary: "Returns what this node has of the log of an attempt.", Path: jobID, Rights: peers,
		Query: append(slices.Clone(part),
			api.Parameter{Name: "least", Text: "How much of the log it has to have.", Type: int64(0)},
			api.Parameter{Name: "follow", Text: "Answers what is to come as well.", Type: false}),
	}, api.Serve(s.servePieces).Bytes("application/octet-stream", "The log as it was written, from that place on."))
	mux.Handle("POST /deliveries", api.Operation{
		Summary: "Hands on what a git provider sent to a webhook.", Rights: api.Nodes(taubyte.RoleGateway, taubyte.RolePatrick).Guarded(),
	}, api.Call(maxDelivery, func(r *http.Request, d Delivery) (Receipt, error) {
		return s.Deliver(r.Context(), d)
	}))
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
	if !validID(string(l.job)) && m.Has(taubyte.RoleMonkey) {
		return l, false, fmt.Errorf("%w: job %.100q", taubyte.ErrNotFound, l.job)
	}
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

func (s *Service) serveSource(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
	id, _, err := leaseOf(r)
	var src Source
	if err == nil {
		src, err = s.source(r.Context(), id)
	}
	if err != nil {
		rpc.WriteError(w, err, codes)
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
		rpc.WriteError(w, err, codes)
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
