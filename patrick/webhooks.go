package patrick

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/api"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Webhooks reads what providers send. An auth.Client and an auth.Service have it; without
// it deliveries are refused, and pushes are found by comparing branch heads.
type Webhooks interface {
	Event(ctx context.Context, id taubyte.RepositoryID, header http.Header, body []byte) (auth.Event, error)
}

// A Delivery is what a provider sent to the webhook of a repository, as it came.
type Delivery struct {
	Repository taubyte.RepositoryID `json:"repository"`
	Header     http.Header          `json:"header"`
	Body       []byte               `json:"body"`
}

// A Receipt says what a delivery was, and the job that it led to, if any.
type Receipt struct {
	Event auth.EventKind `json:"event"`
	Job   taubyte.JobID  `json:"job,omitempty"`
}

// Deliver takes a delivery in. A push and the removal of a branch become jobs, and so do
// pull requests between branches of one repository that holds a whole project: what they
// propose is built as the branch "pull/<number>", and removed when they are closed. What a
// fork proposes is not built: it is anybody's, and would see what the project keeps for
// its functions. Of a new branch the heads are compared soon; other events do nothing.
//
// The same delivery again, under whatever id, changes nothing, at whatever node it
// arrives: a body is taken once in as long as WithDeliveries says. One that is not signed
// with a secret of the repository's webhook is ErrForbidden.
//
// For the administrator and nodes of the roles gateway and patrick.
func (s *Service) Deliver(ctx context.Context, d Delivery) (Receipt, error) {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleGateway, taubyte.RolePatrick); err != nil {
		return Receipt{}, err
	}
	hooks, ok := s.opts.auth.(Webhooks)
	if !ok {
		return Receipt{}, errRefused
	}
	ctx = taubyte.AsService(ctx) // the signature is who it is of
	e, err := hooks.Event(ctx, d.Repository, d.Header, d.Body)
	if err != nil {
		return Receipt{}, err
	}
	said := Receipt{Event: e.Kind}
	sub, ok, err := s.eventOf(ctx, e)
	if err != nil || !ok {
		return said, err
	}
	// The id is not signed: who has seen a delivery could send it under another.
	body := sha256.Sum256(d.Body)
	sub.Deliveries = []string{deliveryName(e.Repository, "id", e.Delivery), deliveryName(e.Repository, "body", string(body[:]))}
	j, err := s.submitTo(ctx, sub)
	said.Job = j.ID
	return said, err
}

func deliveryName(id taubyte.RepositoryID, what, value string) string {
	sum := sha256.Sum256([]byte(string(id) + "\x00" + what + "\x00" + value))
	return hex.EncodeToString(sum[:16])
}

// eventOf says what an event submits, if anything.
func (s *Service) eventOf(ctx context.Context, e auth.Event) (sub submission, ok bool, err error) {
	p := auth.Push{Repository: e.Repository, Branch: e.Branch, Commit: e.Commit, Delivery: e.Delivery}
	switch e.Kind {
	case auth.EventPush:
		return submission{Push: p}, true, nil
	case auth.EventBranchDeleted:
		p.Commit = ""
		return submission{Push: p}, true, nil
	case auth.EventBranchCreated:
		s.look(e.Repository, e.Branch)
	case auth.EventPullRequest:
		pull := e.PullRequest
		if pull == nil || pull.From != e.Repository {
			return sub, false, nil
		}
		switch {
		case !pull.Open:
			p.Commit = ""
		case !slices.Contains(proposes, pull.Action):
			return sub, false, nil
		}
		r, err := s.opts.auth.Repository(ctx, e.Repository)
		if err != nil || r.Kind != auth.KindProject {
			return sub, false, err // of the other kinds a number says nothing of the project's other repositories
		}
		p.Branch = taubyte.Branch("pull/" + strconv.Itoa(pull.Number))
		return submission{Push: p, Follows: pull.Branch}, true, nil
	}
	return sub, false, nil
}

// proposes are the actions after which a pull request proposes a commit, in the words of
// GitHub and Gitea.
var proposes = []string{"opened", "reopened", "synchronize", "synchronized"}

// look has the heads of a repository compared soon, unless the branch is known already.
func (s *Service) look(id taubyte.RepositoryID, b taubyte.Branch) {
	s.mu.Lock()
	known := s.index.branches[branchID{id, b}]
	there := known != nil && !known.newest().spec.Deleted
	s.mu.Unlock()
	if there {
		return
	}
	select {
	case s.looks <- id:
	default: // there are many: the next comparison of all has it
	}
}

// lookAgain compares the heads of those repositories that look names, of each not more
// often than all are settled.
func (s *Service) lookAgain() {
	last := map[taubyte.RepositoryID]time.Time{}
	for {
		select {
		case id := <-s.looks:
			for old, at := range last {
				if time.Since(at) > s.settle() {
					delete(last, old)
				}
			}
			if _, lately := last[id]; lately {
				continue
			}
			last[id] = time.Now()
			known := s.known()[id]
			r, err := s.opts.auth.Repository(taubyte.AsService(s.life), id)
			if err == nil {
				err = s.reconcile(s.life, r, known)
			}
			if err != nil && s.life.Err() == nil {
				s.log.Warn("a new branch was not looked for", "repository", id, "err", err)
			}
		case <-s.life.Done():
			return
		}
	}
}

