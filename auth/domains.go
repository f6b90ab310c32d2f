package auth

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rendezvous"
)

const (
	// DomainTokenTime is how long after it was made a token shows ownership that was not
	// shown yet.
	DomainTokenTime = 30 * 24 * time.Hour
	// domainLabel is the name below a host whose TXT record holds the token.
	domainLabel = "_taubyte."

	lookupTime     = 10 * time.Second
	recheckOwned   = 12 * time.Hour
	recheckFailing = time.Hour
	recheckPending = time.Minute // and ten times that after an hour
	// A record that is missing takes the name away after so many checks, and so long.
	missingChecks, missingTime = 3, 24 * time.Hour
)

// A Domain is a project's claim to own a host name.
type Domain struct {
	Host    string            `json:"host"`
	Project taubyte.ProjectID `json:"project"`
	State   DomainState       `json:"state"`
	// Since is when the state began, as far as this node knows.
	Since time.Time `json:"since,omitzero"`
	// Checked is when DNS was last asked, and Detail what was found, where that is not
	// what it should be.
	Checked time.Time `json:"checked,omitzero"`
	Detail  string    `json:"detail,omitempty"`
	// Record is the name of the TXT record that shows ownership, and Token what it holds:
	// given by ClaimDomain alone. It has to be there until Until, and as long as the name
	// is to be the project's. Text of more than 255 bytes is several strings of one record.
	Record string    `json:"record"`
	Token  string    `json:"token,omitempty"`
	Until  time.Time `json:"until,omitzero"`
	// Delegation is how the owner lets the cluster get certificates by DNS-01: given by
	// ClaimDomain alone, where the cluster has a zone.
	Delegation *Delegation `json:"delegation,omitempty"`
}

// A Delegation is how the owner of a host name has the cluster's DNS answer for the TXT
// record that a certificate authority looks for (DNS-01). Either of CNAME and NS does. It
// is made once, and stays.
type Delegation struct {
	Record string `json:"record"`          // the name of the record
	CNAME  string `json:"cname,omitempty"` // what it is a CNAME of; "": that would be too long for a name
	NS     string `json:"ns"`              // or the name server that it is delegated to
}

// DelegationOf names the records for a host, a wildcard too, in a cluster of a zone.
func DelegationOf(host, zone string) Delegation {
	zone = strings.ToLower(strings.Trim(zone, "."))
	d := Delegation{Record: "_acme-challenge." + strings.TrimPrefix(host, "*."), NS: "seer." + zone}
	if name := d.Record + "." + zone; len(name) <= 253 {
		d.CNAME = name
	}
	return d
}

// DomainState is where a claim to a domain stands.
type DomainState string

// The states of a claim.
const (
	DomainPending DomainState = "pending" // no valid record was found yet
	DomainOwned   DomainState = "owned"   // the record is there
	DomainFailing DomainState = "failing" // it was there and is missing; the name is still the project's
	DomainLost    DomainState = "lost"    // it was missing for too long, or another project took over
	DomainTaken   DomainState = "taken"   // another project's record is there as well, and was first
)

// A Resolver looks up TXT records; *net.Resolver is one. A name without any is a
// *net.DNSError with IsNotFound.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// A Verifier is told who owns a host name: a tns.Service or a tns.Client.
type Verifier interface {
	Verify(ctx context.Context, project taubyte.ProjectID, host string, verified bool) error
}

// WithResolver sets where the records of domains are looked up. The default is
// net.DefaultResolver, the system's.
func WithResolver(r Resolver) Option { return func(o *options) { o.resolver = r } }

// WithVerifier sets who is told who owns a host name. The default is a tns.Client.
func WithVerifier(v Verifier) Option { return func(o *options) { o.verifier = v } }

// WithClock sets the time by which domains are checked again, and a provider is asked again
// what a credential may. The default is time.Now.
func WithClock(now func() time.Time) Option { return func(o *options) { o.now = now } }

// The replicated keys of domains. Each is written by the node that its last part names:
//
//	/domains/keys/<kid>                        the public key of a node's tokens (PKIX); once
//	/domains/claims/<host>/<project>/<peer>    a domainClaim
//	/domains/checks/<host>/<project>/<peer>    a domainCheck; of several the newest counts
const domainsPrefix = "/domains/"

