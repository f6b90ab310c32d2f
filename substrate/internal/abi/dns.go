package abi

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// A resolver is a guest's way to ask the DNS: the node's, or a server of its
// choice. Names and addresses of private networks it is not asked about: even one that
// asks another server looks into the node's own file of hosts first.
type resolver struct {
	net  *net.Resolver
	node bool // it is the node's
}

// absolute has a name looked up as it is: not as one of the node's own domain as well.
func absolute(name string) string {
	if name == "" || strings.HasSuffix(name, ".") {
		return name
	}
	return name + "."
}

// An answer waits for the guest to fetch it.
type answer struct {
	resolver uint32
	kind     string
	name     string
}

// maxAnswers bounds the answers that wait; they end with the event.
const maxAnswers = 64

// lookupTimeout bounds one look-up.
const lookupTimeout = 10 * time.Second

var dns = concat([]decl{
	{"dnsNewResolver", "i", errno(func(g *Guest, m module, a []uint64) Errno {
		if g.self.Network == nil || len(g.resolvers) >= maxHandles {
			return ErrResolverNotFound
		}
		g.resolvers = append(g.resolvers, &resolver{net: &net.Resolver{}, node: true})
		return m.cell(a[0], uint32(len(g.resolvers)-1))
	})},
	{"dnsRerouteResolver", "iiiii", onResolver(func(g *Guest, r *resolver, m module, a []uint64) Errno {
		address, ok1 := m.text(a[1], a[2])
		network, ok2 := m.text(a[3], a[4])
		if !ok1 || !ok2 {
			return ErrAddressOutOfMemory
		}
		if network != "udp" && network != "tcp" {
			return ErrResolverNotFound
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			address = net.JoinHostPort(address, "53")
		}
		dialer := g.self.Network
		r.node = false
		r.net = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, asked, _ string) (net.Conn, error) {
			if asked == "tcp" { // for an answer that was cut
				return dialer.DialContext(ctx, asked, address)
			}
			return dialer.DialContext(ctx, network, address)
		}}
		return ErrNone
	})},
	{"dnsResetResolver", "i", onResolver(func(_ *Guest, r *resolver, _ module, _ []uint64) Errno {
		r.net, r.node = &net.Resolver{}, true
		return ErrNone
	})},
},
	lookup("dnsLookupTxT", ErrFailedTxTLookup, func(ctx context.Context, r *net.Resolver, name string) ([]string, error) {
		return r.LookupTXT(ctx, absolute(name))
	}),
	lookup("dnsLookupAddress", ErrFailedAddressLookup, func(ctx context.Context, r *net.Resolver, name string) ([]string, error) {
		return r.LookupAddr(ctx, name)
	}),
	lookup("dnsLookupMX", ErrFailedMXLookup, func(ctx context.Context, r *net.Resolver, name string) ([]string, error) {
		records, err := r.LookupMX(ctx, absolute(name))
		var list []string
		for _, mx := range records {
			list = append(list, fmt.Sprintf("%s/%d/", mx.Host, mx.Pref))
		}
		return list, err
	}),
	// The one answer that is a text and no list.
	lookup("dnsLookupCNAME", ErrFailedCNAMELookup, func(ctx context.Context, r *net.Resolver, name string) ([]string, error) {
		cname, err := r.LookupCNAME(ctx, absolute(name))
		return []string{cname}, err
	}),
)

func onResolver(do func(*Guest, *resolver, module, []uint64) Errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		if uint64(uint32(a[0])) >= uint64(len(g.resolvers)) {
			return ErrResolverNotFound
		}
		return do(g, g.resolvers[uint32(a[0])], m, a)
	}
}

// lookup declares the pair of functions of one kind of look-up: the first does it
// and keeps the answer, the second takes the answer away.
func lookup(fn string, failed Errno, do func(context.Context, *net.Resolver, string) ([]string, error)) []decl {
	plain := fn == "dnsLookupCNAME"
	named := plain || fn == "dnsLookupAddress" // it answers with names
	return []decl{
		{fn + "Size", "iiii", onResolver(func(g *Guest, r *resolver, m module, a []uint64) Errno {
			name, ok := m.text(a[1], a[2])
			if !ok {
				return ErrAddressOutOfMemory
			}
			if r.node && !g.self.Network.Resolves(name) || !g.self.Network.Tells(name) {
				return failed
			}
			key := answer{uint32(a[0]), fn, name}
			if _, again := g.answers[key]; !again && len(g.answers) >= maxAnswers {
				return failed
			}
			ctx, cancel := context.WithTimeout(g.waiting(), lookupTimeout)
			defer cancel()
			list, err := do(ctx, r.net, name)
			if err != nil || named && slices.ContainsFunc(list, func(found string) bool { return !g.self.Network.Tells(found) }) {
				return failed
			}
			if g.answers == nil {
				g.answers = map[answer][]string{}
			}
			g.answers[key] = list
			if plain {
				return m.size(a[3], len(list[0]))
			}
			return m.size(a[3], sliceSize(list))
		})},
		{fn, "iiii", onResolver(func(g *Guest, _ *resolver, m module, a []uint64) Errno {
			name, ok := m.text(a[1], a[2])
			if !ok {
				return ErrAddressOutOfMemory
			}
			key := answer{uint32(a[0]), fn, name}
			list, ok := g.answers[key]
			if !ok {
				return failed
			}
			delete(g.answers, key)
			if plain {
				return m.put(a[3], list[0])
			}
			return m.putSlice(a[3], list)
		})},
	}
}
