package acme

import (
	"encoding/json"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte/internal/claim"
	"github.com/taubyte/taubyte/tns"
)

// For tests of what has no outside: times, rates, keys, and what is wanted.
var (
	RenewAt       = renewAt
	Backoff       = backoff
	Registered    = registered
	ValidName     = validName
	ParseRetry    = parseRetryAfter
	MaxBackoff    = maxBackoff
	Needs         = func(c *tns.Change, zone string, wildcard bool) []string { return needs(c, zone, wildcard) }
	WindowAt      = func(start, end time.Time, name string) time.Time { return window{start, end}.at(name) }
	DefaultLimits = Limits{}.withDefaults()
)

// ParseKey reads a key of the ledger, and writes it again.
func ParseKey(key string) (back string, err error) {
	k, err := parseRecordKey(key)
	if err != nil {
		return "", err
	}
	return k.key().String(), nil
}

// Wait is how long n+1 orders in a window take.
func Wait(times []time.Time, n int, window time.Duration, now time.Time) time.Duration {
	var b bucket
	for _, t := range times {
		b = b.add(t)
	}
	return b.wait(n, window, now)
}

// Plan is what is due on a node.
type Plan struct {
	plan   *plan
	ledger *ledger
	now    *time.Time
	others bool
}

// NewPlan makes one by a clock.
func NewPlan(now *time.Time) *Plan {
	o := &options{methods: []Method{HTTP01}, now: func() time.Time { return *now }}
	return &Plan{plan: newPlan(o), ledger: newLedger(nil), now: now}
}

// Want says that the registry has a host whose ownership is shown.
func (p *Plan) Want(name string) { p.plan.want(name, true) }

// Hold says that there is a certificate of 90 days, or none any more.
func (p *Plan) Hold(name string, is bool) {
	if !is {
		p.plan.hold(name, nil)
		return
	}
	p.plan.hold(name, &info{Certificate: Certificate{Hosts: []string{name}, NotBefore: *p.now, NotAfter: p.now.Add(90 * 24 * time.Hour)}})
}

// Ended takes in the record of an order that ended now.
func (p *Plan) Ended(name string, fence uint64, by peer.ID, failures int, retry time.Time) error {
	grant, err := json.Marshal(leased{by, *p.now})
	if err != nil {
		return err
	}
	end, err := json.Marshal(outcome{At: *p.now, Failures: failures, Retry: retry})
	if err != nil {
		return err
	}
	p.ledger.take(recordKey{name: name, fence: fence, by: by}.key().String(), grant)
	p.ledger.take(recordKey{name, fence, claim.Final, by}.key().String(), end)
	p.plan.touch(name)
	return nil
}

// Force has a certificate ordered now.
func (p *Plan) Force(name string) bool { return p.plan.force(name) }

// Others says that orders are another node's, or this one's.
func (p *Plan) Others(are bool) {
	p.others = are
	p.plan.touchAll()
}

// Due lists what is ordered now, and ends it.
func (p *Plan) Due() (all []string) {
	for {
		j, ok := p.plan.next(*p.now, p.ledger, func(string) bool { return !p.others })
		if !ok {
			break
		}
		if j.order {
			all = append(all, j.name)
		} else {
			p.plan.suggested(j.name, renewalInfo{of: j.have.id, next: p.now.Add(24 * time.Hour)})
			p.plan.done(j.name)
		}
	}
	for _, name := range all {
		p.plan.tried(name)
		p.plan.done(name)
	}
	return all
}