type domainClaim struct {
	Since time.Time `json:"since"`
	Until time.Time `json:"until"` // of the last token
}

type domainCheck struct {
	State    DomainState `json:"state"`
	Since    time.Time   `json:"since"` // of the state
	Owned    time.Time   `json:"owned,omitzero"`
	At       time.Time   `json:"at"`
	Missing  int         `json:"missing,omitempty"` // checks in a row
	Detail   string      `json:"detail,omitempty"`
	Withdrew bool        `json:"withdrew,omitempty"` // the claim was given up
}

// domains is what a node needs to check who owns a name.
type domains struct {
	key      *ecdsa.PrivateKey
	kid      string
	resolver Resolver
	verifier Verifier
	now      func() time.Time
	mu       sync.Mutex // one check at a time on this node
}

// domainID is a host and a project.
type domainID struct {
	host    string
	project taubyte.ProjectID
}

func (d domainID) key(kind, peer string) ds.Key {
	return ds.RawKey(domainsPrefix + kind + "/" + strings.ReplaceAll(d.host, "*", "_") + "/" + string(d.project) + "/" + peer)
}

func parseDomainKey(key, kind string) (d domainID, ok bool) {
	parts := strings.Split(strings.TrimPrefix(key, domainsPrefix+kind+"/"), "/")
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" {
		return d, false
	}
	d = domainID{parts[0], taubyte.ProjectID(parts[1])}
	if rest, wild := strings.CutPrefix(d.host, "_."); wild {
		d.host = "*." + rest
	}
	return d, true
}

func domainRecord(host string) string { return domainLabel + strings.TrimPrefix(host, "*.") }

func (s *Service) startDomains(ctx context.Context, store taubyte.Datastore, o options) error {
	d := &domains{resolver: o.resolver, verifier: o.verifier, now: o.now}
	s.domains = d
	if d.resolver == nil {
		d.resolver = net.DefaultResolver
	}
	if d.now == nil {
		d.now = time.Now
	}
	if err := s.domainKey(ctx, store); err != nil {
		return err
	}
	s.wg.Go(func() {
		every := time.NewTicker(10 * time.Second)
		defer every.Stop()
		for {
			select {
			case <-every.C:
				if err := s.recheck(s.life); err != nil && s.life.Err() == nil {
					s.log.Warn("domains not checked", "err", err)
				}
			case <-s.life.Done():
				return
			}
		}
	})
	return nil
}

// domainKey reads the key that signs this node's tokens, or makes it. The public half is
// replicated, so that each node can check what another has given out.
func (s *Service) domainKey(ctx context.Context, store taubyte.Datastore) error {
	at := ds.NewKey("/auth/domainkey")
	raw, err := store.Get(ctx, at)
	switch {
	case errors.Is(err, ds.ErrNotFound):
		if s.domains.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return err
		}
		if raw, err = x509.MarshalPKCS8PrivateKey(s.domains.key); err != nil {
			return err
		}
		if err := store.Put(ctx, at, raw); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("reading the key of domain tokens: %w", err)
	default:
		parsed, err := x509.ParsePKCS8PrivateKey(raw)
		key, ok := parsed.(*ecdsa.PrivateKey)
		if err != nil || !ok {
			return fmt.Errorf("%w key of domain tokens", taubyte.ErrDamaged)
		}
		s.domains.key = key
	}
	public, err := x509.MarshalPKIXPublicKey(&s.domains.key.PublicKey)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(public)
	s.domains.kid = hex.EncodeToString(sum[:6])
	name := ds.RawKey(domainsPrefix + "keys/" + s.domains.kid)
	if there, err := s.store.Has(ctx, name); err != nil || there {
		return err
	}
	return s.put(ctx, name, public)
}

// domainToken signs a token for a project and host: a JWT by ES256.
func (s *Service) domainToken(d domainID, until time.Time) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.domains.key},
		(&jose.SignerOptions{}).WithHeader(jose.HeaderKey("kid"), s.domains.kid))
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(jwt.Claims{Subject: string(d.project), Audience: jwt.Audience{d.host}, Expiry: jwt.NewNumericDate(until)}).Serialize()
}

