package secrets

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"
)

// What was done with a secret.
const (
	ActionRead   = "read"
	ActionSet    = "set"
	ActionDelete = "delete"
	ActionRotate = "rotate"
)

// An Access is an entry of the audit log. It never holds a value.
type Access struct {
	Time    time.Time `json:"time"`
	Node    peer.ID   `json:"node"` // that was asked
	Who     string    `json:"who"`
	Action  string    `json:"action"`
	Secret  string    `json:"secret,omitempty"`
	Version uint64    `json:"version,omitempty"`
	Refused string    `json:"refused,omitempty"` // why
}

// audit is a node's own log of accesses. An access is on its disk before it is granted.
type audit struct {
	c  Config
	mu sync.Mutex
	n  int    // entries, about
	at uint64 // of the last, in nanoseconds: keys are unique and sort
}

const auditPrefix = "/auth/audit/"

func auditKey(nanos uint64) ds.Key { return ds.RawKey(fmt.Sprintf("%s%020d", auditPrefix, nanos)) }

func openAudit(ctx context.Context, c Config) (*audit, error) {
	a := &audit{c: c}
	if err := a.prune(ctx); err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	return a, nil
}

// prune forgets what is too old or too much.
func (a *audit) prune(ctx context.Context) error {
	keys, err := a.keys(ctx)
	if err != nil {
		return err
	}
	oldest := auditKey(uint64(max(a.c.Now().Add(-a.c.AuditFor).UnixNano(), 0))).String()
	drop, _ := slices.BinarySearch(keys, oldest)
	drop = max(drop, len(keys)-a.c.AuditMost)
	if drop > 0 {
		b, err := a.c.Local.Batch(ctx)
		if err != nil {
			return err
		}
		for _, k := range keys[:drop] {
			if err := b.Delete(ctx, ds.RawKey(k)); err != nil {
				return err
			}
		}
		if err := b.Commit(ctx); err != nil {
			return err
		}
	}
	a.n = len(keys) - max(drop, 0)
	return nil
}

func (a *audit) keys(ctx context.Context) ([]string, error) {
	results, err := a.c.Local.Query(ctx, query.Query{Prefix: auditPrefix, KeysOnly: true})
	if err != nil {
		return nil, err
	}
	entries, err := results.Rest()
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(entries))
	for i, e := range entries {
		keys[i] = e.Key
	}
	slices.Sort(keys)
	return keys, nil
}

func (a *audit) record(ctx context.Context, all ...Access) error {
	if len(all) == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	b, err := a.c.Local.Batch(ctx)
	if err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	for _, one := range all {
		one.Time, one.Node = a.c.Now().UTC(), a.c.Self
		raw, err := json.Marshal(one)
		if err != nil {
			return fmt.Errorf("writing the audit log: %w", err)
		}
		a.at = max(a.at+1, uint64(max(one.Time.UnixNano(), 0)))
		if err := b.Put(ctx, auditKey(a.at), raw); err != nil {
			return fmt.Errorf("writing the audit log: %w", err)
		}
	}
	if err := b.Commit(ctx); err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	if a.n += len(all); a.n > a.c.AuditMost+a.c.AuditMost/10+16 {
		return a.prune(ctx)
	}
	return nil
}

// Audit returns what was done on this node with the secrets whose names begin with a
// prefix, the newest first: at most so many.
func (s *Store) Audit(ctx context.Context, prefix string, most int) ([]Access, error) {
	keys, err := s.audit.keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	all := []Access{}
	for _, k := range slices.Backward(keys) {
		if len(all) >= most {
			break
		}
		raw, err := s.c.Local.Get(ctx, ds.RawKey(k))
		if err != nil {
			continue // forgotten meanwhile
		}
		var one Access
		if json.Unmarshal(raw, &one) == nil && strings.HasPrefix(one.Secret, prefix) {
			all = append(all, one)
		}
	}
	return all, ctx.Err()
}
