package tns

import (
	"container/list"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
)

// A Change says what a branch runs now.
type Change struct {
	Project taubyte.ProjectID `json:"project,omitempty"`
	Branch  taubyte.Branch    `json:"branch,omitempty"`
	// Deployment is nil where the branch was removed.
	Deployment *Deployment `json:"deployment,omitempty"`
	// Sequence is that of the deployment or of the removal.
	Sequence uint64 `json:"sequence,omitempty"`
	// ID names what the branch runs. What has the same ID as before is the same
	// deployment: only the fate of its host names changed.
	ID string `json:"id,omitempty"`
	// Hosts are the host names that the project has and the branch claims. The branch
	// of the smallest Rank serves a name.
	Hosts []HostClaim `json:"hosts,omitempty"`
	// Conflicts are the claims of the branch that lead nowhere: names that another
	// project has, whose ownership was not shown, or that are the cluster's own.
	Conflicts []Claim `json:"conflicts,omitempty"`
	// Ready marks the end of what was there when the watch began. Such a change is
	// about no project.
	Ready bool `json:"ready,omitempty"`
	// Token resumes a watch after this change.
	Token string `json:"token"`
}

// feed is the current deployment of every branch, whose host names are whose, and who
// wants to know. A watcher that is slow misses states in between, never the last one,
// and holds nobody up. What a change costs depends on what changed, not on how much
// there is.
type feed struct {
	opts  *options
	epoch string // of this life of the feed: tokens of another one start anew

	mu       sync.Mutex
	version  uint64 // of the newest change
	heads    map[taubyte.ProjectID]map[taubyte.Branch]*head
	order    *list.List // of *head, by version
	hosts    map[string][]*head
	owners   map[string]taubyte.ProjectID // whom a host is served for
	verified map[string]owners
	nodes    map[string]bool                       // names of nodes
	ends     map[string]map[taubyte.ProjectID]bool // the projects whose ids end so (idEnd)
	more     chan struct{}                         // closed at the next change
	closed   bool
	ended    chan struct{} // closed with it
	watchers sync.WaitGroup
}

// head is what a branch runs. Its slices and maps are replaced, never changed.
type head struct {
	branchKey
	sequence   uint64
	deployment *Deployment                     // nil: removed
	began      time.Time                       // of the deployment or the removal
	built      map[taubyte.RepositoryID]uint64 // of the deployment or the removal
	tips       []cid.Cid

	hosts     []HostClaim          // all that it claims
	byHost    map[string]int       // of hosts; of two of one name the first
	since     map[string]time.Time // since when it has had its domains
	served    []HostClaim          // those of hosts that are the project's
	conflicts []Claim              // the others
	version   uint64
	place     *list.Element
}

func newFeed(o *options) *feed {
	var raw [8]byte
	_, _ = rand.Read(raw[:])
	return &feed{
		opts: o, epoch: hex.EncodeToString(raw[:]), order: list.New(), more: make(chan struct{}), ended: make(chan struct{}),
		heads: map[taubyte.ProjectID]map[taubyte.Branch]*head{}, hosts: map[string][]*head{}, owners: map[string]taubyte.ProjectID{}, verified: map[string]owners{},
		nodes: map[string]bool{}, ends: map[string]map[taubyte.ProjectID]bool{},
	}
}

func (f *feed) get(k branchKey) (head, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.heads[k.project][k.branch]; h != nil {
		return *h, true
	}
	return head{}, false
}

// tips returns what a branch was resolved from.
func (f *feed) tips(k branchKey) []cid.Cid {
	h, _ := f.get(k)
	return h.tips
}

// swap makes a head current that was resolved when the branch's tips were those before.
// It reports false if they are others by now: what was read may be old, and a node
// hears from its store what it publishes itself, before or after.
func (f *feed) swap(before []cid.Cid, h head) bool {
	f.mu.Lock()
	have := f.heads[h.project][h.branch]
	var lost []Claim
	switch {
	case have == nil && len(before) > 0, have != nil && !slices.Equal(have.tips, before):
		f.mu.Unlock()
		return false
	case have == nil:
		heir := f.heir(idEnd(h.project))
		branches := f.heads[h.project]
		if branches == nil {
			branches = map[taubyte.Branch]*head{}
			f.heads[h.project] = branches
			f.addEnd(h.project)
		}
		branches[h.branch] = &h
		lost = append(f.claim(&h), f.inherit(heir, h.project)...)
	case !slices.Equal(have.tips, h.tips):
		heir := f.heir(idEnd(h.project))
		have.sequence, have.deployment, have.built, have.tips, have.began = h.sequence, h.deployment, h.built, h.tips, h.began
		lost = append(f.claim(have), f.inherit(heir, h.project)...)
	}
	f.mu.Unlock()
	f.tell(lost)
	return true
}

// verify replaces what is known of the ownership of names.
func (f *feed) verify(book map[string]owners) {
	f.mu.Lock()
	var lost []Claim
	for host, now := range book {
		if maps.Equal(f.verified[host], now) {
			continue
		}
		if len(now) == 0 {
			delete(f.verified, host)
		} else {
			f.verified[host] = now
		}
		lost = append(lost, f.reclaim(host)...)
	}
	f.mu.Unlock()
	f.tell(lost)
}