// domainClaims reads a token: whose project and which host it is for, if a node of this
// network has signed it.
func (s *Service) domainClaims(ctx context.Context, text string) (d domainID, until time.Time, err error) {
	if len(text) > 4096 {
		return d, until, fmt.Errorf("%w domain token: %d bytes", taubyte.ErrInvalid, len(text))
	}
	token, err := jwt.ParseSigned(strings.TrimSpace(text), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(token.Headers) != 1 {
		return d, until, fmt.Errorf("%w domain token: %w", taubyte.ErrInvalid, err)
	}
	kid := token.Headers[0].KeyID
	if len(kid) != 12 || strings.Trim(kid, "0123456789abcdef") != "" {
		return d, until, fmt.Errorf("%w domain token: no key of this network", taubyte.ErrForbidden)
	}
	raw, err := s.store.Get(ctx, ds.RawKey(domainsPrefix+"keys/"+kid))
	var public []byte
	if err == nil {
		err = json.Unmarshal(raw, &public)
	}
	if err != nil {
		return d, until, fmt.Errorf("%w domain token: no key of this network", taubyte.ErrForbidden)
	}
	key, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return d, until, fmt.Errorf("%w key of domain tokens: %w", taubyte.ErrInvalid, err)
	}
	var claims jwt.Claims
	if err := token.Claims(key, &claims); err != nil {
		return d, until, fmt.Errorf("%w domain token: %w", taubyte.ErrForbidden, err)
	}
	if len(claims.Audience) != 1 || claims.Expiry == nil || claims.Subject == "" {
		return d, until, fmt.Errorf("%w domain token: incomplete", taubyte.ErrInvalid)
	}
	return domainID{claims.Audience[0], taubyte.ProjectID(claims.Subject)}, claims.Expiry.Time(), nil
}

// domainOf checks a host and a project, and that the caller may do so with the project.
func (s *Service) domainOf(ctx context.Context, verb taubyte.Verb, project taubyte.ProjectID, host string) (domainID, error) {
	if err := taubyte.AllowNode(ctx, taubyte.RoleAuth); err != nil {
		return domainID{}, err
	}
	d := domainID{strings.TrimSuffix(strings.ToLower(host), "."), project}
	if err := checkProjectID(project); err != nil {
		return d, err
	}
	if err := taubyte.Allow(ctx, verb, project, taubyte.RoleAuth); err != nil {
		return d, err
	}
	rest := strings.TrimPrefix(d.host, "*.")
	if len(rest) > 253-len(domainLabel) || !strings.Contains(rest, ".") {
		return d, fmt.Errorf("%w host %q", taubyte.ErrInvalid, host)
	}
	for _, label := range strings.Split(rest, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return d, fmt.Errorf("%w host %q", taubyte.ErrInvalid, host)
		}
	}
	if zone := strings.ToLower(strings.Trim(s.settings.Zone, ".")); zone != "" && (rest == zone || strings.HasSuffix(rest, "."+zone)) {
		return d, fmt.Errorf("%w host %q: names of the zone %s are given by the cluster, and need no proof", taubyte.ErrInvalid, host, zone)
	}
	return d, nil
}

