package auth

import (
	"cmp"
	"context"
	"crypto/x509"
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
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// The certificates of projects' configurations ("type: inline"), each a secret; see
// config.KeyReference. A project may bring a certificate for any host. What is given to
// gateways is decided by the registry: the certificate of the branch that the host is
// served for.
const inlinePrefix = "inline/"

func inlineName(p taubyte.ProjectID, b taubyte.Branch, domain taubyte.ResourceID) string {
	return strings.TrimPrefix(config.KeyReference(p, b, domain), "secret:")
}

// inlineProject is the project of an inline certificate's name, "" for another name.
func inlineProject(name string) taubyte.ProjectID {
	rest, ok := strings.CutPrefix(name, inlinePrefix)
	if !ok {
		return ""
	}
	p, _, _ := strings.Cut(rest, "/")
	return taubyte.ProjectID(p)
}

// KeepInlineCertificate keeps the certificate of a domain of a project's configuration,
// which the registry is not given, and returns what the configuration has in the place of
// its key. The same again changes nothing; another one takes its place. Gateways serve it
// as soon as the registry says that the branch has the host.
//
// For the administrator, nodes of the roles monkey and tns, jobs of the branch, and users
// that may deploy the project.
// ErrInvalid: the key is not the certificate's, or the certificate is not for the host.
func (s *Service) KeepInlineCertificate(ctx context.Context, i InlineCertificate) (reference string, err error) {
	if err := taubyte.AllowJob(ctx, i.Project, i.Branch, "", taubyte.RoleMonkey, taubyte.RoleTNS); err != nil {
		return "", err
	}
	if err := checkProjectID(i.Project); err != nil {
		return "", err
	}
	if i.Branch == "" || i.Domain == "" || strings.Contains(string(i.Domain), "/") {
		return "", fmt.Errorf("%w inline certificate of branch %.100q, domain %.100q", taubyte.ErrInvalid, i.Branch, i.Domain)
	}
	leaf, err := parsePair(i.Cert, i.Key)
	if err != nil {
		return "", err
	}
	if !covers(leaf, i.Host) {
		return "", fmt.Errorf("%w certificate of the domain %s: it is for %v", taubyte.ErrInvalid, i.Host, leaf.DNSNames)
	}
	raw, err := json.Marshal(Certificate{Hosts: []string{strings.ToLower(i.Host)}, Cert: i.Cert, Key: i.Key})
	if err != nil {
		return "", err
	}
	name := inlineName(i.Project, i.Branch, i.Domain)
	if _, err := s.secrets.Put(ctx, callerOf(ctx), name, raw, secrets.ReaderRole(taubyte.RoleGateway)); err != nil {
		return "", err
	}
	return config.KeyReference(i.Project, i.Branch, i.Domain), nil
}

// An InlineCertificate is one that a project's configuration holds.
type InlineCertificate struct {
	Project taubyte.ProjectID  `json:"project"`
	Branch  taubyte.Branch     `json:"branch"`
	Domain  taubyte.ResourceID `json:"domain"`
	Host    string             `json:"host"`
	Cert    string             `json:"cert"`
	Key     string             `json:"key"`
}

// covers reports whether a certificate is for a host, which may be a wildcard.
func covers(leaf *x509.Certificate, host string) bool {
	return leaf.VerifyHostname(strings.Replace(host, "*", "wildcard", 1)) == nil
}

// inline follows the registry and the secrets, and holds the inline certificates that
// gateways are to serve.
type inline struct {
	s     *Service
	ready chan struct{} // closed when served is all that there is to serve

	served *certificates // by host

	updating sync.Mutex // guards what follows
	heard    uint64     // counts the changes of the registry
	whole    bool       // the registry has told all
	branches map[inlineBranch]inlineState
	claims   map[string]map[inlineBranch]inlineClaim // by host
	below    map[string]map[string]struct{}          // hosts, by what follows their first label
	wanted   map[string]secrets.Info                 // by host, its certificate as it was last opened, or only the name
	waiting  map[string]struct{}                     // hosts whose certificate can't be opened yet
}

type inlineBranch struct {
	project taubyte.ProjectID
	branch  taubyte.Branch
}

type inlineState struct {
	sequence uint64
	hosts    []string
}

// inlineClaim says that a host is served for a branch.
type inlineClaim struct {
	secret string // "": its domain has no inline certificate
	rank   int
	heard  uint64
}

func startInline(ctx context.Context, s *Service) *inline {
	c := &inline{
		s: s, ready: make(chan struct{}), served: newCertificates(),
		branches: map[inlineBranch]inlineState{}, claims: map[string]map[inlineBranch]inlineClaim{},
		below: map[string]map[string]struct{}{}, wanted: map[string]secrets.Info{}, waiting: map[string]struct{}{},
	}
	w := s.secrets.Watch(inlinePrefix)
	s.wg.Go(func() {
		defer w.Stop()
		c.follow(ctx, w.News())
	})
	return c
}

// follow keeps up with the secrets and, from the first inline certificate on, with the
// registry.
func (c *inline) follow(ctx context.Context, news <-chan struct{}) {
	// A node that has just joined has no secrets yet, which is no reason to tell gateways
	// that there are none.
	for wait := 100 * time.Millisecond; c.s.store.Synced(ctx) != nil; wait = min(2*wait, 5*time.Second) {
		if !pause(ctx, wait) {
			return
		}
	}
	if len(c.s.secrets.List(inlinePrefix)) == 0 {
		close(c.ready)
		for len(c.s.secrets.List(inlinePrefix)) == 0 {
			select {
			case <-news:
			case <-ctx.Done():
				return
			}
		}
	}
	var registry sync.WaitGroup
	registry.Go(func() { c.followRegistry(ctx) })
	defer registry.Wait()
	for {
		select {
		case <-news:
			c.reread(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// followRegistry watches for ever. What is known stays while the registry is away.
func (c *inline) followRegistry(ctx context.Context) {
	const least, most = 100 * time.Millisecond, 5 * time.Second
	token := ""
	for wait := least; ; wait = min(2*wait, most) {
		watching, stop := context.WithCancel(taubyte.AsService(ctx))
		changes, err := c.s.running.Watch(watching, token)
		if err != nil {
			c.s.log.Debug("registry not followed", "err", err)
		} else {
			told := false
			for change := range changes {
				wait = least
				c.take(ctx, &change)
				if told = told || change.Ready; told {
					token = change.Token
				}
			}
		}
		stop()
		if !pause(ctx, wait) {
			return
		}
	}
}

// take takes in what a branch runs now.
func (c *inline) take(ctx context.Context, change *tns.Change) {
	c.updating.Lock()
	defer c.updating.Unlock()
	if change.Ready {
		c.whole = true
		c.rereadLocked(ctx)
		return
	}
	b := inlineBranch{change.Project, change.Branch}
	state := c.branches[b]
	if change.Sequence < state.sequence {
		return // of a replica that lags behind the one before
	}
	c.heard++
	touched := map[string]bool{}
	for _, host := range state.hosts {
		touched[host] = true
		c.unclaim(host, b)
	}
	c.branches[b] = inlineState{sequence: change.Sequence}
	if change.Deployment == nil {
		c.forget(ctx, b)
	} else {
		bring := bringing(change)
		state = inlineState{sequence: change.Sequence}
		for _, h := range change.Hosts {
			if slices.ContainsFunc(change.Conflicts, func(l tns.Claim) bool { return l.Host == h.Host }) {
				continue
			}
			c.claim(h.Host, b, inlineClaim{secret: bring[h.Domain], rank: h.Rank, heard: c.heard})
			state.hosts = append(state.hosts, h.Host)
			touched[h.Host] = true
		}
		c.branches[b] = state
	}
	for host := range maps.Clone(touched) { // to a wildcard above, they are exceptions or none any more
		if _, parent, ok := strings.Cut(host, "."); ok && c.wanted["*."+parent].Name != "" {
			touched["*."+parent] = true
		}
	}
	c.refresh(ctx, touched)
}

// bringing returns the secrets of the certificates that a deployment brings, by domain. A
// reference counts only if it is to the branch's own.
func bringing(change *tns.Change) map[taubyte.ResourceID]string {
	all := map[taubyte.ResourceID]string{}
	conf := change.Deployment.Config()
	if conf == nil {
		return all
	}
	add := func(domains []config.Domain) {
		for _, d := range domains {
			if d.CertType == "inline" && d.KeyFile == config.KeyReference(change.Project, change.Branch, d.ID) {
				all[d.ID] = inlineName(change.Project, change.Branch, d.ID)
			}
		}
	}
	add(conf.Domains)
	for i := range conf.Applications {
		add(conf.Applications[i].Domains)
	}
	return all
}

func (c *inline) claim(host string, b inlineBranch, claim inlineClaim) {
	if c.claims[host] == nil {
		c.claims[host] = map[inlineBranch]inlineClaim{}
		if label, parent, ok := strings.Cut(host, "."); ok && label != "*" {
			if c.below[parent] == nil {
				c.below[parent] = map[string]struct{}{}
			}
			c.below[parent][host] = struct{}{}
		}
	}
	c.claims[host][b] = claim
}

func (c *inline) unclaim(host string, b inlineBranch) {
	delete(c.claims[host], b)
	if len(c.claims[host]) > 0 {
		return
	}
	delete(c.claims, host)
	if _, parent, ok := strings.Cut(host, "."); ok {
		if delete(c.below[parent], host); len(c.below[parent]) == 0 {
			delete(c.below, parent)
		}
	}
}

// owner returns the branch that a host is served for. Two projects have it only while a
// change of hands is being told, and then the one that was told of last has it.
func (c *inline) owner(host string) (best inlineBranch, claim inlineClaim) {
	for b, cl := range c.claims[host] {
		if best.project == "" {
			best, claim = b, cl
			continue
		}
		order := cmp.Or(cmp.Compare(cl.rank, claim.rank), cmp.Compare(b.branch, best.branch))
		if b.project != best.project {
			order = cmp.Compare(claim.heard, cl.heard)
		}
		if order < 0 {
			best, claim = b, cl
		}
	}
	return best, claim
}

// forget deletes the certificates of a branch that was removed.
func (c *inline) forget(ctx context.Context, b inlineBranch) {
	for _, i := range c.s.secrets.List(inlineName(b.project, b.branch, "")) {
		err := c.s.secrets.Delete(ctx, secrets.Caller{Who: "auth: the branch was removed"}, i.Name)
		if err != nil && !errors.Is(err, taubyte.ErrNotFound) && ctx.Err() == nil {
			c.s.log.Warn("certificate of a removed branch not deleted", "project", b.project, "branch", b.branch, "err", err)
		}
	}
}

// reread opens what has changed among the certificates that are wanted.
func (c *inline) reread(ctx context.Context) {
	c.updating.Lock()
	defer c.updating.Unlock()
	c.rereadLocked(ctx)
}

func (c *inline) rereadLocked(ctx context.Context) {
	infos := map[string]secrets.Info{}
	for _, i := range c.s.secrets.List(inlinePrefix) {
		infos[i.Name] = i
	}
	touched := map[string]bool{}
	for host, had := range c.wanted {
		if i := infos[had.Name]; i.Version != had.Version || !i.Made.Equal(had.Made) {
			touched[host] = true
		}
	}
	c.refresh(ctx, touched)
}

// refresh works out anew what is served for some hosts. updating is held.
func (c *inline) refresh(ctx context.Context, hosts map[string]bool) {
	drop := func(host string) {
		if _, is := c.served.get(host); is {
			c.served.set(host, nil)
		}
	}
	for host := range hosts {
		delete(c.waiting, host)
		owner, claim := c.owner(host)
		if claim.secret == "" {
			delete(c.wanted, host)
			drop(host)
			continue
		}
		h, err := c.open(ctx, host, claim.secret)
		c.wanted[host] = h.info
		have, is := c.served.get(host)
		switch {
		case err == nil:
			h.Except = c.exceptions(host, owner.project)
			if !is || have.Cert != h.Cert || have.Key != h.Key || !slices.Equal(have.Except, h.Except) {
				c.served.set(host, &h)
			}
		case errors.Is(err, taubyte.ErrNotFound), errors.Is(err, taubyte.ErrInvalid):
			c.s.log.Info("inline certificate not served", "host", host, "project", owner.project, "branch", owner.branch, "err", err)
			drop(host)
		default: // as when this node was not given the key yet: then there is news when it is
			c.waiting[host] = struct{}{}
			c.wanted[host] = secrets.Info{Name: claim.secret}
			if have.info.Name != claim.secret {
				drop(host)
			}
		}
	}
	if c.whole && len(c.waiting) == 0 {
		select {
		case <-c.ready:
		default:
			close(c.ready)
		}
	}
}

// open opens the certificate of a host.
func (c *inline) open(ctx context.Context, host, name string) (h heldCertificate, err error) {
	raw, info, err := c.s.secrets.Read(ctx, name)
	h.info = info
	h.info.Name = name // also where it is not there
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(raw, &h.Certificate); err != nil {
		return h, fmt.Errorf("%w secret %s: %w", taubyte.ErrInvalid, name, err)
	}
	leaf, err := parsePair(h.Cert, h.Key)
	if err != nil {
		return h, err
	}
	if !covers(leaf, host) {
		return h, fmt.Errorf("%w certificate: it is for %v", taubyte.ErrInvalid, leaf.DNSNames)
	}
	h.ID, h.Hosts = host, []string{host}
	return h, nil
}

// exceptions lists the hosts below a wildcard that are served for other projects.
func (c *inline) exceptions(host string, p taubyte.ProjectID) (all []string) {
	parent, wildcard := strings.CutPrefix(host, "*.")
	if !wildcard {
		return nil
	}
	for h := range c.below[parent] {
		if owner, _ := c.owner(h); owner.project != p {
			all = append(all, h)
		}
	}
	slices.Sort(all)
	return all
}

// WatchInlineCertificates is WatchCertificates of the certificates of projects'
// configurations: of those alone whose host is served for the project, one for each host.
// Nothing is told before the registry was heard.
//
// For the administrator and nodes of role gateway.
func (s *Service) WatchInlineCertificates(ctx context.Context) (<-chan CertificateChange, error) {
	return s.watchCertificates(ctx, s.inline.ready, s.inline.served)
}