// claim works out the host names of a head that changed, and what follows for others.
// It returns the conflicts that are new. mu is held.
func (f *feed) claim(h *head) (lost []Claim) {
	touched := map[string]bool{}
	for _, c := range h.hosts {
		if !touched[c.Host] {
			touched[c.Host] = true
			if left := slices.DeleteFunc(f.hosts[c.Host], func(o *head) bool { return o == h }); len(left) > 0 {
				f.hosts[c.Host] = left
			} else {
				delete(f.hosts, c.Host)
			}
		}
	}
	h.hosts, h.byHost, h.since = nil, nil, nil
	if h.deployment != nil {
		h.hosts = f.claims(h.deployment)
		h.byHost = make(map[string]int, len(h.hosts))
		for i, c := range h.hosts {
			if _, twice := h.byHost[c.Host]; !twice {
				h.byHost[c.Host] = i
			}
		}
		if c := h.deployment.Config(); c != nil {
			all := domains(c)
			h.since = make(map[string]time.Time, len(all))
			for _, d := range all {
				h.since[d.FQDN] = h.deployment.claimedSince(d.FQDN)
			}
		}
	}
	for host := range h.byHost {
		touched[host] = true
		f.hosts[host] = append(f.hosts[host], h)
	}
	var moved []string // from one project to another
	for host := range touched {
		owner := f.winner(host, h.project)
		if owner != f.owners[host] {
			moved = append(moved, host)
		}
		if f.owners[host] = owner; owner == "" {
			delete(f.owners, host)
		}
	}
	lost, _ = f.judge(h)
	f.touch(h)
	judged := map[*head]bool{h: true}
	for _, host := range moved {
		for _, other := range f.hosts[host] {
			if !judged[other] {
				judged[other] = true
				more, changed := f.judge(other)
				if lost = append(lost, more...); changed {
					f.touch(other)
				}
			}
		}
	}
	return lost
}

// judge says which of a head's claims lead nowhere, and which of them are new.
func (f *feed) judge(h *head) (lost []Claim, changed bool) {
	type fate struct {
		state ClaimState
		owner taubyte.ProjectID
	}
	before := make(map[string]fate, len(h.conflicts))
	for _, c := range h.conflicts {
		before[c.Host] = fate{c.State, c.Owner}
	}
	var now []Claim
	var served []HostClaim // a new one: watchers have the old one
	for i := range h.hosts {
		c := f.judged(h.branchKey, &h.hosts[i])
		if c.State == ClaimServed {
			served = append(served, h.hosts[i])
			continue
		}
		now = append(now, c)
		if before[c.Host] != (fate{c.State, c.Owner}) {
			lost = append(lost, c)
		}
	}
	changed = !slices.Equal(now, h.conflicts) || !slices.Equal(served, h.served)
	h.served, h.conflicts = served, now
	return lost, changed
}

// judged says what comes of a claim.
func (f *feed) judged(k branchKey, c *HostClaim) Claim {
	out := Claim{Project: k.project, Branch: k.branch, HostClaim: *c, Owner: f.owners[c.Host]}
	switch {
	case f.isReserved(c):
		out.State = ClaimReserved
	case out.Owner == k.project:
		out.State = ClaimServed
	case out.Owner != "":
		out.State = ClaimLost
	default:
		out.State = ClaimUnverified
	}
	return out
}

// offered reports whether a claim may be served at all.
func (f *feed) offered(c *HostClaim) bool {
	return !f.isReserved(c) && (c.Verified || !f.opts.verifiedOnly)
}

// winner finds whom a host is served for after a project's claim to it changed. Unless
// the project had it, only it can have taken it from who does: however many want a
// host, the others need not be asked.
func (f *feed) winner(host string, changed taubyte.ProjectID) (owner taubyte.ProjectID) {
	var best *HostClaim
	try := func(h *head) {
		i, ok := h.byHost[host]
		if ok && f.offered(&h.hosts[i]) && (best == nil || stronger(&h.hosts[i], h.project, best, owner)) {
			best, owner = &h.hosts[i], h.project
		}
	}
	had := f.owners[host]
	if had == changed {
		for _, h := range f.hosts[host] {
			try(h)
		}
		return owner
	}
	for _, project := range []taubyte.ProjectID{had, changed} {
		for _, h := range f.heads[project] {
			try(h)
		}
	}
	return owner
}

type contender struct {
	branchKey
	claim HostClaim
}

// contest returns who claims a name, in order.
func (f *feed) contest(host string) []contender {
	all := make([]contender, 0, len(f.hosts[host]))
	for _, h := range f.hosts[host] {
		if i, ok := h.byHost[host]; ok {
			all = append(all, contender{h.branchKey, h.hosts[i]})
		}
	}
	sortClaims(all, func(c *contender) (branchKey, *HostClaim) { return c.branchKey, &c.claim })
	return all
}

