package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taubyte/taubyte"
)

// A CertificateWatcher tells of certificates: a Service or a Client.
type CertificateWatcher interface {
	WatchCertificates(ctx context.Context) (<-chan []Certificate, error)
	WatchInlineCertificates(ctx context.Context) (<-chan []Certificate, error)
}

// parsedCertificates is how many certificates a Keyring holds ready for a handshake;
// one takes about 10 KiB, and one that is not ready is parsed in about 0.1 ms.
const parsedCertificates = 2048

// Keyring keeps certificates in memory, current by watches, for tls.Config. It
// keeps what it has while auth is away. A certificate is parsed at its first handshake,
// and a change costs what changed. Of a host that has several the one of its project's
// configuration is used, and of the others the newest. It is safe for concurrent use.
type Keyring struct {
	log    *slog.Logger
	byHost sync.Map // of *keyringEntry
	inline sync.Map // of *keyringEntry, those of projects' configurations
	ready  ring
	held   map[pair]*keyringEntry     // of the goroutine that follows
	of     map[string][]*keyringEntry // by host, as well
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// keyringEntry is a certificate and, once somebody asked for it, what it was parsed to.
type keyringEntry struct {
	c      Certificate
	parsed atomic.Pointer[tls.Certificate]
}

// ring has the entries that are parsed, and lets the oldest go.
type ring struct {
	mu      sync.Mutex
	entries []*keyringEntry
	at      int
}

func (r *ring) add(e *keyringEntry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.entries) < parsedCertificates {
		r.entries = append(r.entries, e)
		return
	}
	r.entries[r.at].parsed.Store(nil)
	r.entries[r.at] = e
	r.at = (r.at + 1) % len(r.entries)
}

// NewKeyring begins to follow certificates and returns at once. Close ends it.
func NewKeyring(w CertificateWatcher, log *slog.Logger) *Keyring {
	k := &Keyring{log: log, held: map[pair]*keyringEntry{}, of: map[string][]*keyringEntry{}}
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	k.wg.Go(func() { followCertificates(ctx, w.WatchCertificates, k.set) })
	k.wg.Go(func() { followCertificates(ctx, w.WatchInlineCertificates, k.setInline) })
	return k
}

// followCertificates watches until ctx ends.
func followCertificates(ctx context.Context, watch func(context.Context) (<-chan []Certificate, error), set func([]Certificate)) {
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(wait*2, 5*time.Second) {
		if changes, err := watch(ctx); err == nil {
			for all := range changes {
				wait = 100 * time.Millisecond
				set(all)
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// setInline is set of the certificates of projects' configurations. There is one for a
// host.
func (k *Keyring) setInline(all []Certificate) {
	now := make(map[string]bool, len(all))
	for _, c := range all {
		for _, h := range c.Hosts {
			now[h] = true
			if have, ok := k.inline.Load(h); ok {
				e := have.(*keyringEntry)
				if e.c.Cert == c.Cert && e.c.Key == c.Key && slices.Equal(e.c.Except, c.Except) {
					continue
				}
			}
			k.inline.Store(h, &keyringEntry{c: c})
		}
	}
	k.inline.Range(func(h, _ any) bool {
		if !now[h.(string)] {
			k.inline.Delete(h)
		}
		return true
	})
}

// set brings what is held to what there is now.
func (k *Keyring) set(all []Certificate) {
	now := make(map[pair]*keyringEntry, len(all))
	touched := map[string]bool{} // hosts of which a certificate came or went
	for _, c := range all {
		id := pair{c.Cert, c.Key}
		e, ok := k.held[id]
		if !ok {
			e = &keyringEntry{c: c}
			for _, h := range c.Hosts {
				touched[h] = true
				k.of[h] = append(k.of[h], e)
			}
		}
		now[id] = e
	}
	for id, e := range k.held {
		if _, ok := now[id]; !ok {
			for _, h := range e.c.Hosts {
				touched[h] = true
				k.of[h] = slices.DeleteFunc(slices.Clone(k.of[h]), func(o *keyringEntry) bool { return o == e })
			}
		}
	}
	k.held = now
	for h := range touched {
		if best := newest(k.of[h]); best != nil {
			k.byHost.Store(h, best)
		} else {
			k.byHost.Delete(h)
			delete(k.of, h)
		}
	}
}

// pair is what makes a certificate another one.
type pair struct{ cert, key string }

// newest returns the certificate to use of several for one host: the one that began
// last, and of those the one that lasts longest. What can't be read comes after all
// others.
func newest(entries []*keyringEntry) (best *keyringEntry) {
	if len(entries) == 1 {
		return entries[0]
	}
	var leaf *x509.Certificate
	for _, e := range entries {
		l, err := leafOf(e.c.Cert)
		switch {
		case err != nil && best == nil:
			best = e
		case err != nil:
		case leaf == nil, l.NotBefore.After(leaf.NotBefore), l.NotBefore.Equal(leaf.NotBefore) && l.NotAfter.After(leaf.NotAfter),
			l.NotBefore.Equal(leaf.NotBefore) && l.NotAfter.Equal(leaf.NotAfter) && e.c.Cert > best.c.Cert:
			best, leaf = e, l
		}
	}
	return best
}

// leafOf parses the first certificate of a chain.
func leafOf(chain string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(chain))
	if block == nil {
		return nil, fmt.Errorf("%w certificate: no PEM", taubyte.ErrInvalid)
	}
	return x509.ParseCertificate(block.Bytes)
}

// GetCertificate finds the certificate of a host: its own, or that of a wildcard
// one label up. It is for tls.Config. ErrNotFound: there is none; nothing is kept of who
// asks for such.
func (k *Keyring) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	e := k.find(name)
	if e == nil {
		return nil, fmt.Errorf("%w: certificate for %q", taubyte.ErrNotFound, name)
	}
	if c := e.parsed.Load(); c != nil {
		return c, nil
	}
	pair, err := tls.X509KeyPair([]byte(e.c.Cert), []byte(e.c.Key))
	if err != nil {
		k.log.Warn("certificate not usable", "hosts", e.c.Hosts, "err", err)
		return nil, fmt.Errorf("certificate for %q: %w", name, err)
	}
	if e.parsed.CompareAndSwap(nil, &pair) {
		k.ready.add(e)
	}
	return &pair, nil
}

// find returns what is used for a host, nil where there is nothing.
func (k *Keyring) find(name string) *keyringEntry {
	for _, of := range []*sync.Map{&k.inline, &k.byHost} {
		if e, ok := of.Load(name); ok {
			return e.(*keyringEntry)
		}
	}
	_, rest, cut := strings.Cut(name, ".")
	if !cut {
		return nil
	}
	for _, of := range []*sync.Map{&k.inline, &k.byHost} {
		if found, ok := of.Load("*." + rest); ok {
			e := found.(*keyringEntry)
			if _, other := slices.BinarySearch(e.c.Except, name); !other {
				return e
			}
		}
	}
	return nil
}

// Close ends the keyring.
func (k *Keyring) Close() error {
	k.stop()
	k.wg.Wait()
	return nil
}
