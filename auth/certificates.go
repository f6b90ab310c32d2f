package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/internal/secrets"
)

// A Certificate is a certificate chain and its key, both PEM. The key is secret:
// it leaves a node of role auth for gateways alone.
type Certificate struct {
	// ID is what makes it another one than the others: a later one with the same id
	// takes its place.
	ID    string   `json:"id,omitempty"`
	Hosts []string `json:"hosts"`
	Cert  string   `json:"cert"`
	Key   string   `json:"key"`
	// Except are hosts that the wildcard of an inline certificate covers and that are
	// served for other projects.
	Except []string `json:"except,omitempty"`
}

// A CertificateChange tells of certificates that are new or other than before, and of the
// ids of those that are gone. More says that the next change belongs to it.
type CertificateChange struct {
	Set  []Certificate `json:"set,omitempty"`
	Gone []string      `json:"gone,omitempty"`
	More bool          `json:"more,omitempty"`
}

// CertificateInfo is what may be known of a certificate without its key.
type CertificateInfo struct {
	ID        string    `json:"id"`
	Hosts     []string  `json:"hosts"`
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Since     time.Time `json:"since"` // when it was imported
	By        string    `json:"by,omitempty"`
	Version   uint64    `json:"version"` // how many there were for these hosts
	// Project is set where it is of a project's configuration.
	Project taubyte.ProjectID `json:"project,omitempty"`
}

// certificatesPrefix is that of the names of certificates' secrets, one for each set of
// host names:
//
//	certificates/<digest of the hosts, sorted>
const certificatesPrefix = "certificates/"

func certificateID(hosts []string) string {
	sorted := slices.Clone(hosts)
	slices.Sort(sorted)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(sorted), ",")))
	return hex.EncodeToString(sum[:16])
}

func certificateName(hosts []string) string { return certificatesPrefix + certificateID(hosts) }

// certificates are certificates, opened, and who follows them.
type certificates struct {
	loading sync.Mutex // one reading at a time, so that none brings back what is old

	mu       sync.Mutex
	all      map[string]heldCertificate // by the name of the secret; inline ones by host
	watchers map[*certificateWatch]struct{}
}

type heldCertificate struct {
	Certificate
	info secrets.Info
}

// certificateWatch is what one who follows has not been told of.
type certificateWatch struct {
	pending map[string]struct{}
	news    chan struct{}
}

func newCertificates() *certificates {
	return &certificates{all: map[string]heldCertificate{}, watchers: map[*certificateWatch]struct{}{}}
}

// startCertificates opens the certificates that there are, and follows what changes.
func (s *Service) startCertificates(ctx context.Context) error {
	s.certs = newCertificates()
	w := s.secrets.Watch(certificatesPrefix)
	if err := s.loadChanged(ctx, w); err != nil {
		w.Stop()
		return err
	}
	s.wg.Go(func() {
		defer w.Stop()
		for {
			select {
			case <-w.News():
				if err := s.loadChanged(s.life, w); err != nil && s.life.Err() == nil {
					s.log.Warn("certificates not read", "err", err)
				}
			case <-s.life.Done():
				return
			}
		}
	})
	return nil
}

// loadChanged opens the certificates that a watch says have changed.
func (s *Service) loadChanged(ctx context.Context, w *secrets.Watch) error {
	names, all := w.Changed()
	if all {
		for _, i := range s.secrets.List(certificatesPrefix) {
			names = append(names, i.Name)
		}
		names = slices.AppendSeq(names, maps.Keys(s.certs.list())) // that are gone
	}
	return s.loadCertificates(ctx, names...)
}

