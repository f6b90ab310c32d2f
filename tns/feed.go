package tns

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

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
	// Hosts are the host names under which the deployment may be reached.
	Hosts []HostClaim `json:"hosts,omitempty"`
	// Ready marks the end of what was there when the watch began. Such a change is
	// about no project.
	Ready bool `json:"ready,omitempty"`
	// Token resumes a watch after this change.
	Token string `json:"token"`
}

// feed is the current deployment of every branch, and who wants to know. A watcher
// that is slow misses states in between, never the last one, and holds nobody up.
type feed struct {
	epoch string // of this life of the feed: tokens of another one start anew

	mu      sync.Mutex
	version uint64 // of the newest change
	heads   map[branchKey]head
	more    chan struct{} // closed at the next change
	closed  bool
}

type head struct {
	sequence   uint64
	deployment *Deployment                     // nil: removed
	built      map[taubyte.RepositoryID]uint64 // of the deployment or the removal
	tips       []cid.Cid
	hosts      []HostClaim
	version    uint64
}

func newFeed() *feed {
	var raw [8]byte
	_, _ = rand.Read(raw[:])
	return &feed{epoch: hex.EncodeToString(raw[:]), heads: map[branchKey]head{}, more: make(chan struct{})}
}

func (f *feed) get(k branchKey) (head, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, ok := f.heads[k]
	return h, ok
}

// set makes a head current unless the branch is further, or there already: what a
// node publishes it also hears from its store, before or after.
func (f *feed) set(k branchKey, h head) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if have, ok := f.heads[k]; ok && (have.sequence > h.sequence ||
		have.sequence == h.sequence && sameDeployment(have.deployment, h.deployment)) {
		return
	}
	f.version++
	h.version = f.version
	f.heads[k] = h
	close(f.more)
	f.more = make(chan struct{})
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		close(f.more)
	}
}

// since returns the heads that changed after a version, in the order of their
// changes, and a channel that closes at the next.
func (f *feed) since(version uint64) (changed []Change, now uint64, more <-chan struct{}, closed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if version < f.version {
		keys := slices.Collect(maps.Keys(f.heads))
		keys = slices.DeleteFunc(keys, func(k branchKey) bool { return f.heads[k].version <= version })
		slices.SortFunc(keys, func(a, b branchKey) int {
			return int(int64(f.heads[a].version) - int64(f.heads[b].version))
		})
		for _, k := range keys {
			h := f.heads[k]
			changed = append(changed, Change{
				Project: k.project, Branch: k.branch, Deployment: h.deployment, Sequence: h.sequence, Hosts: h.hosts, Token: f.token(h.version),
			})
		}
	}
	return changed, f.version, f.more, f.closed
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
func (f *feed) watch(ctx context.Context, after string) <-chan Change {
	out := make(chan Change)
	go func() {
		defer close(out)
		version, ready := f.parse(after), false
		send := func(c Change) bool {
			select {
			case out <- c:
				return true
			case <-ctx.Done():
				return false
			}
		}
		for {
			changed, now, more, closed := f.since(version)
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
	}()
	return out
}
