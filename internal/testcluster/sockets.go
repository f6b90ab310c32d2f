package testcluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Sockets are users of a copy of the example chat, each with a WebSocket that it opens
// again when it ends. The kinds in the figures are "open socket", and "socket" for what
// became of each that was open.
type Sockets struct {
	p    *Project
	n    int
	open atomic.Int64
}

// NewSockets makes n users.
func NewSockets(p *Project, n int) *Sockets { return &Sockets{p: p, n: n} }

// Open is how many sockets are open.
func (s *Sockets) Open() int { return int(s.open.Load()) }

func (s *Sockets) run(ctx context.Context, l *Load) {
	users := l.users()
	defer users.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	// As many are opened at once as a page with many visitors sees.
	places := make(chan struct{}, 20)
	for i := range s.n {
		wg.Go(func() {
			for ctx.Err() == nil {
				places <- struct{}{}
				ws, g := s.enter(ctx, l, users[i%len(users)])
				<-places
				if ws == nil {
					pause(ctx, 500*time.Millisecond)
					continue
				}
				s.stay(ctx, l, ws, g)
			}
		})
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// enter does what the page does: it asks where the socket is, and opens it.
func (s *Sockets) enter(ctx context.Context, l *Load, u *user) (*websocket.Conn, *Node) {
	g := u.gateways()[0]
	sm := sample{kind: "open socket", at: time.Now(), out: ok}
	dial, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer context.AfterFunc(g.reach(), cancel)()
	status, path, err := send(dial, u.http, http.MethodGet, g.users, s.p.Host(), "/socket", nil)
	var ws *websocket.Conn
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/socket: %d", status)
	}
	if err == nil {
		var resp *http.Response
		ws, resp, err = websocket.Dial(dial, "ws://"+g.users+"/"+string(path), &websocket.DialOptions{
			Host: s.p.Host(), HTTPHeader: http.Header{"Origin": {"http://" + s.p.Host()}}, HTTPClient: u.http,
		})
		if err != nil && resp != nil {
			status = resp.StatusCode
		}
	}
	if ctx.Err() != nil && err != nil {
		return nil, nil
	}
	sm.took = time.Since(sm.at)
	if err != nil {
		sm.detail = g.Name + ": " + err.Error()
		switch {
		case l.c.awaySince(g, sm.at):
			sm.out = interrupted
		case status == http.StatusServiceUnavailable:
			sm.out = unavailable
		default:
			sm.out = failed
		}
	}
	l.add(sm)
	return ws, g
}

// stay reads until the socket ends, or the user leaves.
func (s *Sockets) stay(ctx context.Context, l *Load, ws *websocket.Conn, g *Node) {
	s.open.Add(1)
	defer s.open.Add(-1)
	defer func() { _ = ws.CloseNow() }()
	sm := sample{kind: "socket", at: time.Now(), out: ok}
	here, leave := context.WithCancel(ctx)
	defer leave()
	defer context.AfterFunc(g.reach(), leave)()
	for {
		_, _, err := ws.Read(here)
		if err == nil {
			continue
		}
		sm.took = time.Since(sm.at)
		var closed websocket.CloseError
		switch {
		case ctx.Err() != nil:
		case l.c.awaySince(g, sm.at):
			sm.out, sm.detail = interrupted, g.Name
		case errors.As(err, &closed):
			sm.out, sm.detail = failed, fmt.Sprintf("%s: closed with %d %s", g.Name, closed.Code, closed.Reason)
		default:
			text, _, _ := strings.Cut(err.Error(), "\n")
			sm.out, sm.detail = failed, g.Name+": "+text
		}
		l.add(sm)
		return
	}
}
