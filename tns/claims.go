package tns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/crdt"
)

// A HostClaim is a branch's claim to serve a host name.
type HostClaim struct {
	Host string `json:"host"`
	// Domain is the domain of the configuration that the name stands for.
	Domain taubyte.ResourceID `json:"domain"`
	// Generated: the name was made for the project, and can be made for no other.
	Generated bool `json:"generated,omitempty"`
	// Verified: the name was generated, or the project showed that it owns it.
	Verified bool `json:"verified,omitempty"`
	// Since is when the claim became what it is: when the project claimed the name,
	// or, if that is later, when it showed that it owns it.
	Since time.Time `json:"since"`
	// Rank orders the branches of one project that claim the name: the smallest has
	// it.
	Rank int `json:"rank,omitempty"`
}

// strength is what counts before age.
func (c *HostClaim) strength() int {
	switch {
	case c.Generated:
		return 2
	case c.Verified:
		return 1
	}
	return 0
}

// stronger orders the claims of two projects to one name: generated ones first, then
// verified ones, then the older, then by the project's id.
func stronger(a *HostClaim, pa taubyte.ProjectID, b *HostClaim, pb taubyte.ProjectID) bool {
	return cmp.Or(cmp.Compare(b.strength(), a.strength()), a.Since.Compare(b.Since), strings.Compare(string(pa), string(pb))) < 0
}

// sortClaims orders the claims of several branches to one host name, the one that
// has it first, on every node alike. A project counts by the strongest claim of its
// branches, and then its branches by rank: so the order is one, whoever is compared
// with whom.
func sortClaims[T any](all []T, of func(*T) (branchKey, *HostClaim)) {
	if len(all) < 2 {
		return
	}
	best := map[taubyte.ProjectID]HostClaim{} // values: what is sorted moves
	for i := range all {
		k, c := of(&all[i])
		if have, ok := best[k.project]; !ok || stronger(c, k.project, &have, k.project) {
			best[k.project] = *c
		}
	}
	slices.SortFunc(all, func(a, b T) int {
		ka, ca := of(&a)
		kb, cb := of(&b)
		if ka.project == kb.project {
			return cmp.Or(cmp.Compare(ca.Rank, cb.Rank), cmp.Compare(ka.branch, kb.branch))
		}
		x, y := best[ka.project], best[kb.project]
		if stronger(&x, ka.project, &y, kb.project) {
			return -1
		}
		return 1
	})
}

// ClaimState says what a claim leads to.
type ClaimState string

// The states of a claim.
const (
	ClaimServed     ClaimState = "served"     // the name is served for the project
	ClaimLost       ClaimState = "lost"       // another project has it
	ClaimUnverified ClaimState = "unverified" // nobody showed that it is theirs (see WithVerifiedOnly)
	ClaimReserved   ClaimState = "reserved"   // the cluster's own: no project can have it
)

// A Claim is a branch's claim to a host name, and what came of it.
type Claim struct {
	Project taubyte.ProjectID `json:"project"`
	Branch  taubyte.Branch    `json:"branch"`
	HostClaim
	State ClaimState `json:"state"`
	// Owner is the project that the name is served for; "" for none.
	Owner taubyte.ProjectID `json:"owner,omitempty"`
}

// String says it to the claim's project.
func (c Claim) String() string {
	switch c.State {
	case ClaimLost:
		return fmt.Sprintf("host %s is served for project %s", c.Host, c.Owner)
	case ClaimUnverified:
		return fmt.Sprintf("host %s is not served until its ownership is shown", c.Host)
	case ClaimReserved:
		return fmt.Sprintf("host %s is not served: it is a name of the cluster's own", c.Host)
	}
	return fmt.Sprintf("host %s is served for this project", c.Host)
}

