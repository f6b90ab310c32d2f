package auth

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/envelope"
)

// A Certificate is a certificate chain and its key, both PEM. The key is secret:
// it leaves a node of role auth for gateways alone.
type Certificate struct {
	Hosts []string `json:"hosts"`
	Cert  string   `json:"cert"`
	Key   string   `json:"key"`
}

// sealed is a certificate as the replicated store holds it.
type sealed struct {
	Hosts   []string `json:"hosts"`
	For     []string `json:"for"` // the recipients
	Content []byte   `json:"content"`
}

// certificates are the node's certificates, opened, and who waits for news of them.
type certificates struct {
	mu   sync.Mutex
	all  map[string]Certificate // by their key in the store
	news chan struct{}          // closed at the next change
}

func startCertificates(ctx, life context.Context, s *Service) (*certificates, error) {
	c := &certificates{all: map[string]Certificate{}, news: make(chan struct{})}
	events, err := s.store.Watch(life, ds.NewKey("/"), 0)
	if err != nil {
		return nil, err
	}
	s.certs = c
	if err := s.loadCertificates(ctx); err != nil {
		return nil, err
	}
	s.wg.Go(func() {
		for e := range events {
			if e.Lost || strings.HasPrefix(e.Key.String(), "/certificates/") || strings.HasPrefix(e.Key.String(), "/recipients/") {
				if err := s.loadCertificates(life); err != nil && life.Err() == nil {
					s.log.Warn("certificates not read", "err", err)
				}
			}
		}
	})
	return c, nil
}

// recipients lists the public keys of all auth nodes.
func (s *Service) recipients(ctx context.Context) (all []string, err error) {
	err = each(ctx, s.store, "/recipients", func(_ string, r string) { all = append(all, r) })
	slices.Sort(all)
	return slices.Compact(all), err
}

func (s *Service) announceKey(ctx context.Context) error {
	key := ds.RawKey("/recipients/" + s.host.ID().String())
	if raw, err := s.store.Get(ctx, key); err == nil {
		var have string
		if json.Unmarshal(raw, &have) == nil && have == s.key.Recipient() {
			return nil
		}
	}
	return s.put(ctx, key, s.key.Recipient())
}

// loadCertificates opens what the store holds, and seals anew, for auth nodes that
// joined since, what this node can open.
func (s *Service) loadCertificates(ctx context.Context) error {
	recipients, err := s.recipients(ctx)
	if err != nil {
		return err
	}
	all := map[string]Certificate{}
	var again []Certificate
	err = each(ctx, s.store, "/certificates", func(key string, v sealed) {
		raw, err := s.key.Open(v.Content)
		if err != nil {
			return // sealed before this node joined: one that can will seal it anew
		}
		var c Certificate
		if json.Unmarshal(raw, &c) != nil {
			return
		}
		all[key] = c
		if !slices.Equal(v.For, recipients) {
			again = append(again, c)
		}
	})
	if err != nil {
		return err
	}
	s.certs.mu.Lock()
	s.certs.all = all
	close(s.certs.news)
	s.certs.news = make(chan struct{})
	s.certs.mu.Unlock()
	for _, c := range again {
		if err := s.keepCertificate(ctx, c, recipients); err != nil {
			return err
		}
	}
	return nil
}

// keepCertificate seals a certificate into the store. The recipients are part of
// its key, since sealing the same twice gives different bytes and one key never
// holds two contents.
func (s *Service) keepCertificate(ctx context.Context, c Certificate, recipients []string) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	content, err := envelope.Seal(raw, recipients...)
	if err != nil {
		return err
	}
	print := sha256.Sum256([]byte(c.Cert + strings.Join(recipients, " ") + s.host.ID().String()))
	name := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(print[:16]))
	key := ds.RawKey("/certificates/" + strings.ReplaceAll(c.Hosts[0], "*", "_") + "/" + name)
	if err := s.put(ctx, key, sealed{Hosts: c.Hosts, For: recipients, Content: content}); err != nil {
		return err
	}
	// What it was sealed to before is superseded.
	var old []ds.Key
	err = each(ctx, s.store, "/certificates", func(at string, v sealed) {
		if at == key.String() || slices.Equal(v.For, recipients) {
			return
		}
		if opened, err := s.key.Open(v.Content); err == nil {
			var o Certificate
			if json.Unmarshal(opened, &o) == nil && o.Cert == c.Cert {
				old = append(old, ds.RawKey(at))
			}
		}
	})
	for _, k := range old {
		err = errors.Join(err, s.store.Delete(ctx, k))
	}
	return err
}

// ImportCertificate keeps a certificate that somebody obtained. It must be a chain
// that fits its key; the hosts are those that it names.
func (s *Service) ImportCertificate(ctx context.Context, cert, key string) (hosts []string, err error) {
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
	recipients, err := s.recipients(ctx)
	if err != nil {
		return nil, err
	}
	s.log.Info("certificate imported", "hosts", hosts, "until", leaf.NotAfter)
	return hosts, s.keepCertificate(ctx, Certificate{Hosts: hosts, Cert: cert, Key: key}, recipients)
}

func parsePair(cert, key string) (*x509.Certificate, error) {
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		return nil, fmt.Errorf("%w certificate: %w", taubyte.ErrInvalid, err)
	}
	return pair.Leaf, nil
}

// WatchCertificates returns all certificates now and after each change of them,
// until ctx ends or the service closes. It is for gateways.
func (s *Service) WatchCertificates(ctx context.Context) (<-chan []Certificate, error) {
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
		for {
			s.certs.mu.Lock()
			var all []Certificate
			for _, c := range s.certs.all {
				all = append(all, c)
			}
			news := s.certs.news
			s.certs.mu.Unlock()
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
