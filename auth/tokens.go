package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	ds "github.com/ipfs/go-datastore"

	"github.com/taubyte/taubyte"
)

// The replicated keys of tokens:
//
//	/tokens/<id>/made/<peer>      a tokenRecord, by the node that made it
//	/tokens/<id>/revoked/<peer>   when, by a node that revoked it
//
// A token that any node has revoked is revoked, whatever arrives first. Both go 30 days
// after a token has ended: it is not accepted without its record.
const tokensPrefix = "/tokens"

const (
	// TokenPrefix is what every token begins with, for who looks for leaked ones.
	TokenPrefix = "tau_"

	tokenIDBytes     = 10
	tokenSecretBytes = 32

	maxTokens     = 10_000
	maxTokenName  = 100
	maxTokenScope = 100 // projects or repositories of one token
	tokensKept    = 30 * 24 * time.Hour

	// MaxTokenLifetime bounds how long a token may be good.
	MaxTokenLifetime = 366 * 24 * time.Hour
	// DefaultTokenLifetime is how long a token is good that is made without an end.
	DefaultTokenLifetime = 90 * 24 * time.Hour
)

// A Token is what somebody shows instead of the node's own token, with fewer rights. The
// secret itself is shown once, when it is made.
type Token struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Verb is the most that it may.
	Verb taubyte.Verb `json:"verb"`
	// Projects are those that it is for.
	Projects []taubyte.ProjectID `json:"projects,omitempty"`
	// All: it is for every project, and for what belongs to none.
	All bool `json:"all,omitempty"`
	// Repositories make it a git credential: it opens these repositories and nothing else.
	Repositories []taubyte.RepositoryID `json:"repositories,omitempty"`
	Made         time.Time              `json:"made"`
	MadeBy       string                 `json:"madeBy"` // who, in words
	Ends         time.Time              `json:"ends"`
	Revoked      time.Time              `json:"revoked,omitzero"`
}

// A NewToken is a token that was just made.
type NewToken struct {
	Token
	// Secret is what is shown to the API and to git. It is kept nowhere.
	Secret string `json:"secret"`
}

// tokenRecord is a token as it is kept. Its hash is SHA-256 of the secret's text. A slow
// hash is for secrets that people choose: of 256 random bits nobody finds one that fits,
// however fast guesses are, and a fast one keeps requests cheap.
type tokenRecord struct {
	Token
	Hash []byte `json:"hash"`
}

type tokenRevocation struct {
	At time.Time `json:"at"`
	By string    `json:"by"`
}

var tokenText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// tokenRule is what a token looks like: its id and its secret.
var tokenRule = regexp.MustCompile(`^tau_([a-z2-7]{16})_[a-z2-7]{52}$`)

var tokenIDRule = regexp.MustCompile(`^[a-z2-7]{16}$`)

// parseAccessToken returns the id of a token.
func parseAccessToken(text string) (id string, ok bool) {
	m := tokenRule.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	return m[1], true
}

func randomText(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return tokenText.EncodeToString(b)
}