// claims lists the host names that a deployment claims. f.mu is held.
func (f *feed) claims(d *Deployment) []HostClaim {
	c := d.Config()
	if c == nil {
		return nil
	}
	o := f.opts
	end := idEnd(d.Project)
	if heir := f.heir(end); heir != "" && heir != d.Project {
		end = ""
	}
	rank := slices.Index(o.production, d.Branch)
	var all []HostClaim
	for _, dom := range domains(c) {
		claim := HostClaim{Host: dom.FQDN, Domain: dom.ID, Verified: o.open, Since: d.claimedSince(dom.FQDN), Rank: rank}
		if rank < 0 {
			claim.Rank = len(o.production)
			all = append(all, o.previews(d, end, claim)...)
			continue
		}
		if generated(dom.FQDN, o.zone, end) {
			claim.Generated, claim.Verified = true, true
		} else if since, ok := f.verified[dom.FQDN][d.Project]; ok {
			claim.Verified, claim.Since = true, later(claim.Since, since)
		}
		all = append(all, claim)
		if alias := o.alias(dom.FQDN); alias != "" {
			claim.Host = alias
			all = append(all, claim)
		}
	}
	return all
}

// previews are the names of a domain on a branch that is not in production.
func (o *options) previews(d *Deployment, end string, claim HostClaim) []HostClaim {
	if o.zone == "" {
		return nil
	}
	var all []HostClaim
	plain := plainPreview(d.Branch, claim.Host, o.zone)
	own := plain != "" && generated(claim.Host, o.zone, end)
	if plain != "" {
		c := claim
		c.Host = plain
		if own {
			c.Generated, c.Verified = true, true
		}
		all = append(all, c)
	}
	if !own {
		claim.Host, claim.Generated, claim.Verified = previewHost(d.Project, d.Branch, claim.Host, o.zone), true, true
		all = append(all, claim)
	}
	return all
}

// alias is the name under the zone by which a host of another zone is reached as
// well, where every host name is taken as verified: a developer's machine need not
// be told who www.example.com is.
func (o *options) alias(fqdn string) string {
	if !o.open || o.zone == "" || fqdn == o.zone || strings.HasSuffix(fqdn, "."+o.zone) || strings.HasPrefix(fqdn, "*.") {
		return ""
	}
	return fqdn + "." + o.zone
}

// What is known of the ownership of names, a key for each time that it changed:
//
//	/verified/<host>/<project>/<Unix nanoseconds, 20 digits>/<yes|no>
//
// The newest counts, and of those of one moment "no". A project owns a name since the
// first "yes" after the last "no".
const verifiedPrefix = "/verified"

type statement struct {
	key     ds.Key
	project taubyte.ProjectID
	at      time.Time
	yes     bool
}

func statementKey(host string, project taubyte.ProjectID, at time.Time, yes bool) ds.Key {
	word := "no"
	if yes {
		word = "yes"
	}
	return ds.RawKey(fmt.Sprintf("%s/%s/%s/%020d/%s", verifiedPrefix, host, project, at.UnixNano(), word))
}

func parseStatement(k string) (host string, st statement, err error) {
	parts := strings.Split(k, "/")
	if len(parts) != 6 || "/"+parts[1] != verifiedPrefix || parts[2] == "" || parts[3] == "" || parts[5] != "yes" && parts[5] != "no" {
		return "", st, fmt.Errorf("%w registry key %s", taubyte.ErrInvalid, k)
	}
	nanos, err := strconv.ParseInt(parts[4], 10, 64)
	if err != nil {
		return "", st, fmt.Errorf("%w registry key %s: %w", taubyte.ErrInvalid, k, err)
	}
	return parts[2], statement{ds.RawKey(k), taubyte.ProjectID(parts[3]), time.Unix(0, nanos).UTC(), parts[5] == "yes"}, nil
}

// ownedSince reads statements about one project and name.
func ownedSince(all []statement) (since time.Time, owned bool) {
	slices.SortFunc(all, func(a, b statement) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return cmp.Compare(b.key.String(), a.key.String()) // "yes", then "no"
	})
	for _, st := range all {
		if st.yes && !owned {
			since = st.at
		}
		owned = st.yes
	}
	return since, owned
}

