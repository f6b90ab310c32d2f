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

	"github.com/taubyte/taubyte"
)

// parsedCertificates is how many certificates a Keyring holds ready for a handshake;
// one takes about 10 KiB, and one that is not ready is parsed in about 0.1 ms.
const parsedCertificates = 2048

// Keyring keeps certificates in memory, current by watches, for tls.Config. It
// keeps what it has while auth is away. A certificate is parsed at its first handshake,
// and a change costs what changed. Of a host that has several the one of its project's
// configuration is used, and of the others the newest. It is safe for concurrent use.
type Keyring struct {
	log    *slog.Logger
	files  *CertificateFiles // nil: none
	byHost sync.Map          // of hostKeys
	ready  ring
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	held map[heldAs]*keyringEntry
	of   map[string][]*keyringEntry // by host, as well
}

// KeyringOption changes what NewKeyring makes.
type KeyringOption func(*Keyring)

// WithFiles has certificates of files served before all others of their names.
func WithFiles(f *CertificateFiles) KeyringOption { return func(k *Keyring) { k.files = f } }

// heldAs is what a certificate is known by: its id in one of the watches.
type heldAs struct {
	from origin
	id   string
}

// origin is where a certificate is from. The first that has one for a host is used.
type origin int

const (
	fromFile origin = iota
	fromInline
	fromImport
	kindsOfOrigin
)

// hostKeys are the certificates of one name, the one to use first.
type hostKeys []*keyringEntry

// keyringEntry is a certificate and, once somebody asked for it, what it was parsed to.
type keyringEntry struct {
	c      Certificate
	from   origin
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
func NewKeyring(w CertificateWatcher, log *slog.Logger, opts ...KeyringOption) *Keyring {
	k := &Keyring{log: log, held: map[heldAs]*keyringEntry{}, of: map[string][]*keyringEntry{}}
	for _, o := range opts {
		o(k)
	}
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	follow := func(from origin, watch func(context.Context) (<-chan CertificateChange, error)) {
		k.wg.Go(func() { FollowCertificates(ctx, watch, func(c CertificateChange) { k.take(from, c) }) })
	}
	follow(fromImport, w.WatchCertificates)
	follow(fromInline, w.WatchInlineCertificates)
	if k.files != nil {
		follow(fromFile, k.files.WatchCertificates)
	}
	return k
}

// take takes a change in.
func (k *Keyring) take(from origin, c CertificateChange) {
	k.mu.Lock()
	defer k.mu.Unlock()
	touched := map[string]bool{} // hosts of which a certificate came or went
	drop := func(as heldAs) {
		e := k.held[as]
		if e == nil {
			return
		}
		delete(k.held, as)
		for _, h := range e.c.Hosts {
			touched[h] = true
			k.of[h] = slices.DeleteFunc(k.of[h], func(o *keyringEntry) bool { return o == e })
		}
	}
	for _, id := range c.Gone {
		drop(heldAs{from, id})
	}
	for _, cert := range c.Set {
		as := heldAs{from, cert.ID}
		drop(as)
		e := &keyringEntry{c: cert, from: from}
		k.held[as] = e
		for _, h := range cert.Hosts {
			touched[h] = true
			k.of[h] = append(k.of[h], e)
		}
	}
	for h := range touched {
		if len(k.of[h]) == 0 {
			delete(k.of, h)
			k.byHost.Delete(h)
			continue
		}
		k.byHost.Store(h, keysOf(k.of[h]))
	}
}

func keysOf(entries []*keyringEntry) (keys hostKeys) {
	var of [kindsOfOrigin][]*keyringEntry
	for _, e := range entries {
		of[e.from] = append(of[e.from], e)
	}
	for _, some := range of {
		if best := newest(some); best != nil {
			keys = append(keys, best)
		}
	}
	return keys
}

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

// find returns what is used for a host: its own, or that of a wildcard one label up; nil
// where there is nothing.
func (k *Keyring) find(name string) *keyringEntry {
	if keys, ok := k.byHost.Load(name); ok {
		return keys.(hostKeys)[0]
	}
	_, rest, cut := strings.Cut(name, ".")
	if !cut {
		return nil
	}
	if keys, ok := k.byHost.Load("*." + rest); ok {
		for _, e := range keys.(hostKeys) {
			if _, other := slices.BinarySearch(e.c.Except, name); !other {
				return e
			}
		}
	}
	return nil
}

// noCertificate says that there is none for a name. It is written out only where somebody
// reads it: most hellos for unknown names are nobody's.
type noCertificate string

func (n noCertificate) Error() string {
	return fmt.Sprintf("%v: certificate for %q", taubyte.ErrNotFound, string(n))
}
func (noCertificate) Unwrap() error { return taubyte.ErrNotFound }

// maxName is how long a host name may be. A hello may bring 64 KiB of one.
const maxName = 253

// GetCertificate finds the certificate of a host: its own, or that of a wildcard
// one label up. It is for tls.Config. ErrNotFound: there is none; nothing is kept of who
// asks for such, and nothing is ordered.
func (k *Keyring) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(hello.ServerName) > maxName+1 {
		return nil, noCertificate(hello.ServerName[:maxName])
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	e := k.find(name)
	if e == nil {
		return nil, noCertificate(name)
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

// Close ends the keyring.
func (k *Keyring) Close() error {
	k.stop()
	k.wg.Wait()
	return nil
}
