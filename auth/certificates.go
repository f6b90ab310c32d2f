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
	Hosts []string `json:"hosts"`
	Cert  string   `json:"cert"`
	Key   string   `json:"key"`
	// Except are hosts that the wildcard of an inline certificate covers and that are
	// served for other projects.
	Except []string `json:"except,omitempty"`
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

// certificates are the node's certificates, opened, and who waits for news of them.
type certificates struct {
	mu   sync.Mutex
	all  map[string]heldCertificate // by the name of the secret
	news chan struct{}              // closed at the next change
}

type heldCertificate struct {
	Certificate
	info secrets.Info
}

func startCertificates(ctx, life context.Context, s *Service) (*certificates, error) {
	c := &certificates{all: map[string]heldCertificate{}, news: make(chan struct{})}
	news, stop := s.secrets.Watch(certificatesPrefix)
	s.certs = c
	if err := s.loadCertificates(ctx); err != nil {
		stop()
		return nil, err
	}
	s.wg.Go(func() {
		defer stop()
		for {
			select {
			case <-news:
				if err := s.loadCertificates(life); err != nil && life.Err() == nil {
					s.log.Warn("certificates not read", "err", err)
				}
			case <-life.Done():
				return
			}
		}
	})
	return c, nil
}

// loadCertificates opens those that have changed.
func (s *Service) loadCertificates(ctx context.Context) error {
	s.certs.mu.Lock()
	before := s.certs.all
	s.certs.mu.Unlock()
	now := map[string]heldCertificate{}
	changed := false
	for _, i := range s.secrets.List(certificatesPrefix) {
		if have, ok := before[i.Name]; ok && have.info.Version == i.Version && have.info.Made.Equal(i.Made) {
			now[i.Name] = have
			continue
		}
		raw, info, err := s.secrets.Read(ctx, i.Name)
		if errors.Is(err, taubyte.ErrNotFound) || errors.Is(err, taubyte.ErrUnavailable) {
			continue // deleted meanwhile, or its key is on its way here
		}
		if err != nil {
			return err
		}
		h := heldCertificate{info: info}
		if json.Unmarshal(raw, &h.Certificate) != nil || len(h.Hosts) == 0 {
			continue
		}
		now[i.Name], changed = h, true
	}
	if !changed && len(now) == len(before) {
		return nil
	}
	s.certs.mu.Lock()
	s.certs.all = now
	close(s.certs.news)
	s.certs.news = make(chan struct{})
	s.certs.mu.Unlock()
	return nil
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
	for _, h := range leaf.DNSNames {
		hosts = append(hosts, strings.ToLower(h))
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("%w certificate: it names no host", taubyte.ErrInvalid)
	}
	raw, err := json.Marshal(Certificate{Hosts: hosts, Cert: cert, Key: key})
	if err != nil {
		return nil, err
	}
	if _, err := s.secrets.Put(ctx, callerOf(ctx), certificateName(hosts), raw, secrets.ReaderRole(taubyte.RoleGateway)); err != nil {
		return nil, err
	}
	if err := s.loadCertificates(ctx); err != nil {
		return nil, err
	}
	s.log.Info("certificate imported", "hosts", hosts, "until", leaf.NotAfter)
	return hosts, nil
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

// Certificates lists the certificates, by their hosts, without their keys: those that
// were imported or obtained, and those of projects' configurations that are served.
//
// For the administrator, nodes of role auth, and users that may read the network.
func (s *Service) Certificates(ctx context.Context) ([]CertificateInfo, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.RoleAuth); err != nil {
		return nil, err
	}
	s.certs.mu.Lock()
	held := s.certs.all
	s.certs.mu.Unlock()
	served, _ := s.inline.now()
	all := make([]CertificateInfo, 0, len(held)+len(served))
	add := func(h heldCertificate) {
		leaf, err := parsePair(h.Cert, h.Key)
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
	s.certs.mu.Lock()
	held := s.certs.all
	s.certs.mu.Unlock()
	var found []string
	for name, h := range held {
		if certificateID(h.Hosts) == id {
			found = []string{name}
			break
		}
		if slices.Contains(h.Hosts, strings.ToLower(id)) {
			found = append(found, name)
		}
	}
	switch {
	case len(found) == 0:
		served, _ := s.inline.now()
		for host, h := range served {
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
	return s.loadCertificates(ctx)
}

// WatchCertificates returns all certificates now and after each change of them,
// until ctx ends or the service closes, but for those of projects' configurations. Each
// that is given out is in the audit log.
//
// For the administrator and nodes of role gateway.
func (s *Service) WatchCertificates(ctx context.Context) (<-chan []Certificate, error) {
	return s.watchCertificates(ctx, always, func() (map[string]heldCertificate, <-chan struct{}) {
		s.certs.mu.Lock()
		defer s.certs.mu.Unlock()
		return s.certs.all, s.certs.news
	})
}

// always is ready.
var always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// watchCertificates gives out what held returns, and again when the channel closes that
// it returns too; nothing before ready is closed.
func (s *Service) watchCertificates(ctx context.Context, ready <-chan struct{}, held func() (map[string]heldCertificate, <-chan struct{})) (<-chan []Certificate, error) {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleGateway); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return nil, fmt.Errorf("auth: %w", taubyte.ErrClosed)
	}
	out := make(chan []Certificate)
	s.wg.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.life, cancel)()
		defer close(out)
		select {
		case <-ready:
		case <-ctx.Done():
			return
		}
		given := map[string]secrets.Info{}
		for {
			now, news := held()
			all := make([]Certificate, 0, len(now))
			var fresh []secrets.Info
			for at, h := range now {
				all = append(all, h.Certificate)
				if have := given[at]; have.Name != h.info.Name || have.Version != h.info.Version {
					given[at] = h.info
					fresh = append(fresh, h.info)
				}
			}
			if err := s.secrets.Record(ctx, callerOf(ctx), fresh...); err != nil {
				if ctx.Err() == nil {
					s.log.Error("certificates not given out", "err", err)
				}
				return
			}
			slices.SortFunc(all, func(a, b Certificate) int { return strings.Compare(a.Cert, b.Cert) })
			select {
			case out <- all:
			case <-ctx.Done():
				return
			}
			select {
			case <-news:
			case <-ctx.Done():
				return
			}
		}
	})
	return out, nil
}
