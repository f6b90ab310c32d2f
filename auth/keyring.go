package auth

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taubyte/taubyte"
)

// A CertificateWatcher tells of certificates: a Service or a Client.
type CertificateWatcher interface {
	WatchCertificates(ctx context.Context) (<-chan []Certificate, error)
}

// Keyring keeps certificates in memory, current by a watch, for tls.Config. It
// keeps what it has while auth is away. It is safe for concurrent use.
type Keyring struct {
	byHost atomic.Pointer[map[string]*tls.Certificate]
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// NewKeyring begins to follow certificates and returns at once. Close ends it.
func NewKeyring(w CertificateWatcher, log *slog.Logger) *Keyring {
	k := &Keyring{}
	k.byHost.Store(&map[string]*tls.Certificate{})
	ctx, stop := context.WithCancel(context.Background())
	k.stop = stop
	k.wg.Go(func() {
		for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(wait*2, 5*time.Second) {
			if changes, err := w.WatchCertificates(ctx); err == nil {
				for all := range changes {
					wait = 100 * time.Millisecond
					k.set(all, log)
				}
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
	})
	return k
}

func (k *Keyring) set(all []Certificate, log *slog.Logger) {
	byHost := map[string]*tls.Certificate{}
	for _, c := range all {
		pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
		if err != nil {
			log.Warn("certificate not usable", "hosts", c.Hosts, "err", err)
			continue
		}
		for _, h := range c.Hosts {
			// Of two for one host the one that lasts longer is used.
			if have, ok := byHost[h]; !ok || have.Leaf.NotAfter.Before(pair.Leaf.NotAfter) {
				byHost[h] = &pair
			}
		}
	}
	k.byHost.Store(&byHost)
}

// GetCertificate finds the certificate of a host: its own, or that of a wildcard
// one label up. It is for tls.Config.
func (k *Keyring) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	byHost := *k.byHost.Load()
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if c, ok := byHost[name]; ok {
		return c, nil
	}
	if _, rest, ok := strings.Cut(name, "."); ok {
		if c, ok := byHost["*."+rest]; ok {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: certificate for %q", taubyte.ErrNotFound, name)
}

// Close ends the keyring.
func (k *Keyring) Close() error {
	k.stop()
	k.wg.Wait()
	return nil
}
