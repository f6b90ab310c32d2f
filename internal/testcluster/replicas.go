package testcluster

import (
	"errors"
	"fmt"
)

type replica struct {
	Peer string
	Live bool
}

// Replicated returns an error that says what has fewer live replicas than it wants, as
// the nodes that keep it see it.
func (c *Cluster) Replicated() error {
	var errs []error
	for _, n := range c.Nodes("hoarder") {
		if !n.Running() {
			continue
		}
		var items []struct {
			Root     any
			Claims   []struct{ Min int }
			Replicas []replica
		}
		var stores []struct {
			Kind     string
			Min      int
			Replicas []replica
			Degraded bool // fewer than Min have every write
		}
		if err := errors.Join(n.Get("/v1/hoarder/items", &items), n.Get("/v1/hoarder/stores", &stores)); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, i := range items {
			want := 0
			for _, claim := range i.Claims {
				want = max(want, claim.Min)
			}
			if live := live(i.Replicas); live < want {
				errs = append(errs, fmt.Errorf("%s: content %v has %d of %d replicas", n.Name, i.Root, live, want))
			}
		}
		for _, s := range stores {
			if live := live(s.Replicas); live < s.Min || s.Degraded {
				errs = append(errs, fmt.Errorf("%s: a %s has %d of %d replicas: %v", n.Name, s.Kind, live, s.Min, s.Replicas))
			}
		}
	}
	return errors.Join(errs...)
}

func live(all []replica) int {
	n := 0
	for _, r := range all {
		if r.Live {
			n++
		}
	}
	return n
}