// CreateToken makes a token by the Name, Verb, Projects, All, Repositories and Ends of t;
// without an end it is good for DefaultTokenLifetime. A token for repositories is for
// their projects. Nobody makes a token that may more than he may himself: it takes the
// verb administer on all of its projects, or on everything, and an end that is not later
// than the caller's own; or a node of role auth.
//
// ErrInvalid: no name, no verb, nothing that it is for, or too long. ErrTooLarge: there
// are 10,000 tokens.
func (s *Service) CreateToken(ctx context.Context, t Token) (NewToken, error) {
	if err := taubyte.AllowNode(ctx, taubyte.RoleAuth); err != nil {
		return NewToken{}, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	if t.Ends.IsZero() {
		t.Ends = now.Add(DefaultTokenLifetime)
	}
	t = Token{
		ID: randomText(tokenIDBytes), Name: t.Name, Verb: t.Verb, All: t.All, Projects: unique(t.Projects), Repositories: unique(t.Repositories),
		Made: now, MadeBy: taubyte.PrincipalOf(ctx).String(), Ends: t.Ends.UTC().Truncate(time.Second),
	}
	if err := t.check(now); err != nil {
		return NewToken{}, err
	}
	for _, id := range t.Repositories {
		r, err := s.Repository(ctx, id)
		if err != nil {
			return NewToken{}, err
		}
		t.Projects = unique(append(t.Projects, r.Project))
	}
	if err := mayToken(ctx, t); err != nil {
		return NewToken{}, err
	}
	p := taubyte.PrincipalOf(ctx)
	if !p.Until.IsZero() && t.Ends.After(p.Until) {
		return NewToken{}, fmt.Errorf("%w: %s ends at %s, and what it makes can't end later", taubyte.ErrForbidden, p, p.Until.UTC().Format(time.RFC3339))
	}
	for _, id := range t.Projects {
		if _, err := s.project(ctx, id); err != nil {
			return NewToken{}, err
		}
	}
	n, err := s.tidyTokens(ctx, now)
	if err != nil {
		return NewToken{}, err
	}
	if n >= maxTokens {
		return NewToken{}, fmt.Errorf("%w: there are %d tokens: revoke some", taubyte.ErrTooLarge, n)
	}
	made := NewToken{Token: t, Secret: TokenPrefix + t.ID + "_" + randomText(tokenSecretBytes)}
	hash := sha256.Sum256([]byte(made.Secret))
	key := ds.RawKey(tokensPrefix + "/" + t.ID + "/made/" + s.host.ID().String())
	if err := s.put(ctx, key, tokenRecord{Token: t, Hash: hash[:]}); err != nil {
		return NewToken{}, err
	}
	s.log.Info("token made", "token", t.ID, "name", t.Name, "verb", t.Verb, "by", t.MadeBy)
	return made, nil
}

func unique[T ~string](all []T) []T {
	all = slices.Clone(all)
	slices.Sort(all)
	return slices.Compact(all)
}

func (t Token) check(now time.Time) error {
	_, err := taubyte.ParseVerb(string(t.Verb))
	switch {
	case t.Name == "" || len(t.Name) > maxTokenName || strings.ContainsFunc(t.Name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("%w token: its name is empty, longer than %d bytes, or holds control characters", taubyte.ErrInvalid, maxTokenName)
	case err != nil || !slices.Contains(taubyte.Verbs(), t.Verb):
		return fmt.Errorf("%w token: the verb %q is none of %v", taubyte.ErrInvalid, t.Verb, taubyte.Verbs())
	case !t.All && len(t.Projects) == 0 && len(t.Repositories) == 0:
		return fmt.Errorf("%w token: it is for nothing: name a project, a repository, or all", taubyte.ErrInvalid)
	case t.All && len(t.Projects)+len(t.Repositories) > 0:
		return fmt.Errorf("%w token: it is for everything, or for what it names", taubyte.ErrInvalid)
	case len(t.Projects) > maxTokenScope || len(t.Repositories) > maxTokenScope:
		return fmt.Errorf("%w token: it is for more than %d projects or repositories", taubyte.ErrInvalid, maxTokenScope)
	case len(t.Repositories) > 0 && t.Verb == taubyte.VerbAdminister:
		return fmt.Errorf("%w token: one for repositories may read or deploy", taubyte.ErrInvalid)
	case !t.Ends.After(now) || t.Ends.After(now.Add(MaxTokenLifetime)):
		return fmt.Errorf("%w token: it would end at %s; it is good for at least a second and at most %d days",
			taubyte.ErrInvalid, t.Ends.Format(time.RFC3339), int(MaxTokenLifetime/(24*time.Hour)))
	}
	return nil
}

// mayToken returns why the principal may not make, see or revoke a token.
func mayToken(ctx context.Context, t Token) error {
	if t.All || len(t.Projects) == 0 {
		return taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth)
	}
	for _, id := range t.Projects {
		if err := taubyte.Allow(ctx, taubyte.VerbAdminister, id, taubyte.RoleAuth); err != nil {
			return err
		}
	}
	return nil
}

// Tokens lists the tokens that the caller could have made, the newest first, those too
// that have ended or were revoked in the last 30 days.
func (s *Service) Tokens(ctx context.Context) ([]Token, error) {
	if err := taubyte.AllowNode(ctx, taubyte.RoleAuth); err != nil {
		return nil, err
	}
	if p := taubyte.PrincipalOf(ctx); len(p.Repositories) > 0 {
		return nil, p.May(taubyte.VerbAdminister, "")
	}
	records, err := s.tokens(ctx, "")
	if err != nil {
		return nil, err
	}
	all := []Token{}
	for _, r := range records {
		if mayToken(ctx, r.Token) == nil {
			all = append(all, r.Token)
		}
	}
	slices.SortFunc(all, func(a, b Token) int {
		if c := b.Made.Compare(a.Made); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, nil
}

// RevokeToken ends a token, by its id, at once on this node and within moments on the
// others. Who could have made it may. ErrNotFound: there is none.
func (s *Service) RevokeToken(ctx context.Context, id string) error {
	if err := taubyte.AllowNode(ctx, taubyte.RoleAuth); err != nil {
		return err
	}
	if !tokenIDRule.MatchString(id) {
		return fmt.Errorf("%w token id %.100q", taubyte.ErrInvalid, id)
	}
	records, err := s.tokens(ctx, id)
	if err != nil {
		return err
	}
	r, ok := records[id]
	if err := mayToken(ctx, r.Token); err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: token %s", taubyte.ErrNotFound, id)
	}
	by := taubyte.PrincipalOf(ctx).String()
	key := ds.RawKey(tokensPrefix + "/" + id + "/revoked/" + s.host.ID().String())
	if err := s.put(ctx, key, tokenRevocation{time.Now().UTC(), by}); err != nil {
		return err
	}
	s.log.Info("token revoked", "token", id, "name", r.Name, "by", by)
	return nil
}

// Authenticate returns whose a token is: a user with the rights that the token has. It
// is for nodes, which ask what somebody has shown them. ErrForbidden: there is no such
// token, it was revoked, or it has ended.
func (s *Service) Authenticate(ctx context.Context, secret string) (taubyte.Principal, error) {
	if p := taubyte.PrincipalOf(ctx); p.Kind != taubyte.KindAdministrator && p.Kind != taubyte.KindNode {
		return taubyte.Principal{}, fmt.Errorf("%w: nodes ask whose a token is", taubyte.ErrForbidden)
	}
	refused := fmt.Errorf("%w: this token is not known, was revoked or has ended", taubyte.ErrForbidden)
	id, ok := parseAccessToken(secret)
	if !ok {
		return taubyte.Principal{}, refused
	}
	records, err := s.tokens(ctx, id)
	if err != nil {
		return taubyte.Principal{}, err
	}
	r := records[id] // without one, compared with nothing in the same time
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], r.Hash) != 1 || !r.Revoked.IsZero() || !time.Now().Before(r.Ends) {
		return taubyte.Principal{}, refused
	}
	return taubyte.Principal{
		Kind: taubyte.KindUser, Name: fmt.Sprintf("token %q (%s)", r.Name, id), Verb: r.Verb, Until: r.Ends,
		Projects: r.Projects, AllProjects: r.All, Repositories: r.Repositories,
	}, nil
}