// loadCertificates opens certificates by the names of their secrets.
func (s *Service) loadCertificates(ctx context.Context, names ...string) error {
	s.certs.loading.Lock()
	defer s.certs.loading.Unlock()
	var errs []error
	for _, name := range names {
		have, had := s.certs.get(name)
		raw, info, err := s.secrets.Read(ctx, name)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, taubyte.ErrUnavailable):
			continue // its key is on its way here, which is news
		case errors.Is(err, taubyte.ErrNotFound):
			if had {
				s.certs.set(name, nil)
			}
			continue
		case errors.Is(err, taubyte.ErrDamaged): // which keeps none of the others back
			s.log.Error("certificate not readable", "name", name, "err", err)
			continue
		case err != nil:
			errs = append(errs, err)
			continue
		case had && have.info.Version == info.Version && have.info.Made.Equal(info.Made):
			continue
		}
		h := heldCertificate{info: info}
		if json.Unmarshal(raw, &h.Certificate) != nil || len(h.Hosts) == 0 {
			continue
		}
		h.ID = strings.TrimPrefix(name, certificatesPrefix)
		s.certs.set(name, &h)
	}
	return errors.Join(errs...)
}

// set takes a certificate in, or away, and tells who follows.
func (c *certificates) set(name string, h *heldCertificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h == nil {
		delete(c.all, name)
	} else {
		c.all[name] = *h
	}
	for w := range c.watchers {
		w.pending[name] = struct{}{}
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
}

// ImportCertificate keeps a certificate that somebody obtained. It must be a chain
// that fits its key; the hosts are those that it names. It takes the place of the one
// that was there for the same hosts, whichever lasts longer.
//
// For the administrator, nodes of role auth, and users that may administer the network.
func (s *Service) ImportCertificate(ctx context.Context, cert, key string) (hosts []string, err error) {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth); err != nil {
		return nil, err
	}
	leaf, err := parsePair(cert, key)
	if err != nil {
		return nil, err
	}
	if hosts = hostsOf(leaf); len(hosts) == 0 {
		return nil, fmt.Errorf("%w certificate: it names no host", taubyte.ErrInvalid)
	}
	raw, err := json.Marshal(Certificate{Hosts: hosts, Cert: cert, Key: key})
	if err != nil {
		return nil, err
	}
	if _, err := s.secrets.Put(ctx, callerOf(ctx), certificateName(hosts), raw, secrets.ReaderRole(taubyte.RoleGateway)); err != nil {
		return nil, err
	}
	if err := s.loadCertificates(ctx, certificateName(hosts)); err != nil {
		return nil, err
	}
	s.log.Info("certificate imported", "hosts", hosts, "until", leaf.NotAfter)
	return hosts, nil
}

func hostsOf(leaf *x509.Certificate) (hosts []string) {
	for _, h := range leaf.DNSNames {
		hosts = append(hosts, strings.ToLower(h))
	}
	return hosts
}

// callerOf is the principal of a call, as the audit log names it.
func callerOf(ctx context.Context) secrets.Caller {
	return secrets.Caller{Who: taubyte.PrincipalOf(ctx).String()}
}

func parsePair(cert, key string) (*x509.Certificate, error) {
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		return nil, fmt.Errorf("%w certificate: %w", taubyte.ErrInvalid, err)
	}
	return pair.Leaf, nil
}

func (c *certificates) get(name string) (heldCertificate, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.all[name]
	return h, ok
}

func (c *certificates) list() map[string]heldCertificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.all)
}

// Certificates lists the certificates, by their hosts, without their keys: those that
// were imported or obtained, and those of projects' configurations that are served.
//
// For the administrator, nodes of role auth, and users that may read the network.
func (s *Service) Certificates(ctx context.Context) ([]CertificateInfo, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.RoleAuth); err != nil {
		return nil, err
	}
	held, served := s.certs.list(), s.inline.served.list()
	all := make([]CertificateInfo, 0, len(held)+len(served))
	add := func(h heldCertificate) {
		leaf, err := leafOf(h.Cert)
		if err != nil {
			return
		}
		all = append(all, CertificateInfo{
			ID: certificateID(h.Hosts), Hosts: h.Hosts, Issuer: leaf.Issuer.String(), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
			Since: h.info.Made, By: h.info.By, Version: h.info.Version, Project: inlineProject(h.info.Name),
		})
	}
	for _, h := range held {
		add(h)
	}
	for _, h := range served {
		add(h)
	}
	slices.SortFunc(all, func(a, b CertificateInfo) int {
		return cmp.Or(slices.Compare(a.Hosts, b.Hosts), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Project, b.Project))
	})
	return all, nil
}

