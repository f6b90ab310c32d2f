package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

const userAgent = "taubyte"

// client makes a client of the authority whose requests end with ctx. kid is the
// account's URL.
func (s *Service) client(ctx context.Context, key crypto.PrivateKey, kid string) (*api.Core, error) {
	c := *s.opts.client
	c.Transport = bounded{ctx, c.Transport}
	core, err := api.New(&c, userAgent, s.opts.directory, kid, key)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate authority: %w", taubyte.ErrUnavailable, err)
	}
	return core, nil
}

// bounded ends requests with a context, which lego's do not take.
type bounded struct {
	ctx  context.Context
	base http.RoundTripper
}

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(b.ctx, func() { cancel(b.ctx.Err()) })
	resp, err := b.base.RoundTrip(r.WithContext(ctx))
	if err != nil {
		stop()
		cancel(err)
		return nil, err
	}
	resp.Body = &boundedBody{resp.Body, func() { stop(); cancel(nil) }}
	return resp, nil
}

type boundedBody struct {
	readCloser
	end func()
}

type readCloser interface {
	Read(p []byte) (int, error)
	Close() error
}

func (b *boundedBody) Close() error {
	defer b.end()
	return b.readCloser.Close()
}

// obtain orders a certificate and gives it to auth.
func (s *Service) obtain(ctx context.Context, j job) error {
	core, err := s.authority(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	order, err := s.newOrder(core, j)
	if err != nil {
		return fmt.Errorf("ordering: %w", err)
	}
	for _, url := range order.Authorizations {
		if err := s.authorize(ctx, core, url, j.failures); err != nil {
			return err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: j.names}, key)
	if err != nil {
		return err
	}
	location := order.Location
	if order.Status != legoacme.StatusReady { // an authorization was shown a moment ago
		if order, err = await(ctx, func() (legoacme.ExtendedOrder, bool, error) {
			o, err := core.Orders.Get(location)
			return o, o.Status != legoacme.StatusPending, err
		}); err != nil {
			return fmt.Errorf("waiting for the order: %w", err)
		}
	}
	if order.Status == legoacme.StatusInvalid {
		return fmt.Errorf("the order is invalid: %w", order.Err())
	}
	if _, err := core.Orders.UpdateForCSR(order.Finalize, csr); err != nil {
		return fmt.Errorf("finishing the order: %w", err)
	}
	order, err = await(ctx, func() (legoacme.ExtendedOrder, bool, error) {
		o, err := core.Orders.Get(location)
		return o, o.Status == legoacme.StatusValid || o.Status == legoacme.StatusInvalid, err
	})
	if err != nil {
		return fmt.Errorf("waiting for the certificate: %w", err)
	}
	if order.Status == legoacme.StatusInvalid {
		return fmt.Errorf("the order is invalid: %w", order.Err())
	}
	chain, _, err := core.Certificates.Get(order.Certificate, true)
	if err != nil {
		return fmt.Errorf("fetching the certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	hosts, err := await(ctx, func() ([]string, bool, error) {
		hosts, err := s.opts.certs.ImportCertificate(ctx, string(chain), text)
		if errors.Is(err, taubyte.ErrUnavailable) { // a node that has just joined waits for its keys
			return nil, false, nil
		}
		return hosts, err == nil, err
	})
	if err != nil {
		return fmt.Errorf("keeping the certificate: %w", err)
	}
	for _, n := range j.names {
		if !slices.Contains(hosts, n) {
			return fmt.Errorf("%w certificate: it is for %v, and was ordered for %v", taubyte.ErrInvalid, hosts, j.names)
		}
	}
	s.plan.renewed(j.name)
	s.opts.log.Info("certificate obtained", "names", j.names, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// newOrder says which certificate the new one replaces, where that was this account's.
func (s *Service) newOrder(core *api.Core, j job) (legoacme.ExtendedOrder, error) {
	o := api.OrderOptions{Profile: s.opts.profile}
	if j.have != nil && j.have.id != "" {
		o.ReplacesCertID = j.have.id
		order, err := core.Orders.NewWithOptions(j.names, &o)
		if err == nil || retryAfter(err) > 0 {
			return order, err
		}
		o.ReplacesCertID = "" // another account's, another authority's
	}
	return core.Orders.NewWithOptions(j.names, &o)
}

// authorize shows control of one name of an order.
func (s *Service) authorize(ctx context.Context, core *api.Core, authorization string, attempt int) error {
	a, err := core.Authorizations.Get(authorization)
	if err != nil {
		return fmt.Errorf("authorization: %w", err)
	}
	if a.Status == legoacme.StatusValid {
		return nil
	}
	c, err := s.choose(a, attempt)
	if err != nil {
		return err
	}
	proof, err := core.GetKeyAuthorization(c.Token)
	if err != nil {
		return err
	}
	withdraw, err := s.show(ctx, a.Identifier.Value, Method(c.Type), c.Token, proof)
	defer withdraw()
	if err != nil {
		return err
	}
	if _, err := core.Challenges.New(c.URL); err != nil {
		return fmt.Errorf("%s for %s: %w", c.Type, a.Identifier.Value, err)
	}
	a, err = await(ctx, func() (legoacme.Authorization, bool, error) {
		a, err := core.Authorizations.Get(authorization)
		return a, a.Status != legoacme.StatusPending && a.Status != legoacme.StatusProcessing, err
	})
	if err != nil {
		return fmt.Errorf("%s for %s: %w", c.Type, a.Identifier.Value, err)
	}
	if a.Status == legoacme.StatusValid {
		return nil
	}
	for _, x := range a.Challenges {
		if x.Error != nil {
			return fmt.Errorf("%s for %s: %w", x.Type, a.Identifier.Value, x.Error)
		}
	}
	return fmt.Errorf("%s for %s: the authorization is %s", c.Type, a.Identifier.Value, a.Status)
}

// choose picks a challenge by the methods, beginning with another at each attempt.
func (s *Service) choose(a legoacme.Authorization, attempt int) (legoacme.Challenge, error) {
	methods := s.opts.methods
	for i := range methods {
		m := methods[(attempt+i)%len(methods)]
		if a.Wildcard && m != DNS01 {
			continue
		}
		for _, c := range a.Challenges {
			if c.Type == string(m) {
				return c, nil
			}
		}
	}
	return legoacme.Challenge{}, fmt.Errorf("%w: the certificate authority offers none of %v for %s", taubyte.ErrUnavailable, methods, a.Identifier.Value)
}

// show has the answer to a challenge ready where the authority looks for it. withdraw
// ends that, and is to be called in any case.
func (s *Service) show(ctx context.Context, name string, m Method, token, proof string) (withdraw func(), err error) {
	after := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.WithoutCancel(ctx), presentTime)
	}
	if m != DNS01 {
		withdraw = func() {
			ctx, cancel := after()
			defer cancel()
			s.present.notAtGateways(ctx, token)
		}
		return withdraw, s.present.atGateways(ctx, auth.Challenge{Host: name, Token: token, Authorization: proof})
	}
	sum := sha256.Sum256([]byte(proof))
	delegation, value := auth.DelegationOf(name, s.opts.zone), base64.RawURLEncoding.EncodeToString(sum[:])
	record := delegation.Record
	inZone := s.opts.zone != "" && (name == s.opts.zone || strings.HasSuffix(name, "."+s.opts.zone))
	if s.opts.provider != nil && !inZone {
		err := withProvider(ctx, s.opts.provider, s.opts.resolver, name, token, proof, record, value)
		return func() {
			if err := s.opts.provider.CleanUp(name, token, proof); err != nil {
				s.opts.log.Warn("DNS provider: record not removed", "record", record, "err", err)
			}
		}, err
	}
	records := []string{record}
	if !inZone && s.opts.zone != "" && delegation.CNAME != "" {
		records = append(records, delegation.CNAME)
	}
	withdraw = func() {
		ctx, cancel := after()
		defer cancel()
		for _, r := range records {
			_ = s.present.atSeers(ctx, r, value, false)
		}
	}
	for _, r := range records {
		if err := s.present.atSeers(ctx, r, value, true); err != nil {
			return withdraw, err
		}
	}
	if inZone {
		return withdraw, nil
	}
	return withdraw, s.delegated(ctx, delegation, value)
}

// delegated looks whether a name of another zone leads to the cluster's DNS, which has a
// value for it. Where it surely does not, the owner is told what to do, and no attempt is
// spent at the authority, which lets few fail. A resolver that can't say is no reason
// against: the authority has its own.
func (s *Service) delegated(ctx context.Context, d auth.Delegation, value string) error {
	for i := range delegationLooks {
		if i > 0 {
			select {
			case <-time.After(delegationPause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		looking, cancel := context.WithTimeout(ctx, delegationTime)
		values, err := s.opts.resolver.LookupTXT(looking, d.Record)
		cancel()
		if missing := (*net.DNSError)(nil); err != nil && !(errors.As(err, &missing) && missing.IsNotFound) {
			s.opts.log.Debug("not seen whether a record leads here", "record", d.Record, "err", err)
			return nil
		}
		if slices.Contains(values, value) {
			return nil
		}
	}
	how := "delegate it by NS to the cluster's DNS"
	if s.opts.zone != "" {
		how = "delegate it by NS to " + d.NS
		if d.CNAME != "" {
			how = "make it a CNAME of " + d.CNAME + ", or " + how
		}
	}
	return fmt.Errorf("%w: %s does not lead to the cluster's DNS: %s", taubyte.ErrUnavailable, d.Record, how)
}

// await asks until the answer is final, with growing pauses.
func await[T any](ctx context.Context, ask func() (v T, final bool, err error)) (T, error) {
	for pause := 100 * time.Millisecond; ; pause = min(pause*2, 5*time.Second) {
		v, final, err := ask()
		if err != nil || final {
			return v, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

const (
	// askAgain is how long after an answer the authority is asked again when to renew,
	// where it says nothing else, and after a failure.
	askAgain      = 6 * time.Hour
	askLeast      = time.Minute
	askAfterError = time.Hour
)

// askRenewal asks the authority when to renew a certificate.
func (s *Service) askRenewal(ctx context.Context, j job) {
	now := s.opts.now()
	r := renewalInfo{of: j.have.id, next: now.Add(askAgain)}
	if j.have.id != "" {
		window, again, err := s.renewalWindow(ctx, j.have.id)
		switch {
		case errors.Is(err, api.ErrNoARI), errors.Is(err, taubyte.ErrNotFound):
			r.next = now.Add(24 * time.Hour)
		case err != nil:
			r.next = now.Add(askAfterError)
			s.opts.log.Debug("renewal information not had", "name", j.name, "err", err)
		default:
			r.window = window
			if again > 0 {
				r.next = now.Add(max(again, askLeast))
			}
		}
	}
	s.plan.suggested(j.name, r)
}

func (s *Service) renewalWindow(ctx context.Context, id string) (w window, again time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // nothing is signed
	if err != nil {
		return w, 0, err
	}
	core, err := s.client(ctx, key, "")
	if err != nil {
		return w, 0, err
	}
	resp, err := core.Certificates.GetRenewalInfo(id)
	if err != nil {
		return w, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		if resp.StatusCode >= 400 && resp.StatusCode < 500 {
			return w, 0, fmt.Errorf("%w: renewal information: %s", taubyte.ErrNotFound, resp.Status)
		}
		return w, 0, fmt.Errorf("%w: renewal information: %s", taubyte.ErrUnavailable, resp.Status)
	}
	var info legoacme.RenewalInfoResponse
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 1<<16)).Decode(&info); err != nil {
		return w, 0, fmt.Errorf("%w renewal information: %w", taubyte.ErrInvalid, err)
	}
	w = window{info.SuggestedWindow.Start, info.SuggestedWindow.End}
	if w.start.IsZero() || w.end.Before(w.start) {
		return w, 0, fmt.Errorf("%w renewal information: from %s until %s", taubyte.ErrInvalid, w.start, w.end)
	}
	return w, parseRetryAfter(resp.Header.Get("Retry-After")), nil
}