// Hooks is the public handler for providers, for paths that end in
// <provider>/<id there>. Who may call it is everybody: deliveries are signed.
//
// Whatever is refused is answered alike and no sooner than after refusalTime: a wrong
// signature, a repository or a provider that nobody knows. A body may have auth.MaxEvent
// bytes (413), has to come within 10 s, and finds a node full that reads too many (503).
func (s *Service) Hooks() http.Handler { return newHooks(s.Deliver) }

// Hooks is Service.Hooks for a node without patrick.
func (c *Client) Hooks() http.Handler { return newHooks(c.Deliver) }

// Deliver is Service.Deliver.
func (c *Client) Deliver(ctx context.Context, d Delivery) (r Receipt, err error) {
	if s := c.local(); s != nil {
		return s.Deliver(ctx, d)
	}
	return r, c.rpc.Call(ctx, http.MethodPost, "/deliveries", d, &r)
}

const (
	// refusalTime is what a refusal takes, counted from the body's end: more than it takes
	// to look for secrets and to compare signatures, so that neither shows.
	refusalTime  = 250 * time.Millisecond
	readTime     = 10 * time.Second
	deliveryTime = 30 * time.Second // providers wait for 10
	// smallBody is what each delivery may have beside the large ones, so that these can't
	// keep it away.
	smallBody  = 256 << 10
	smallSpace = 64 << 20
	largeSpace = 128 << 20
	// maxDelivery bounds a Delivery in JSON.
	maxDelivery = auth.MaxEvent/3*4 + 1<<20
)

var (
	errRefused = fmt.Errorf("%w: no webhook here has signed this", taubyte.ErrForbidden)
	errBusy    = fmt.Errorf("%w: this delivery was not taken in: send it again", taubyte.ErrUnavailable)
)

// hooks is the handler of Service.Hooks.
type hooks struct {
	deliver      func(context.Context, Delivery) (Receipt, error)
	small, large space
}

func newHooks(deliver func(context.Context, Delivery) (Receipt, error)) *hooks {
	return &hooks{deliver: deliver, small: space{free: smallSpace}, large: space{free: largeSpace}}
}

func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		rpc.Refuse(w, http.StatusMethodNotAllowed, api.CodeNoMethod, "webhooks are sent by POST")
		return
	}
	said, err := h.take(w, r)
	if errors.Is(err, taubyte.ErrUnavailable) {
		w.Header().Set("Retry-After", "1")
	}
	rpc.Reply(w, said, err, nil)
}

func (h *hooks) take(w http.ResponseWriter, r *http.Request) (Receipt, error) {
	if r.ContentLength > auth.MaxEvent {
		return Receipt{}, tooLarge()
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime))
	body, release, err := h.read(r.Body)
	if err != nil {
		return Receipt{}, err
	}
	defer release()
	end := time.NewTimer(refusalTime)
	defer end.Stop()
	ctx, cancel := context.WithTimeout(taubyte.AsService(r.Context()), deliveryTime)
	defer cancel()
	said, err := h.deliver(ctx, Delivery{Repository: hookOf(r), Header: signedHeader(r.Header), Body: body})
	switch {
	case err == nil:
		return said, nil
	case errors.Is(err, taubyte.ErrForbidden), errors.Is(err, taubyte.ErrNotFound):
		release()
		select {
		case <-end.C:
		case <-r.Context().Done():
		}
		return Receipt{}, errRefused
	case errors.Is(err, taubyte.ErrInvalid), errors.Is(err, taubyte.ErrTooLarge):
		return Receipt{}, err // it is signed
	}
	return Receipt{}, errBusy
}

func tooLarge() error {
	return fmt.Errorf("%w: a delivery has %d bytes at most", taubyte.ErrTooLarge, auth.MaxEvent)
}

// read reads a body whole, as far as there is space for it.
func (h *hooks) read(r io.Reader) (body []byte, release func(), err error) {
	var small, large int
	var once sync.Once
	free := func() {
		once.Do(func() {
			h.small.give(small)
			h.large.give(large)
		})
	}
	defer func() {
		if err != nil {
			free()
		}
	}()
	for {
		if len(body) == cap(body) {
			// What is doubled is there twice for a moment: that is counted as well.
			more := max(cap(body), 16<<10)
			switch {
			case len(body)+more <= smallBody && h.small.take(more):
				small += more
			case h.large.take(more):
				large += more
			default:
				return nil, nil, errBusy
			}
			body = append(make([]byte, 0, cap(body)+more), body...)
		}
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if len(body) > auth.MaxEvent {
			return nil, nil, tooLarge()
		}
		if err == io.EOF {
			return body, free, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w delivery: its body broke off", taubyte.ErrInvalid)
		}
	}
}

// hookOf is the repository that a path ends in.
func hookOf(r *http.Request) taubyte.RepositoryID {
	parts := strings.Split(r.URL.EscapedPath(), "/")
	for i, p := range parts {
		parts[i], _ = url.PathUnescape(p)
	}
	if len(parts) < 2 {
		return ""
	}
	return auth.NewRepositoryID(parts[len(parts)-2], parts[len(parts)-1])
}

// signedHeader is what an event may be read by: neither cookies nor what proxies add.
func signedHeader(all http.Header) http.Header {
	some := http.Header{}
	for name, values := range all {
		if name == "Content-Type" || strings.HasPrefix(name, "X-") && !strings.HasPrefix(name, "X-Forwarded-") {
			some[name] = values
		}
	}
	return some
}

// space is memory that may be used.
type space struct {
	mu   sync.Mutex
	free int
}

func (s *space) take(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free < n {
		return false
	}
	s.free -= n
	return true
}

func (s *space) give(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free += n
}
