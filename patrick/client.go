package patrick

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Client is patrick as another node sees it: as much of it as the node's roles
// allow. It calls patrick on its own host directly where there is one. It is safe
// for concurrent use.
type Client struct {
	host taubyte.Host
	rpc  *rpc.Client
}

// NewClient returns a client. Close it when done.
func NewClient(h taubyte.Host) *Client {
	return &Client{host: h, rpc: rpc.NewClient(h, Protocol, nil)}
}

// Close drops the client's connections.
func (c *Client) Close() error {
	c.rpc.Close()
	return nil
}

func (c *Client) local() *Service {
	s, _ := c.host.Local(Protocol).(*Service)
	return s
}

func jobPath(id taubyte.JobID, rest string) string {
	return "/jobs/" + url.PathEscape(string(id)) + rest
}

// Submit is Service.Submit.
func (c *Client) Submit(ctx context.Context, p auth.Push) (j Job, err error) {
	if s := c.local(); s != nil {
		return s.Submit(ctx, p)
	}
	return j, c.rpc.Call(ctx, http.MethodPost, "/push", p, &j)
}

// Jobs is Service.Jobs.
func (c *Client) Jobs(ctx context.Context, f Filter) (page Page, err error) {
	if s := c.local(); s != nil {
		return s.Jobs(ctx, f)
	}
	q := url.Values{}
	for name, v := range map[string]string{
		"project": string(f.Project), "repository": string(f.Repository), "branch": string(f.Branch),
		"state": string(f.State), "after": string(f.After),
	} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return page, c.rpc.Call(ctx, http.MethodGet, "/jobs?"+q.Encode(), nil, &page)
}

// Job is Service.Job.
func (c *Client) Job(ctx context.Context, id taubyte.JobID) (j Job, err error) {
	if s := c.local(); s != nil {
		return s.Job(ctx, id)
	}
	return j, c.rpc.Call(ctx, http.MethodGet, jobPath(id, ""), nil, &j)
}

// Cancel is Service.Cancel.
func (c *Client) Cancel(ctx context.Context, id taubyte.JobID) error {
	if s := c.local(); s != nil {
		return s.Cancel(ctx, id)
	}
	return c.rpc.Call(ctx, http.MethodPost, jobPath(id, "/cancel"), nil, nil)
}

// Retry is Service.Retry.
func (c *Client) Retry(ctx context.Context, id taubyte.JobID) error {
	if s := c.local(); s != nil {
		return s.Retry(ctx, id)
	}
	return c.rpc.Call(ctx, http.MethodPost, jobPath(id, "/retry"), nil, nil)
}

// Reconcile is Service.Reconcile, on one node.
func (c *Client) Reconcile(ctx context.Context) error {
	if s := c.local(); s != nil {
		return s.Reconcile(ctx)
	}
	return c.rpc.Call(ctx, http.MethodPost, "/reconcile", nil, nil)
}

// Lines is Service.Lines. When the node that it reads from goes away it goes on after the
// last line with another, which it looks for for a minute.
func (c *Client) Lines(ctx context.Context, id taubyte.JobID, o LogOptions) iter.Seq2[LogLine, error] {
	if s := c.local(); s != nil {
		return s.Lines(ctx, id, o)
	}
	return func(yield func(LogLine, error) bool) {
		for last := time.Now(); ; {
			ended, more := false, true
			err := c.events(ctx, id, o, func(l LogLine) bool {
				last, o.After = time.Now(), l.ID
				more = yield(l, nil)
				return more
			}, &ended)
			switch {
			case ended || !more:
				return
			case ctx.Err() != nil:
				err = ctx.Err()
			case away(err) && time.Since(last) < resumeFor:
				again := time.NewTimer(200 * time.Millisecond)
				select {
				case <-again.C:
				case <-ctx.Done():
				}
				again.Stop()
				continue
			}
			yield(LogLine{}, err)
			return
		}
	}
}

// events reads a log from one node.
func (c *Client) events(ctx context.Context, id taubyte.JobID, o LogOptions, take func(LogLine) bool, ended *bool) error {
	q := url.Values{"format": {"events"}, "follow": {strconv.FormatBool(o.Follow)}}
	for name, v := range map[string]string{"step": o.Step, "after": o.After} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if o.Attempt != 0 {
		q.Set("attempt", strconv.Itoa(o.Attempt))
	}
	resp, err := c.rpc.OpenAny(ctx, http.MethodGet, jobPath(id, "/logs?"+q.Encode()))
	if err != nil {
		return err
	}
	body := rpc.Followed(resp.Body, rpc.Silence)
	defer body.Close()
	for line, err := range ReadEvents(body) {
		if err != nil {
			return err
		}
		if !take(line) {
			return nil
		}
	}
	*ended = true
	return nil
}

// Logs is Service.Logs, and goes on as Lines does.
func (c *Client) Logs(ctx context.Context, id taubyte.JobID, attempt int, follow bool) (io.ReadCloser, error) {
	if s := c.local(); s != nil {
		return s.Logs(ctx, id, attempt, follow)
	}
	ctx, cancel := context.WithCancel(ctx)
	next, stop := iter.Pull2(c.Lines(ctx, id, LogOptions{Attempt: attempt, Follow: follow}))
	var mu sync.Mutex // next and stop are called one at a time
	pull := func() (LogLine, bool, error) {
		mu.Lock()
		defer mu.Unlock()
		line, err, ok := next()
		if !ok {
			return LogLine{}, false, io.EOF
		}
		return line, err == nil, err
	}
	log := &textLog{next: pull, close: func() error {
		cancel()
		mu.Lock()
		defer mu.Unlock()
		stop()
		return nil
	}}
	if follow {
		return log, nil // the attempt may be to come
	}
	line, ok, err := pull()
	switch {
	case err == io.EOF:
		log.err = err
	case err != nil:
		_ = log.Close()
		return nil, err
	case ok:
		log.ready = append([]byte(line.String()), '\n')
	}
	return log, nil
}