// tokens reads the tokens, or the one of an id.
func (s *Service) tokens(ctx context.Context, id string) (map[string]tokenRecord, error) {
	prefix := tokensPrefix
	if id != "" {
		prefix += "/" + id
	}
	all, revoked := map[string]tokenRecord{}, map[string]time.Time{}
	err := each(ctx, s.store, prefix, func(key string, raw json.RawMessage) {
		parts := strings.Split(strings.TrimPrefix(key, tokensPrefix+"/"), "/")
		if len(parts) != 3 {
			return
		}
		switch parts[1] {
		case "made":
			var r tokenRecord
			if json.Unmarshal(raw, &r) == nil && r.ID == parts[0] {
				all[r.ID] = r
			}
		case "revoked":
			// What can't be read revokes as well.
			var v tokenRevocation
			_ = json.Unmarshal(raw, &v)
			if v.At.IsZero() {
				v.At = time.Unix(0, 0)
			}
			if first, ok := revoked[parts[0]]; !ok || v.At.Before(first) {
				revoked[parts[0]] = v.At
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for id, at := range revoked {
		if r, ok := all[id]; ok {
			r.Revoked = at
			all[id] = r
		}
	}
	return all, nil
}

// tidyTokens forgets tokens that ended long ago, and returns how many there are. A
// revoked one is remembered until it would have ended: its record may arrive late.
func (s *Service) tidyTokens(ctx context.Context, now time.Time) (int, error) {
	all, err := s.tokens(ctx, "")
	if err != nil {
		return 0, err
	}
	for id, r := range all {
		if now.Before(r.Ends.Add(tokensKept)) {
			continue
		}
		var keys []ds.Key
		if err := each(ctx, s.store, tokensPrefix+"/"+id, func(key string, _ json.RawMessage) { keys = append(keys, ds.RawKey(key)) }); err != nil {
			return 0, err
		}
		for _, key := range keys {
			if err := s.store.Delete(ctx, key); err != nil {
				return 0, err
			}
		}
		delete(all, id)
	}
	return len(all), nil
}
