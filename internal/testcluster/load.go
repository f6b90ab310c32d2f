package testcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// patience is how long a user waits for an answer.
const patience = 20 * time.Second

// moving is how long after a fault took a gateway away its users leave it: about what
// it takes until the cluster's DNS names it no more and a client tries the next
// address.
const moving = time.Second

// An outcome is what a user got.
type outcome string

const (
	ok          outcome = "ok"
	failed      outcome = "failed"      // anything but what was asked for
	unavailable outcome = "unavailable" // 503
	interrupted outcome = "interrupted" // the gateway that it was under way on was taken away
	missing     outcome = "missing"     // an acknowledged write was not found, or had another content
)

// A Work is what one group of users does.
type Work interface {
	// run works until ctx ends, and returns when nothing is under way.
	run(ctx context.Context, l *Load)
}

// A Load is users at work. Its methods may be called concurrently.
type Load struct {
	c     *Cluster
	began time.Time
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu      sync.Mutex
	samples []sample
}

type sample struct {
	kind   string
	at     time.Time
	took   time.Duration
	out    outcome
	detail string
}

// Load starts users. Those that are not stopped are stopped at the end of the test.
func (c *Cluster) Load(works ...Work) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{c: c, began: time.Now(), stop: cancel}
	for _, w := range works {
		l.wg.Go(func() { w.run(ctx, l) })
	}
	c.t.Cleanup(func() { l.Stop() })
	return l
}

// Stop ends the load when what is under way has been answered.
func (l *Load) Stop() {
	l.stop()
	l.wg.Wait()
}

func (l *Load) add(s sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, s)
}

// every calls do on a schedule, concurrently, until ctx ends, and waits for all.
func every(ctx context.Context, perSecond float64, do func(i int)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
	defer tick.Stop()
	// More than this under way at once is a cluster that answers nothing: the load
	// is then what the users' patience makes of it.
	places := make(chan struct{}, 400)
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-places }()
			do(i)
		})
	}
}

// A user comes in by one gateway, and goes to another when that is away.
type user struct {
	c      *Cluster
	prefer int
	http   *http.Client
}

func (c *Cluster) user(i int) *user {
	t := &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second, DialContext: c.dialer(i).DialContext}
	return &user{c: c, prefer: i, http: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// dialer dials from one of the addresses of users.
func (c *Cluster) dialer(i int) *net.Dialer {
	d := &net.Dialer{Timeout: 5 * time.Second}
	if c.wire != nil {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.wire.addr(byte(firstClient+i%clientAddrs)), 0))
	}
	return d
}

// gateways lists where a user tries, best first: its own, unless that has been away
// for a while.
func (u *user) gateways() []*Node {
	all := u.c.Nodes("gateway")
	var good, away []*Node
	for i := range all {
		g := all[(u.prefer+i)%len(all)]
		if since, _ := g.away(); !since.IsZero() && time.Since(since) > moving {
			away = append(away, g)
		} else {
			good = append(good, g)
		}
	}
	return append(good, away...)
}

// awaySince reports whether a fault kept a node from answering at any time since at.
func (c *Cluster) awaySince(n *Node, at time.Time) bool {
	since, back := n.away()
	return !since.IsZero() || back.After(at)
}

// request sends one request for the first gateway that takes it, and a safe one to
// the next when it was interrupted. It records what came of it under kind: judge says
// whether an answer is the one that was asked for.
func (l *Load) request(u *user, kind, method, host, path string, body []byte, judge func(status int, body []byte) (outcome, string)) (outcome, []byte) {
	safe := method == http.MethodGet
	gateways := u.gateways()
	for i, g := range gateways {
		s := sample{kind: kind, at: time.Now()}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		leave := context.AfterFunc(g.reach(), cancel)
		status, text, err := send(ctx, u.http, method, g.users, host, path, body)
		leave()
		cancel()
		s.took = time.Since(s.at)
		if err == nil {
			if s.out, s.detail = judge(status, text); s.out != ok {
				s.detail = fmt.Sprintf("%s by %s: %s", s.detail, g.Name, firstLine(text))
			}
			l.add(s)
			return s.out, text
		}
		next := i+1 < len(gateways)
		var dial *net.OpError
		if next && errors.As(err, &dial) && dial.Op == "dial" {
			continue // not sent: as a client with several addresses does
		}
		if next && safe && g.ending.Load() && errors.Is(err, syscall.ECONNRESET) {
			// Its kernel had taken the connection when the gateway closed its listener, and
			// nobody saw the request: a safe one may be repeated (RFC 9110, 9.2.2).
			continue
		}
		s.out, s.detail = failed, fmt.Sprintf("%s: %v", g.Name, err)
		if l.c.awaySince(g, s.at) && (next || !safe) {
			s.out = interrupted
		}
		l.add(s)
		if !safe || s.out != interrupted {
			return s.out, nil
		}
	}
	return failed, nil
}

func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return string(line[:min(len(line), 160)])
}

func send(ctx context.Context, client *http.Client, method, addr, host, path string, body []byte) (int, []byte, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, r)
	if err != nil {
		return 0, nil, err
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// ask is one request of the test itself.
func (c *Cluster) ask(method string, g *Node, host, path string, body []byte) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	status, text, err := send(ctx, c.http, method, g.users, host, path, body)
	if err != nil {
		return 0, err.Error()
	}
	return status, string(text)
}

// Reads asks for a path of a project so many times a second. The kind names it in the
// figures; the answer has to be 200.
func Reads(kind string, p *Project, path string, perSecond float64) Work {
	return reads{kind, p, path, perSecond}
}

type reads struct {
	kind      string
	p         *Project
	path      string
	perSecond float64
}

// usersOf is how many users a work has.
const usersOf = 8

func (r reads) run(ctx context.Context, l *Load) {
	users := l.users()
	defer users.close()
	every(ctx, r.perSecond, func(i int) {
		l.request(users[i%len(users)], r.kind, http.MethodGet, r.p.Host(), r.path, nil, func(status int, _ []byte) (outcome, string) {
			return judge(status, http.StatusOK)
		})
	})
}

func judge(status, want int) (outcome, string) {
	switch status {
	case want:
		return ok, ""
	case http.StatusServiceUnavailable:
		return unavailable, "503"
	}
	return failed, fmt.Sprint(status)
}

type users []*user

func (l *Load) users() users {
	var all users
	for i := range usersOf {
		all = append(all, l.c.user(i))
	}
	return all
}

func (u users) close() {
	for _, one := range u {
		one.http.CloseIdleConnections()
	}
}