// Watch is Service.Watch on one node: the channel also closes when that node goes
// away.
func (c *Client) Watch(ctx context.Context) (<-chan Job, error) {
	if s := c.local(); s != nil {
		return s.Watch(ctx)
	}
	resp, err := c.rpc.OpenAny(ctx, http.MethodGet, "/watch")
	if err != nil {
		return nil, err
	}
	out := make(chan Job)
	go func() {
		defer close(out)
		body := rpc.Followed(resp.Body, rpc.Silence)
		defer body.Close()
		decodeJobs(body, func(j Job) bool {
			select {
			case out <- j:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	return out, nil
}

// Claim is Service.Claim.
func (c *Client) Claim(ctx context.Context, labels ...string) (l Lease, err error) {
	if s := c.local(); s != nil {
		return s.Claim(ctx, labels...)
	}
	path := "/claim"
	if len(labels) > 0 {
		path += "?labels=" + url.QueryEscape(joinLabels(labels))
	}
	err = c.rpc.Call(ctx, http.MethodPost, path, nil, &l)
	l.Expires = time.Now().Add(l.Lasts)
	return l, err
}

// onLease calls the node that looks after a lease, and where it does not answer the next.
func (c *Client) onLease(ctx context.Context, l Lease, goOn func(error) bool, do func(peer.ID) error) error {
	peers, err := c.rpc.Peers(ctx)
	if err != nil {
		return err
	}
	if i := slices.Index(peers, l.Arbiter); i > 0 {
		peers = slices.Insert(slices.Delete(peers, i, i+1), 0, l.Arbiter)
	}
	for _, p := range peers {
		err = do(p)
		if err == nil || ctx.Err() != nil || !away(err) && !goOn(err) {
			return err
		}
	}
	return err
}

func never(error) bool { return false }

func (l Lease) path(what string) string {
	return leasePath(leaseID{job: l.Job.ID, fence: l.Fence, arbiter: l.Arbiter}, what, false)
}

// Renew is Service.Renew.
func (c *Client) Renew(ctx context.Context, l Lease) (renewed Lease, err error) {
	if s := c.local(); s != nil {
		return s.Renew(ctx, l)
	}
	err = c.onLease(ctx, l, never, func(p peer.ID) error {
		began := time.Now()
		err := c.rpc.CallPeer(ctx, p, http.MethodPost, l.path("renew"), nil, &renewed)
		renewed.Expires = began.Add(renewed.Lasts)
		return err
	})
	return renewed, err
}

// Log is Service.Log.
func (c *Client) Log(ctx context.Context, l Lease, at int64, lines []byte) error {
	if s := c.local(); s != nil {
		return s.Log(ctx, l, at, lines)
	}
	if err := checkLog(at, lines); err != nil {
		return err
	}
	return c.onLease(ctx, l, never, func(p peer.ID) error {
		resp, err := c.rpc.Open(ctx, p, http.MethodPost, l.path("log")+fmt.Sprintf("&at=%d", at), bytes.NewReader(lines))
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// Finish is Service.Finish.
func (c *Client) Finish(ctx context.Context, l Lease, o Outcome) error {
	if s := c.local(); s != nil {
		return s.Finish(ctx, l, o)
	}
	return c.onLease(ctx, l, never, func(p peer.ID) error {
		return c.rpc.CallPeer(ctx, p, http.MethodPost, l.path("finish"), o, nil)
	})
}

// Source is Service.Source, on the first node that has it.
func (c *Client) Source(ctx context.Context, l Lease) (src Source, err error) {
	if s := c.local(); s != nil {
		return s.Source(ctx, l)
	}
	elsewhere := func(err error) bool { return errors.Is(err, taubyte.ErrNotFound) }
	err = c.onLease(ctx, l, elsewhere, func(p peer.ID) error {
		resp, err := c.rpc.Open(ctx, p, http.MethodGet, l.path("source"), nil)
		if err != nil {
			return err
		}
		src = Source{Kind: auth.Kind(resp.Header.Get(kindHeader)), Deleted: resp.Header.Get(deletedHeader) == "true"}
		if src.Deleted {
			return resp.Body.Close()
		}
		src.Repositories = []taubyte.RepositoryID{}
		for _, escaped := range resp.Header.Values(repositoryHeader) {
			id, err := url.QueryUnescape(escaped)
			if err != nil {
				_ = resp.Body.Close()
				return fmt.Errorf("%w answer: the repository %q", taubyte.ErrInvalid, escaped)
			}
			src.Repositories = append(src.Repositories, taubyte.RepositoryID(id))
		}
		src.Archive = resp.Body
		return nil
	})
	return src, err
}

// Environment is Service.Environment.
func (c *Client) Environment(ctx context.Context, l Lease, r EnvironmentRequest) (all []environment.Variable, err error) {
	if s := c.local(); s != nil {
		return s.Environment(ctx, l, r)
	}
	err = c.onLease(ctx, l, never, func(p peer.ID) error {
		return c.rpc.CallPeer(ctx, p, http.MethodPost, l.path("environment"), r, &all)
	})
	return all, err
}
