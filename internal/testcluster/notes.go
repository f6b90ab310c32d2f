package testcluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// A Ledger holds the writes to a copy of the example notes that were acknowledged,
// and is the work of writing more and of reading them.
type Ledger struct {
	p             *Project
	writes, reads float64

	mu      sync.Mutex
	entries []entry
}

type entry struct {
	id, text string
	at       time.Time // when it was acknowledged
}

// Notes writes and reads notes, so many times a second. The kinds in the figures are
// "write" and "read back".
func Notes(p *Project, writes, reads float64) *Ledger {
	return &Ledger{p: p, writes: writes, reads: reads}
}

func (g *Ledger) run(ctx context.Context, l *Load) {
	users := l.users()
	defer users.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	if g.reads > 0 {
		wg.Go(func() {
			every(ctx, g.reads, func(i int) {
				if e, ok := g.pick(); ok {
					l.readBack(users[i%len(users)], g.p, e)
				}
			})
		})
	}
	if g.writes > 0 {
		every(ctx, g.writes, func(i int) { g.write(l, users[i%len(users)], i) })
	}
}

func (g *Ledger) write(l *Load, u *user, i int) {
	text := fmt.Sprintf("note %d of %d", i, time.Now().UnixNano())
	out, body := l.request(u, "write", http.MethodPost, g.p.Host(), "/notes", []byte(text), func(status int, _ []byte) (outcome, string) {
		return judge(status, http.StatusCreated)
	})
	var note struct{ ID string }
	if out == ok && json.Unmarshal(body, &note) == nil {
		g.mu.Lock()
		g.entries = append(g.entries, entry{note.ID, text, time.Now()})
		g.mu.Unlock()
	}
}

// pick chooses an acknowledged write: of all, or of the last few.
func (g *Ledger) pick() (entry, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.entries)
	if n == 0 {
		return entry{}, false
	}
	if rand.IntN(2) == 0 {
		return g.entries[n-1-rand.IntN(min(n, 10))], true
	}
	return g.entries[rand.IntN(n)], true
}

func (l *Load) readBack(u *user, p *Project, e entry) {
	l.request(u, "read back", http.MethodGet, p.Host(), "/notes?id="+url.QueryEscape(e.id), nil, e.judge)
}

func (e entry) judge(status int, body []byte) (outcome, string) {
	if status == http.StatusNotFound {
		return missing, fmt.Sprintf("404 for a write that was acknowledged %s before", time.Since(e.at).Round(time.Millisecond))
	}
	if out, detail := judge(status, http.StatusOK); out != ok {
		return out, detail
	}
	var note struct{ Text string }
	if err := json.Unmarshal(body, &note); err != nil || note.Text != e.text {
		return missing, "another content"
	}
	return ok, ""
}

// Acknowledged is how many writes were.
func (g *Ledger) Acknowledged() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.entries)
}

// Lost reads every acknowledged write, and returns those that are not there, and those
// that nobody can say anything of: both after a while of asking again.
func (g *Ledger) Lost(within time.Duration) (lost, unknown []string) {
	g.mu.Lock()
	entries := append([]entry(nil), g.entries...)
	g.mu.Unlock()
	deadline := time.Now().Add(within)
	var mu sync.Mutex
	var wg sync.WaitGroup
	work := make(chan entry)
	for i := range usersOf {
		wg.Go(func() {
			u := g.p.c.user(i)
			defer u.http.CloseIdleConnections()
			for e := range work {
				for {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					status, body, err := send(ctx, u.http, http.MethodGet, u.gateways()[0].users, g.p.Host(), "/notes?id="+url.QueryEscape(e.id), nil)
					cancel()
					out, detail := failed, fmt.Sprint(err)
					if err == nil {
						out, detail = e.judge(status, body)
					}
					if out == ok {
						break
					}
					if time.Now().After(deadline) {
						mu.Lock()
						if out == missing {
							lost = append(lost, e.id+": "+detail)
						} else {
							unknown = append(unknown, e.id+": "+detail+" "+firstLine(body))
						}
						mu.Unlock()
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
	}
	for _, e := range entries {
		work <- e
	}
	close(work)
	wg.Wait()
	return lost, unknown
}