// RemoveCertificate deletes a certificate, by its id or by a host of which there is only
// this one. Gateways stop to serve it within seconds.
//
// For the administrator, nodes of role auth, and users that may administer the network.
// ErrNotFound. ErrConflict: several name the host, or it is of a project's configuration.
func (s *Service) RemoveCertificate(ctx context.Context, id string) error {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth); err != nil {
		return err
	}
	held := s.certs.list()
	var found []string
	for name, h := range held {
		if h.ID == id {
			found = []string{name}
			break
		}
		if slices.Contains(h.Hosts, strings.ToLower(id)) {
			found = append(found, name)
		}
	}
	switch {
	case len(found) == 0:
		for host, h := range s.inline.served.list() {
			if host == strings.ToLower(id) || certificateID(h.Hosts) == id {
				return fmt.Errorf("%w: the certificate of %s is in the configuration of project %s: remove it there", taubyte.ErrConflict, host, inlineProject(h.info.Name))
			}
		}
		return fmt.Errorf("%w: certificate %q", taubyte.ErrNotFound, id)
	case len(found) > 1:
		return fmt.Errorf("%w: %d certificates name %s: choose one by its id", taubyte.ErrConflict, len(found), id)
	}
	if err := s.secrets.Delete(ctx, callerOf(ctx), found[0]); err != nil {
		return err
	}
	s.log.Info("certificate removed", "hosts", held[found[0]].Hosts)
	return s.loadCertificates(ctx, found[0])
}

// certificatesInChange bounds how many certificates one change tells of.
const certificatesInChange = 256

// WatchCertificates tells of all certificates, and then of what changes, until ctx ends
// or the service closes, but for those of projects' configurations. Each that is given
// out is in the audit log. Who is slow to receive is told of the last state only.
// FollowCertificates goes on where a watch ends.
//
// For the administrator and nodes of role gateway.
func (s *Service) WatchCertificates(ctx context.Context) (<-chan CertificateChange, error) {
	return s.watchCertificates(ctx, nil, s.certs)
}

// watchCertificates tells of certificates, of nothing before ready is closed; nil: it is.
func (s *Service) watchCertificates(ctx context.Context, ready <-chan struct{}, c *certificates) (<-chan CertificateChange, error) {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleGateway); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return nil, fmt.Errorf("auth: %w", taubyte.ErrClosed)
	}
	out := make(chan CertificateChange)
	s.wg.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.life, cancel)()
		defer close(out)
		if ready != nil {
			select {
			case <-ready:
			case <-ctx.Done():
				return
			}
		}
		w := c.watch()
		defer c.stop(w)
		for {
			change, given := c.next(w)
			if err := s.secrets.Record(ctx, callerOf(ctx), given...); err != nil {
				if ctx.Err() == nil {
					s.log.Error("certificates not given out", "err", err)
				}
				return
			}
			select {
			case out <- change:
			case <-ctx.Done():
				return
			}
			if change.More {
				continue
			}
			select {
			case <-w.news:
			case <-ctx.Done():
				return
			}
		}
	})
	return out, nil
}

// watch begins to gather what changes. At first that is everything.
func (c *certificates) watch() *certificateWatch {
	w := &certificateWatch{news: make(chan struct{}, 1), pending: map[string]struct{}{}}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.all {
		w.pending[name] = struct{}{}
	}
	c.watchers[w] = struct{}{}
	return w
}

func (c *certificates) stop(w *certificateWatch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.watchers, w)
}

// next is what to tell a watch now.
func (c *certificates) next(w *certificateWatch) (change CertificateChange, given []secrets.Info) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range w.pending {
		if len(change.Set)+len(change.Gone) == certificatesInChange {
			change.More = true
			break
		}
		delete(w.pending, name)
		if h, ok := c.all[name]; ok {
			change.Set, given = append(change.Set, h.Certificate), append(given, h.info)
		} else {
			change.Gone = append(change.Gone, strings.TrimPrefix(name, certificatesPrefix))
		}
	}
	return change, given
}
