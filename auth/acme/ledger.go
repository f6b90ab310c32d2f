package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/claim"
)

// The replicated keys. Each is written once, by the node that it ends with:
//
//	/orders/<name>/<fence, 20 digits>/grant/<arbiter>   a lease on the order of a certificate
//	/orders/<name>/<fence, 20 digits>/end/<kind>/<by>   how it ended
//
// Records are kept for a week, which the rates are counted over, and the newest of each
// name for as long as its certificate.
const ordersPrefix = "/orders"

// leased is the record of a grant.
type leased struct {
	Holder peer.ID   `json:"holder"`
	At     time.Time `json:"at"`
}

// outcome is the record of an end.
type outcome struct {
	At       time.Time `json:"at"`
	Error    string    `json:"error,omitempty"`
	Failures int       `json:"failures,omitempty"` // in a row
	Retry    time.Time `json:"retry,omitzero"`     // not before
}

// recordKey is a key of the ledger, taken apart.
type recordKey struct {
	name  string
	fence uint64
	kind  claim.Kind // 0: a grant
	by    peer.ID
}

func (k recordKey) key() ds.Key {
	what := "grant"
	if k.kind != 0 {
		what = "end/" + strconv.Itoa(int(k.kind))
	}
	return ds.RawKey(fmt.Sprintf("%s/%s/%020d/%s/%s", ordersPrefix, strings.ReplaceAll(k.name, "*", "_"), k.fence, what, k.by))
}

func parseRecordKey(text string) (k recordKey, err error) {
	bad := fmt.Errorf("%w record of orders %q", taubyte.ErrInvalid, text)
	parts := strings.Split(strings.TrimPrefix(text, ordersPrefix+"/"), "/")
	if !strings.HasPrefix(text, ordersPrefix+"/") || len(parts) < 4 || parts[0] == "" || len(parts[1]) != 20 {
		return k, bad
	}
	k.name = parts[0]
	if rest, ok := strings.CutPrefix(k.name, "_."); ok {
		k.name = "*." + rest
	}
	if k.fence, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return k, bad
	}
	switch {
	case len(parts) == 4 && parts[2] == "grant":
	case len(parts) == 5 && parts[2] == "end":
		n, err := strconv.Atoi(parts[3])
		if err != nil || n < int(claim.Lost) || n > int(claim.Settled) || strconv.Itoa(n) != parts[3] {
			return k, bad
		}
		k.kind = claim.Kind(n)
	default:
		return k, bad
	}
	k.by, err = peer.Decode(parts[len(parts)-1])
	if err != nil || k.by.String() != parts[len(parts)-1] {
		return k, bad
	}
	return k, nil
}

// ledger is what this node knows of the leases on orders.
type ledger struct {
	store *crdt.Store

	mu      sync.Mutex
	orders  map[string]*history
	under   map[string]claim.Grant // the newest leases that have not ended
	all     bucket                 // of grants
	domains map[string]bucket      // by registered domain
}

type history struct {
	claim.History[outcome]
	at map[uint64]time.Time // of grants
}

func (h *history) ended(fence uint64) bool {
	_, ok := h.End(fence)
	return ok
}

func newLedger(store *crdt.Store) *ledger {
	return &ledger{store: store, orders: map[string]*history{}, under: map[string]claim.Grant{}, domains: map[string]bucket{}}
}

// open reads what is there. What the events of the watch bring is seen twice, not never.
func (l *ledger) open(ctx, life context.Context) (<-chan crdt.Event, error) {
	events, err := l.store.Watch(life, ds.NewKey(ordersPrefix), 0)
	if err != nil {
		return nil, err
	}
	return events, l.load(ctx, func(string) {})
}

func (l *ledger) load(ctx context.Context, changed func(name string)) error {
	results, err := l.store.Query(ctx, query.Query{Prefix: ordersPrefix})
	if err != nil {
		return err
	}
	defer results.Close()
	for r := range results.Next() {
		if r.Error != nil {
			return r.Error
		}
		if name, ok := l.take(r.Key, r.Value); ok {
			changed(name)
		}
	}
	return ctx.Err()
}

