package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

const (
	challengePath = "/.well-known/acme-challenge/"
	// challengeProtocol is the ALPN protocol of TLS-ALPN-01.
	challengeProtocol = "acme-tls/1"
	// challengeTime is how long a challenge is answered that nobody withdraws: who
	// ordered may have died.
	challengeTime = 15 * time.Minute
	maxChallenges = 4096
)

// acmeIdentifier is the extension of a certificate that answers TLS-ALPN-01.
var acmeIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}

// challenges are what certificate authorities are answered at the moment.
type challenges struct {
	mu      sync.Mutex
	byToken map[string]challenge
}

type challenge struct {
	auth.Challenge
	ends time.Time
}

// PresentChallenge has the gateway answer a challenge, until WithdrawChallenge or for a
// quarter of an hour. It takes a node of role auth. ErrUnavailable: it has 4,096.
func (s *Service) PresentChallenge(ctx context.Context, c auth.Challenge) error {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleAuth); err != nil {
		return err
	}
	if err := c.Check(); err != nil {
		return err
	}
	h := &s.challenges
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.byToken == nil {
		h.byToken = map[string]challenge{}
	}
	for token, old := range h.byToken {
		if now.After(old.ends) {
			delete(h.byToken, token)
		}
	}
	if len(h.byToken) >= maxChallenges {
		return fmt.Errorf("%w: this gateway answers %d challenges already", taubyte.ErrUnavailable, maxChallenges)
	}
	h.byToken[c.Token] = challenge{c, now.Add(challengeTime)}
	return nil
}

// WithdrawChallenge ends what PresentChallenge began. It takes a node of role auth.
func (s *Service) WithdrawChallenge(ctx context.Context, token string) error {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleAuth); err != nil {
		return err
	}
	s.challenges.mu.Lock()
	defer s.challenges.mu.Unlock()
	delete(s.challenges.byToken, token)
	return nil
}

func (h *challenges) find(match func(challenge) bool) (challenge, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.byToken {
		if match(c) && time.Now().Before(c.ends) {
			return c, true
		}
	}
	return challenge{}, false
}

func (h *challenges) token(host, token string) (challenge, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.byToken[token]
	return c, ok && c.Host == host && time.Now().Before(c.ends)
}

// answerChallenge answers a request that is part of HTTP-01, and reports whether it was
// one. A path of that form may also be a site's own.
func (s *Service) answerChallenge(w http.ResponseWriter, r *http.Request) bool {
	token, ok := strings.CutPrefix(r.URL.Path, challengePath)
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	c, ok := s.challenges.token(strings.ToLower(strings.TrimSuffix(host, ".")), token)
	if !ok {
		return false
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, c.Authorization)
	return true
}

// tlsConfig serves certificates by name, and TLS-ALPN-01.
func (s *Service) tlsConfig() *tls.Config {
	return &tls.Config{
		GetCertificate: s.certificate,
		MinVersion:     tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if !slices.Contains(hello.SupportedProtos, challengeProtocol) {
				return nil, nil
			}
			name := strings.ToLower(hello.ServerName)
			c, ok := s.challenges.find(func(c challenge) bool { return c.Host == name })
			if !ok {
				return nil, fmt.Errorf("%w: challenge for %q", taubyte.ErrNotFound, name)
			}
			cert, err := challengeCertificate(c.Challenge)
			if err != nil {
				return nil, err
			}
			return &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{challengeProtocol}, MinVersion: tls.VersionTLS12}, nil
		},
	}
}

// certificate finds the certificate for a hello. Where there is none the user is told
// so by the alert unrecognized_name, which is what crypto/tls makes of nil; an error would
// be told as one of the gateway.
func (s *Service) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c, err := s.keys.GetCertificate(hello)
	if errors.Is(err, taubyte.ErrNotFound) {
		s.opts.log.Debug("hello refused", "from", hello.Conn.RemoteAddr(), "err", err)
		return nil, nil
	}
	return c, err
}

// challengeCertificate makes the self-signed certificate that answers TLS-ALPN-01.
func challengeCertificate(c auth.Challenge) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(c.Authorization))
	value, err := asn1.Marshal(sum[:])
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:    big.NewInt(1),
		Subject:         pkix.Name{CommonName: "ACME challenge"},
		NotBefore:       now.Add(-time.Hour),
		NotAfter:        now.Add(24 * time.Hour),
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:        []string{c.Host},
		ExtraExtensions: []pkix.Extension{{Id: acmeIdentifier, Critical: true, Value: value}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