// statements reads what is known of a name, or of all where host is "", by name and
// project.
func (s *Service) statements(ctx context.Context, host string) (map[string]map[taubyte.ProjectID][]statement, error) {
	prefix := verifiedPrefix
	if host != "" {
		prefix += "/" + host
	}
	results, err := s.store.Query(ctx, query.Query{Prefix: prefix, KeysOnly: true})
	if err != nil {
		return nil, err
	}
	defer results.Close()
	all := map[string]map[taubyte.ProjectID][]statement{}
	for r := range results.Next() {
		if r.Error != nil {
			return nil, r.Error
		}
		name, st, err := parseStatement(r.Key)
		if err != nil {
			s.opts.log.Warn("registry entry skipped", "err", err)
			continue
		}
		if all[name] == nil {
			all[name] = map[taubyte.ProjectID][]statement{}
		}
		all[name][st.project] = append(all[name][st.project], st)
	}
	return all, ctx.Err()
}

// Verify records that a project showed that it owns a host name, or that it no longer
// does: who checked the proof says so. A name that is verified beats one that is not,
// and of two the one that was first. Nothing changes where that was known.
//
// It takes a node of the roles auth or tns, or the verb administer on everything.
func (s *Service) Verify(ctx context.Context, project taubyte.ProjectID, host string, verified bool) error {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth, taubyte.RoleTNS); err != nil {
		return err
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if err := checkProject(project); err != nil {
		return err
	}
	if host == "" || len(host) > maxHost || strings.ContainsAny(host, "/ \x00") {
		return fmt.Errorf("%w host %q", taubyte.ErrInvalid, host)
	}
	s.verifying.Lock()
	defer s.verifying.Unlock()
	known, err := s.statements(ctx, host)
	if err != nil {
		return err
	}
	if _, owned := ownedSince(known[host][project]); owned == verified {
		return nil
	}
	// Later than all that was said before, whatever this node's clock says.
	at := time.Now().UTC()
	for _, all := range known[host] {
		for _, st := range all {
			if !st.at.Before(at) {
				at = st.at.Add(1)
			}
		}
	}
	batch, err := s.store.Batch(ctx)
	if err != nil {
		return err
	}
	if err := batch.Put(ctx, statementKey(host, project, at, verified), []byte{1}); err != nil {
		return err
	}
	for _, st := range known[host][project] {
		if err := batch.Delete(ctx, st.key); err != nil {
			return err
		}
	}
	if err := batch.Commit(ctx); err != nil {
		return fmt.Errorf("recording who owns %s: %w", host, err)
	}
	return s.reverify(ctx, host)
}

// reverify brings what the feed knows of the ownership of a name, or of all where
// host is "", up to date with the store.
func (s *Service) reverify(ctx context.Context, host string) error {
	s.reverifying.Lock() // so that of two the later reader is the later writer
	defer s.reverifying.Unlock()
	known, err := s.statements(ctx, host)
	if err != nil {
		return err
	}
	book := map[string]owners{}
	if host != "" {
		book[host] = nil
	}
	for name, projects := range known {
		book[name] = owners{}
		for p, all := range projects {
			if since, owned := ownedSince(all); owned {
				book[name][p] = since
			}
		}
	}
	s.feed.verify(book)
	return nil
}

// owners are the projects that showed that they own a name, and since when.
type owners map[taubyte.ProjectID]time.Time

func (s *Service) followVerified(ctx context.Context, events <-chan crdt.Event) {
	for e := range events {
		host := ""
		if !e.Lost {
			var err error
			if host, _, err = parseStatement(e.Key.String()); err != nil {
				continue
			}
		}
		for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(wait*2, 10*time.Second) {
			err := s.reverify(ctx, host)
			if err == nil || ctx.Err() != nil || errors.Is(err, taubyte.ErrClosed) {
				break
			}
			s.opts.log.Warn("ownership of hosts not read", "host", host, "err", err)
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
	}
}

// Claims lists who claims a host name, the one that it is served for first.
//
// Every node may call it; of users, it takes the verb read on everything.
func (s *Service) Claims(ctx context.Context, host string) ([]Claim, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.Roles()...); err != nil {
		return nil, err
	}
	return s.feed.claimsOf(strings.TrimSuffix(strings.ToLower(host), ".")), nil
}

// Conflicts lists the claims of a project that lead nowhere: names that another
// project has, or whose ownership was not shown.
//
// Every node may call it; of users, it takes the verb read on the project.
func (s *Service) Conflicts(ctx context.Context, project taubyte.ProjectID) ([]Claim, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, project, taubyte.Roles()...); err != nil {
		return nil, err
	}
	return s.feed.conflictsOf(project), nil
}