// ClaimDomain gives a project the token that shows that it owns a host name, once it
// stands in the TXT record Domain.Record. It may be asked for anew: each token is good
// for DomainTokenTime, and one that has shown ownership for as long as it stays. DNS is
// asked each minute at first.
//
// For the administrator, nodes of role auth, and users that may administer the project.
// ErrInvalid: no host name, or one of the cluster's zone. ErrNotFound: no such project.
func (s *Service) ClaimDomain(ctx context.Context, project taubyte.ProjectID, host string) (Domain, error) {
	d, err := s.domainOf(ctx, taubyte.VerbAdminister, project, host)
	if err != nil {
		return Domain{}, err
	}
	ctx = taubyte.AsService(ctx)
	if _, err := s.Project(ctx, project); err != nil {
		return Domain{}, err
	}
	now := s.domains.now().UTC()
	until := now.Add(DomainTokenTime)
	token, err := s.domainToken(d, until)
	if err != nil {
		return Domain{}, err
	}
	have, err := s.domain(ctx, d)
	if err != nil {
		return Domain{}, err
	}
	own := d.key("claims", s.host.ID().String())
	since := now
	if have.claimed && !have.check.Withdrew {
		since = have.claim.Since
	}
	if err := s.put(ctx, own, domainClaim{Since: since, Until: until}); err != nil {
		return Domain{}, err
	}
	if have.check.Withdrew || have.check.State == DomainLost {
		if err := s.checked(ctx, d, domainCheck{State: DomainPending, Since: now, At: s.moment(have)}); err != nil {
			return Domain{}, err
		}
	}
	if have, err = s.domain(ctx, d); err != nil {
		return Domain{}, err
	}
	out := have.public(d)
	out.Token, out.Until = token, until
	if s.settings.Zone != "" {
		delegation := DelegationOf(d.host, s.settings.Zone)
		out.Delegation = &delegation
	}
	return out, nil
}

// domainStatus is what the records of a claim come to.
type domainStatus struct {
	claimed bool
	claim   domainClaim
	check   domainCheck // State "": never checked
}

func (st domainStatus) public(d domainID) Domain {
	out := Domain{Host: d.host, Project: d.project, State: st.check.State, Since: st.check.Since, Checked: st.check.At, Detail: st.check.Detail, Record: domainRecord(d.host), Until: st.claim.Until}
	if out.State == "" {
		out.State, out.Since = DomainPending, st.claim.Since
	}
	return out
}

// owns reports whether the name is the project's.
func (st domainStatus) owns() bool {
	return st.check.State == DomainOwned || st.check.State == DomainFailing
}

func (st *domainStatus) addClaim(c domainClaim) {
	if !st.claimed || c.Since.Before(st.claim.Since) {
		st.claim.Since = c.Since
	}
	if c.Until.After(st.claim.Until) {
		st.claim.Until = c.Until
	}
	st.claimed = true
}

func (st *domainStatus) addCheck(c domainCheck) {
	if st.check.State == "" || cmp.Or(c.At.Compare(st.check.At), cmp.Compare(c.State, st.check.State)) > 0 {
		st.check = c
	}
}

// domain reads one claim.
func (s *Service) domain(ctx context.Context, d domainID) (st domainStatus, err error) {
	all, err := s.domainsOf(ctx, d.host)
	return all[d], err
}

// domainsOf reads the claims to a host, or all where it is "".
func (s *Service) domainsOf(ctx context.Context, host string) (map[domainID]domainStatus, error) {
	all := map[domainID]domainStatus{}
	under := ""
	if host != "" {
		under = "/" + strings.ReplaceAll(host, "*", "_")
	}
	err := each(ctx, s.store, domainsPrefix+"claims"+under, func(key string, c domainClaim) {
		if d, ok := parseDomainKey(key, "claims"); ok {
			st := all[d]
			st.addClaim(c)
			all[d] = st
		}
	})
	if err != nil {
		return nil, err
	}
	return all, each(ctx, s.store, domainsPrefix+"checks"+under, func(key string, c domainCheck) {
		if d, ok := parseDomainKey(key, "checks"); ok {
			st := all[d]
			st.addCheck(c)
			all[d] = st
		}
	})
}

// Domains lists the claims of a project, by host: where it is "", of all that the caller
// may read.
//
// For the administrator, nodes of role auth, and users that may read the project.
func (s *Service) Domains(ctx context.Context, project taubyte.ProjectID) ([]Domain, error) {
	if project != "" {
		if err := taubyte.Allow(ctx, taubyte.VerbRead, project, taubyte.RoleAuth); err != nil {
			return nil, err
		}
	} else if err := taubyte.AllowNode(ctx, taubyte.RoleAuth); err != nil {
		return nil, err
	}
	may, err := reading(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.domainsOf(ctx, "")
	if err != nil {
		return nil, err
	}
	out := []Domain{}
	for d, st := range all {
		if (project == "" || d.project == project) && may(d.project) && !st.check.Withdrew {
			out = append(out, st.public(d))
		}
	}
	slices.SortFunc(out, func(a, b Domain) int { return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Project, b.Project)) })
	return out, nil
}

