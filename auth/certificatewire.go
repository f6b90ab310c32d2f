package auth

import (
	"context"
	"encoding/json"
	"io"
	"slices"
)

// certificateChange is a line of GET /certificates/watch, and of that of inline
// certificates: what is new or other than before, and the ids of those that are gone. More says that the next line belongs to it.
type certificateChange struct {
	Set  []Certificate `json:"set,omitempty"`
	Gone []string      `json:"gone,omitempty"`
	More bool          `json:"more,omitempty"`
}

// certificatesInLine bounds the length of a line.
const certificatesInLine = 256

// certificateChanges turns whole lists into what changed from one to the next, until
// lists ends or ctx does.
func certificateChanges(ctx context.Context, lists <-chan []Certificate) <-chan certificateChange {
	out := make(chan certificateChange)
	go func() {
		defer close(out)
		before := map[string]Certificate{}
		for all := range lists {
			var c certificateChange
			now := make(map[string]Certificate, len(all))
			for _, cert := range all {
				id := certificateID(cert.Hosts)
				now[id] = cert
				if old, ok := before[id]; !ok || old.Cert != cert.Cert || old.Key != cert.Key || !slices.Equal(old.Except, cert.Except) {
					c.Set = append(c.Set, cert)
				}
			}
			for id := range before {
				if _, ok := now[id]; !ok {
					c.Gone = append(c.Gone, id)
				}
			}
			before = now
			for len(c.Set) > certificatesInLine {
				if !send(ctx, out, certificateChange{Set: c.Set[:certificatesInLine], More: true}) {
					return
				}
				c.Set = c.Set[certificatesInLine:]
			}
			if !send(ctx, out, c) {
				return
			}
		}
	}()
	return out
}

func send[T any](ctx context.Context, out chan<- T, v T) bool {
	select {
	case out <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

// readCertificates turns changes into whole lists again, until r ends or ctx does.
func readCertificates(ctx context.Context, r io.Reader, out chan<- []Certificate) {
	have := map[string]Certificate{}
	for lines := json.NewDecoder(r); ; {
		var c certificateChange
		if lines.Decode(&c) != nil {
			return
		}
		for _, cert := range c.Set {
			have[certificateID(cert.Hosts)] = cert
		}
		for _, id := range c.Gone {
			delete(have, id)
		}
		if c.More {
			continue
		}
		all := make([]Certificate, 0, len(have))
		for _, cert := range have {
			all = append(all, cert)
		}
		if !send(ctx, out, all) {
			return
		}
	}
}