// touch makes a head the newest change. mu is held.
func (f *feed) touch(h *head) {
	f.version++
	h.version = f.version
	if h.place == nil {
		h.place = f.order.PushBack(h)
	} else {
		f.order.MoveToBack(h.place)
	}
	if !f.closed {
		close(f.more)
		f.more = make(chan struct{})
	}
}

// tell the operator.
func (f *feed) tell(lost []Claim) {
	for _, c := range lost {
		f.opts.log.Warn(c.String(), "project", c.Project, "branch", c.Branch)
	}
}

// claimTimes gives since when the project of a deployment to be has claimed its host
// names: as long as the branch, or another in production, has had them without a
// break. A new claim is later than all that are there, whatever this node's clock
// says.
func (f *feed) claimTimes(d *Deployment) map[string]time.Time {
	c := d.Config()
	if c == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	times := map[string]time.Time{}
	var own []*head
	for branch, h := range f.heads[d.Project] {
		if branch == d.Branch || f.opts.inProduction(branch) && f.opts.inProduction(d.Branch) {
			own = append(own, h)
		}
	}
	for _, dom := range domains(c) {
		since := time.Time{}
		for _, h := range own {
			if have, ok := h.since[dom.FQDN]; ok && (since.IsZero() || have.Before(since)) {
				since = have
			}
		}
		if since.IsZero() {
			since = d.Time
			for _, rival := range f.hosts[dom.FQDN] {
				if have, ok := rival.since[dom.FQDN]; ok && !have.Before(since) {
					since = have.Add(1)
				}
			}
		}
		times[dom.FQDN] = since
	}
	return times
}

func (f *feed) claimsOf(host string) []Claim {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Claim
	for _, c := range f.contest(host) {
		all = append(all, f.judged(c.branchKey, &c.claim))
	}
	return all
}

func (f *feed) conflictsOf(project taubyte.ProjectID) []Claim {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Claim
	for _, branch := range slices.Sorted(maps.Keys(f.heads[project])) {
		all = append(all, f.heads[project][branch].conflicts...)
	}
	return all
}

// snapshot returns all heads, of one project where project is not "".
func (f *feed) snapshot(project taubyte.ProjectID) []head {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []head
	for id, branches := range f.heads {
		if project == "" || id == project {
			for _, h := range branches {
				all = append(all, *h)
			}
		}
	}
	return all
}

// close ends the watches, those too that nobody reads, and waits for them.
func (f *feed) close() {
	f.mu.Lock()
	if !f.closed {
		f.closed = true
		close(f.more)
		close(f.ended)
	}
	f.mu.Unlock()
	f.watchers.Wait()
}

// since returns the heads that changed after a version, in the order of their
// changes, and a channel that closes at the next.
func (f *feed) since(of scope, version uint64) (changed []Change, now uint64, more <-chan struct{}, closed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for e := f.order.Back(); e != nil; e = e.Prev() {
		h := e.Value.(*head)
		if h.version <= version {
			break
		}
		if of.has(h.branchKey) {
			changed = append(changed, Change{
				Project: h.project, Branch: h.branch, Deployment: h.deployment, Sequence: h.sequence, ID: h.id(),
				Hosts: h.served, Conflicts: h.conflicts, Token: f.token(h.version),
			})
		}
	}
	slices.Reverse(changed)
	return changed, f.version, f.more, f.closed
}

// id names what a head runs.
func (h *head) id() string {
	var id strings.Builder
	for i, c := range h.tips {
		if i > 0 {
			id.WriteByte('+')
		}
		id.WriteString(c.String())
	}
	return id.String()
}

// scope is what a watch is about: everything, a project, or a branch of one.
type scope struct {
	project taubyte.ProjectID
	branch  taubyte.Branch
}

func (s scope) has(k branchKey) bool {
	return s.project == "" || s.project == k.project && (s.branch == "" || s.branch == k.branch)
}

func (f *feed) token(version uint64) string { return fmt.Sprintf("%s-%d", f.epoch, version) }

// parse returns the version of a token, 0 for one of another life.
func (f *feed) parse(token string) uint64 {
	version, ok := strings.CutPrefix(token, f.epoch+"-")
	if !ok {
		return 0
	}
	v, _ := strconv.ParseUint(version, 10, 64)
	return v
}

// watch hands out changes after a token until ctx ends.
func (f *feed) watch(ctx context.Context, of scope, after string) <-chan Change {
	out := make(chan Change)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		close(out)
		return out
	}
	f.watchers.Go(func() {
		defer close(out)
		version, ready := f.parse(after), false
		send := func(c Change) bool {
			select {
			case out <- c:
				return true
			case <-ctx.Done():
				return false
			case <-f.ended:
				return false
			}
		}
		for {
			changed, now, more, closed := f.since(of, version)
			for _, c := range changed {
				// Who begins need not hear of branches that are gone; who comes back
				// may still have them.
				if c.Deployment == nil && after == "" && !ready {
					continue
				}
				if !send(c) {
					return
				}
			}
			version = now
			if !ready {
				if ready = true; !send(Change{Ready: true, Token: f.token(now)}) {
					return
				}
			}
			if closed {
				return
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	})
	return out
}