// take takes a record in. What can't be read is skipped: a later version may have
// written it.
func (l *ledger) take(key string, value []byte) (name string, ok bool) {
	k, err := parseRecordKey(key)
	if err != nil {
		return "", false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.orders[k.name]
	if h == nil {
		h = &history{at: map[uint64]time.Time{}}
		l.orders[k.name] = h
	}
	defer func() {
		if g, ok := h.Newest(); ok {
			if l.under[k.name] = g; h.ended(g.Fence) {
				delete(l.under, k.name)
			}
		}
	}()
	if k.kind != 0 {
		var o outcome
		if json.Unmarshal(value, &o) != nil {
			return "", false
		}
		h.AddEnd(k.fence, claim.End[outcome]{Kind: k.kind, By: k.by, At: o.At, Result: o})
		return k.name, true
	}
	var g leased
	if json.Unmarshal(value, &g) != nil {
		return "", false
	}
	h.Add(claim.Grant{Fence: k.fence, Arbiter: k.by, Holder: g.Holder})
	if _, known := h.at[k.fence]; !known {
		h.at[k.fence] = g.At
		l.all = l.all.add(g.At)
		d := registered(k.name)
		l.domains[d] = l.domains[d].add(g.At)
	}
	return k.name, true
}

func (l *ledger) follow(ctx context.Context, events <-chan crdt.Event, changed func(name string)) {
	for e := range events {
		switch {
		case e.Lost:
			_ = l.load(ctx, changed)
		case !e.Deleted:
			if name, ok := l.take(e.Key.String(), e.Value); ok {
				changed(name)
			}
		}
	}
}

// newest returns the last lease of a name, and how it ended; ended is false while it has
// not.
func (l *ledger) newest(name string) (g claim.Grant, end claim.End[outcome], ok, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.orders[name]
	if h == nil {
		return g, end, false, false
	}
	if g, ok = h.Newest(); ok {
		end, ended = h.End(g.Fence)
	}
	return g, end, ok, ended
}

// failures returns how many orders of a name failed in a row, and until when none is to
// be made.
func (l *ledger) failures(name string) (n int, retry time.Time, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.orders[name]
	if h == nil {
		return 0, time.Time{}, ""
	}
	grants := h.Grants()
	for i := len(grants) - 1; i >= 0; i-- {
		if end, ok := h.End(grants[i].Fence); ok && end.Kind == claim.Final {
			return end.Result.Failures, end.Result.Retry, end.Result.Error
		}
	}
	return 0, time.Time{}, ""
}

// obtained returns when the last order of a name ended that ended well.
func (l *ledger) obtained(name string) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.orders[name]
	if h == nil {
		return time.Time{}, false
	}
	grants := h.Grants()
	for i := len(grants) - 1; i >= 0; i-- {
		if end, ok := h.End(grants[i].Fence); ok && end.Kind == claim.Final {
			return end.At, end.Result.Failures == 0
		}
	}
	return time.Time{}, false
}

// held lists the leases that have not ended.
func (l *ledger) held() map[string]claim.Grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.under)
}

// grant writes a lease down.
func (l *ledger) grant(ctx context.Context, name string, g claim.Grant, at time.Time) error {
	return l.write(ctx, recordKey{name: name, fence: g.Fence, by: g.Arbiter}, leased{g.Holder, at.UTC()})
}

// end writes down how a lease ended, and forgets what no longer counts.
func (l *ledger) end(ctx context.Context, name string, fence uint64, kind claim.Kind, by peer.ID, now time.Time, o outcome) error {
	o.At = now.UTC()
	if err := l.write(ctx, recordKey{name, fence, kind, by}, o); err != nil {
		return err
	}
	return l.prune(ctx, name, now)
}

func (l *ledger) write(ctx context.Context, k recordKey, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := l.store.Put(ctx, k.key(), raw); err != nil {
		return fmt.Errorf("recording an order of %s: %w", k.name, err)
	}
	l.take(k.key().String(), raw)
	return nil
}

// prune deletes the records of a name that are older than a week, but for the newest
// lease and the newest one that has a result.
func (l *ledger) prune(ctx context.Context, name string, now time.Time) error {
	l.mu.Lock()
	l.all = l.all.prune(now)
	d := registered(name)
	if l.domains[d] = l.domains[d].prune(now); len(l.domains[d]) == 0 {
		delete(l.domains, d)
	}
	var drop []uint64
	if h := l.orders[name]; h != nil {
		kept := false
		grants := h.Grants()
		for i := len(grants) - 1; i >= 0; i-- {
			fence := grants[i].Fence
			end, _ := h.End(fence)
			if i == len(grants)-1 || !kept && end.Kind == claim.Final {
				kept = kept || end.Kind == claim.Final
				continue
			}
			if h.at[fence].Before(now.Add(-week)) {
				drop = append(drop, fence)
			}
		}
	}
	l.mu.Unlock()
	for _, fence := range drop {
		results, err := l.store.Query(ctx, query.Query{Prefix: strings.TrimSuffix(recordKey{name: name, fence: fence}.key().String(), "/grant/"), KeysOnly: true})
		if err != nil {
			return err
		}
		entries, err := results.Rest()
		for _, e := range entries {
			err = errors.Join(err, l.store.Delete(ctx, ds.RawKey(e.Key)))
		}
		if err != nil {
			return err
		}
	}
	if len(drop) > 0 {
		l.forget(name, drop)
	}
	return nil
}

// forget drops leases from memory.
func (l *ledger) forget(name string, fences []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, gone := l.orders[name], map[uint64]bool{}
	for _, f := range fences {
		gone[f] = true
	}
	h := &history{at: map[uint64]time.Time{}}
	for _, g := range old.Grants() {
		if !gone[g.Fence] {
			h.Add(g)
			h.at[g.Fence] = old.at[g.Fence]
			if end, ok := old.End(g.Fence); ok {
				h.AddEnd(g.Fence, end)
			}
		}
	}
	l.orders[name] = h
}

// returnOwn ends the leases that this node held when it was last stopped: nothing of it
// goes on.
func (l *ledger) returnOwn(ctx context.Context, self peer.ID, now time.Time) error {
	for name, g := range l.held() {
		if g.Holder == self {
			failures, _, _ := l.failures(name)
			if err := l.end(ctx, name, g.Fence, claim.Returned, self, now, outcome{Failures: failures}); err != nil {
				return err
			}
		}
	}
	return nil
}

// wait returns how long the limits have an order of a name wait.
func (l *ledger) wait(name string, limits Limits, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.all.wait(limits.Orders, limits.Per, now), l.domains[registered(name)].wait(limits.Domain, week, now))
}
