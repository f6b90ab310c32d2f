package acme

import (
	"container/heap"
	"strings"
	"sync"
	"time"
)

// arrival is how long a certificate may take to reach a node, after the node started or
// the certificate was obtained.
const arrival = time.Minute

// plan is which certificates are wanted, which there are, and what is due when. A change
// of one costs that one.
type plan struct {
	opts  *options
	began time.Time

	mu    sync.Mutex
	items map[string]*item // by the first name of the certificate
	queue queue            // by the time of what is next
	away  []*item          // what was due and is another node's
	have  map[string]*info // the newest certificate, by each of its names
}

// item is a certificate that is wanted.
type item struct {
	name   string
	want   int // how many hosts it is for
	at     time.Time
	index  int // in the queue; -1: not there
	busy   bool
	after  time.Time // nothing before: a lease was refused
	forced bool      // somebody asked this node to renew it, and it has not been
	now    bool      // and no order was made since: a failure before that does not count
	ari    renewalInfo
}

// renewalInfo is what the authority suggested for a certificate.
type renewalInfo struct {
	of     string // the certificate's id
	window window
	next   time.Time // when to ask again
}

// job is what is due for one certificate.
type job struct {
	name     string
	names    []string
	order    bool // else the authority is asked when to renew
	have     *info
	failures int
}

func newPlan(o *options) *plan {
	return &plan{opts: o, began: o.now(), items: map[string]*item{}, have: map[string]*info{}}
}

// names lists the names of a certificate.
func names(name, zone string) []string {
	if zone != "" && name == "*."+zone {
		return []string{name, zone}
	}
	return []string{name}
}

// want says that one host more, or less, needs a certificate.
func (p *plan) want(name string, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	it := p.items[name]
	switch {
	case more && it == nil:
		it = &item{name: name, want: 1, index: -1}
		p.items[name] = it
		p.requeue(it)
	case more:
		it.want++
	case it != nil:
		if it.want--; it.want <= 0 {
			delete(p.items, name)
			if it.index >= 0 {
				heap.Remove(&p.queue, it.index)
			}
		}
	}
}

// touch looks anew at what is due for a certificate.
func (p *plan) touch(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if it := p.items[name]; it != nil {
		p.requeue(it)
	}
}

// touchAll looks anew at what was another node's.
func (p *plan) touchAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, it := range p.away {
		if p.items[it.name] == it {
			p.requeue(it)
		}
	}
	p.away = nil
}

// requeue puts an item in the queue to be looked at: next works out its time.
func (p *plan) requeue(it *item) {
	it.at = time.Time{}
	switch {
	case it.busy:
	case it.index >= 0:
		heap.Fix(&p.queue, it.index)
	default:
		heap.Push(&p.queue, it)
	}
}

// next returns something that is due and this node's to do. done ends it.
func (p *plan) next(now time.Time, l *ledger, mine func(name string) bool) (job, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 && !p.queue[0].at.After(now) {
		it := p.queue[0]
		j, at := p.due(it, l)
		if at.After(now) {
			it.at = at
			heap.Fix(&p.queue, 0)
			continue
		}
		heap.Pop(&p.queue)
		if !it.forced && !mine(it.name) {
			// Until the other has done it, or is gone. What this one was asked to order the
			// other knows nothing of; the lease keeps it to one order.
			p.away = append(p.away, it)
			continue
		}
		it.busy = true
		return j, true
	}
	return job{}, false
}

// due works out what is next for an item, and when.
func (p *plan) due(it *item, l *ledger) (job, time.Time) {
	failures, retry, _ := l.failures(it.name)
	j := job{name: it.name, names: names(it.name, p.opts.zone), order: true, failures: failures, have: p.have[it.name]}
	if strings.HasPrefix(it.name, "*.") && !has(p.opts.methods, DNS01) {
		return j, p.opts.now().Add(time.Hour) // no method can show it
	}
	retry = later(retry, it.after)
	switch {
	case it.now:
		return j, it.after
	case it.forced:
		return j, retry
	}
	if j.have == nil {
		// One that was obtained is on its way here; one that is gone is ordered anew.
		if at, ok := l.obtained(it.name); ok {
			retry = later(retry, later(at, p.began).Add(arrival))
		}
		return j, retry
	}
	at := renewAt(it.name, j.have.NotBefore, j.have.NotAfter)
	if it.ari.of == j.have.id && !it.ari.window.start.IsZero() {
		at = it.ari.window.at(it.name)
	}
	at = later(at, retry)
	if it.ari.of != j.have.id || it.ari.next.Before(at) {
		// A node that starts with many certificates does not ask of all at once.
		ask := later(it.after, j.have.seen.Add(time.Duration(share(it.name)*float64(askAgain))))
		if it.ari.of == j.have.id {
			ask = later(it.after, it.ari.next)
		}
		if ask.Before(at) {
			j.order = false
			return j, ask
		}
	}
	return j, at
}

func has(all []Method, m Method) bool {
	for _, x := range all {
		if x == m {
			return true
		}
	}
	return false
}

// postpone has nothing done for a certificate before a time.
func (p *plan) postpone(name string, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if it := p.items[name]; it != nil {
		it.after = until
	}
}

// done says that what next returned has ended.
func (p *plan) done(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if it := p.items[name]; it != nil {
		it.busy = false
		p.requeue(it)
	}
}

// renewed says that a certificate was ordered.
func (p *plan) renewed(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if it := p.items[name]; it != nil {
		it.forced, it.now = false, false
	}
}

// tried says that an order of a certificate begins.
func (p *plan) tried(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if it := p.items[name]; it != nil {
		it.now = false
	}
}

// force has a certificate ordered now. It reports false for one that is not wanted.
func (p *plan) force(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	it := p.items[name]
	if it == nil {
		return false
	}
	it.forced, it.now, it.after = true, true, time.Time{}
	p.requeue(it)
	return true
}

// suggested takes in when the authority wants a certificate renewed.
func (p *plan) suggested(name string, r renewalInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if it := p.items[name]; it != nil {
		it.ari = r
	}
}

// hold makes a certificate the one that there is for a name, or none.
func (p *plan) hold(name string, c *info) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c == nil {
		delete(p.have, name)
	} else {
		if c.seen.IsZero() {
			c.seen = p.opts.now()
		}
		p.have[name] = c
	}
	if it := p.items[name]; it != nil {
		p.requeue(it)
	}
}

// queue is a heap of items, the one that is due first at its head.
type queue []*item

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }
func (q *queue) Push(x any)        { it := x.(*item); it.index = len(*q); *q = append(*q, it) }
func (q *queue) Pop() any {
	it := (*q)[len(*q)-1]
	it.index = -1
	(*q)[len(*q)-1] = nil
	*q = (*q)[:len(*q)-1]
	return it
}