// DropDomain gives a project's claim to a host name up: the name is no longer its own.
//
// For the administrator, nodes of role auth, and users that may administer the project.
// ErrNotFound: it has no such claim.
func (s *Service) DropDomain(ctx context.Context, project taubyte.ProjectID, host string) error {
	d, err := s.domainOf(ctx, taubyte.VerbAdminister, project, host)
	if err != nil {
		return err
	}
	ctx = taubyte.AsService(ctx)
	s.domains.mu.Lock()
	defer s.domains.mu.Unlock()
	st, err := s.domain(ctx, d)
	if err != nil {
		return err
	}
	if !st.claimed || st.check.Withdrew {
		return fmt.Errorf("%w: project %s has no claim to %s", taubyte.ErrNotFound, project, d.host)
	}
	if st.owns() {
		if err := s.domains.verifier.Verify(ctx, d.project, d.host, false); err != nil {
			return err
		}
	}
	now := s.moment(st)
	return s.checked(ctx, d, domainCheck{State: DomainLost, Since: now, At: now, Withdrew: true})
}

// CheckDomain asks DNS now whether a project owns a host name, and has tns told.
//
// For the administrator, nodes of role auth, and users that may administer the project.
// ErrNotFound: the project has no claim to it. ErrUnavailable: DNS or tns can't be asked;
// nothing has changed. That the record is not there is no error: see Domain.State.
func (s *Service) CheckDomain(ctx context.Context, project taubyte.ProjectID, host string) (Domain, error) {
	d, err := s.domainOf(ctx, taubyte.VerbAdminister, project, host)
	if err != nil {
		return Domain{}, err
	}
	return s.check(taubyte.AsService(ctx), d)
}

func (s *Service) check(ctx context.Context, d domainID) (Domain, error) {
	s.domains.mu.Lock()
	defer s.domains.mu.Unlock()
	all, err := s.domainsOf(ctx, d.host)
	if err != nil {
		return Domain{}, err
	}
	st := all[d]
	if !st.claimed || st.check.Withdrew {
		return Domain{}, fmt.Errorf("%w: project %s has no claim to %s", taubyte.ErrNotFound, d.project, d.host)
	}
	shown, err := s.shown(ctx, d.host)
	if err != nil {
		return st.public(d), err
	}
	now := s.moment(st)
	// What a token shows that has ended is what it showed before.
	valid := func(o domainID) bool {
		until, ok := shown[o.project]
		return ok && (now.Before(until) || all[o].owns())
	}
	next := domainCheck{State: st.check.State, Since: st.check.Since, Owned: st.check.Owned, At: now}
	set := func(state DomainState) {
		if next.State != state {
			next.State, next.Since = state, now
		}
	}
	if valid(d) {
		if owner, ok := earlierOwner(all, d); ok {
			if valid(owner) {
				set(DomainTaken)
				next.Detail = fmt.Sprintf("project %s owns the name, and its record is still there: it hands the name over by removing that", owner.project)
				return s.settle(ctx, d, st, next)
			}
			// Whoever can change the zone has replaced its record: not a lapse.
			if err := s.domains.verifier.Verify(ctx, owner.project, owner.host, false); err != nil {
				return st.public(d), err
			}
			lost := domainCheck{State: DomainLost, Since: now, At: s.moment(all[owner]), Detail: fmt.Sprintf("project %s has shown that it owns the name", d.project)}
			if err := s.checked(ctx, owner, lost); err != nil {
				return st.public(d), err
			}
			s.log.Warn("domain changed hands", "host", d.host, "from", owner.project, "to", d.project)
		}
		if err := s.domains.verifier.Verify(ctx, d.project, d.host, true); err != nil {
			return st.public(d), fmt.Errorf("recording who owns %s: %w", d.host, err)
		}
		if !st.owns() {
			next.Owned = now
			s.log.Info("domain owned", "host", d.host, "project", d.project)
		}
		set(DomainOwned)
		return s.settle(ctx, d, st, next)
	}
	next.Detail = fmt.Sprintf("no TXT record of %s holds a valid token of the project", domainRecord(d.host))
	if !st.owns() {
		set(DomainPending)
		return s.settle(ctx, d, st, next)
	}
	set(DomainFailing)
	if next.Missing = st.check.Missing + 1; next.Missing >= missingChecks && now.Sub(next.Since) >= missingTime {
		if err := s.domains.verifier.Verify(ctx, d.project, d.host, false); err != nil {
			return st.public(d), err
		}
		set(DomainLost)
		s.log.Warn("domain lost", "host", d.host, "project", d.project)
	}
	return s.settle(ctx, d, st, next)
}

// moment is now, and after all that was recorded of a claim, whatever the clocks say.
func (s *Service) moment(st domainStatus) time.Time {
	now := s.domains.now().UTC()
	if !now.After(st.check.At) {
		now = st.check.At.Add(1)
	}
	return now
}

// settle records a check.
func (s *Service) settle(ctx context.Context, d domainID, st domainStatus, next domainCheck) (Domain, error) {
	if err := s.checked(ctx, d, next); err != nil {
		return st.public(d), err
	}
	st.check = next
	return st.public(d), nil
}

func (s *Service) checked(ctx context.Context, d domainID, c domainCheck) error {
	return s.put(ctx, d.key("checks", s.host.ID().String()), c)
}

// earlierOwner returns another project that owned the host before d did, or owns it
// where d does not.
func earlierOwner(all map[domainID]domainStatus, d domainID) (owner domainID, ok bool) {
	mine := all[d]
	for o, st := range all {
		if o.host != d.host || o.project == d.project || !st.owns() {
			continue
		}
		if mine.owns() && cmp.Or(mine.check.Owned.Compare(st.check.Owned), cmp.Compare(d.project, o.project)) < 0 {
			continue
		}
		if !ok || cmp.Or(st.check.Owned.Compare(all[owner].check.Owned), cmp.Compare(o.project, owner.project)) < 0 {
			owner, ok = o, true
		}
	}
	return owner, ok
}

// shown looks up which projects DNS says own a host, and until when each may say so anew.
func (s *Service) shown(ctx context.Context, host string) (map[taubyte.ProjectID]time.Time, error) {
	look, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	name := domainRecord(host)
	texts, err := s.domains.resolver.LookupTXT(look, name)
	var said *net.DNSError
	if err != nil && !(errors.As(err, &said) && said.IsNotFound) {
		return nil, fmt.Errorf("%w: asking DNS for %s: %w", taubyte.ErrUnavailable, name, err)
	}
	all := map[taubyte.ProjectID]time.Time{}
	for i, text := range texts {
		if i == maxDomainRecords {
			break
		}
		d, until, err := s.domainClaims(ctx, text)
		if err == nil && d.host == host && until.After(all[d.project]) {
			all[d.project] = until
		}
	}
	return all, nil
}

// maxDomainRecords bounds the signatures that are checked of one name.
const maxDomainRecords = 32

// recheck asks DNS about the claims that are due and this node's to check.
func (s *Service) recheck(ctx context.Context) error {
	all, err := s.domainsOf(ctx, "")
	if err != nil {
		return err
	}
	nodes := s.authNodes()
	for d, st := range all {
		if !st.claimed || !st.due(d, s.domains.now()) || rendezvous.Best("domain/"+d.host, nodes) != s.host.ID() {
			continue
		}
		if _, err := s.check(ctx, d); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.log.Debug("domain not checked", "host", d.host, "project", d.project, "err", err)
		}
	}
	return nil
}

// due reports whether a claim is to be checked again.
func (st domainStatus) due(d domainID, now time.Time) bool {
	var every time.Duration
	switch {
	case st.check.Withdrew || st.check.State == DomainLost:
		return false
	case st.owns():
		every = recheckOwned - time.Duration(xxhash.Sum64String(d.host)%uint64(recheckOwned/4))
		if st.check.State == DomainFailing {
			every = recheckFailing
		}
	case now.After(st.claim.Until):
		return false // the last token has ended
	default:
		if every = recheckPending; now.Sub(st.claim.Until.Add(-DomainTokenTime)) > time.Hour {
			every *= 10
		}
	}
	return now.Sub(st.check.At) >= every
}
