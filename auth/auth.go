package auth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multihash"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/auth/internal/secrets"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/envelope"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/tns"
)

// Protocol is auth's protocol between nodes, and the name under which its host
// provides it.
const Protocol protocol.ID = environment.Protocol

// Option changes what New makes.
type Option func(*options)

type options struct {
	providers []Provider
	authority *taubyte.Authority
	settings  Settings
	resolver  Resolver
	verifier  Verifier
	now       func() time.Time
	webhooks  string
	deployed  Deployments
	running   Registry
	log       *slog.Logger
}

// WithProvider adds a git provider. There is none by default.
func WithProvider(p Provider) Option {
	return func(o *options) { o.providers = append(o.providers, p) }
}

// WithWebhooks sets the URL that providers send events to; below it each repository has a
// path of its own, <provider>/<id there>. There is none by default, and then repositories
// get no webhooks.
func WithWebhooks(url string) Option {
	return func(o *options) { o.webhooks = strings.TrimRight(url, "/") }
}

// WithDeployments sets what is told that a project was deleted. The default is tns, wherever
// on the network it runs.
func WithDeployments(d Deployments) Option { return func(o *options) { o.deployed = d } }

// WithAuthority lets the service add, renew and revoke members with the network's root
// key. Without it, other auth nodes do.
func WithAuthority(a *taubyte.Authority) Option { return func(o *options) { o.authority = a } }

// WithLogger sets where the service logs, its audit of accesses to secrets
// included. The default is slog.Default().
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.log = l } }

// Service is auth on one node. It is safe for concurrent use.
type Service struct {
	host             taubyte.Host
	store            *crdt.Store
	key              *envelope.Key
	providers        map[string]Provider
	authority        *taubyte.Authority
	log              *slog.Logger
	secrets          *secrets.Store
	certs            *certificates
	domains          *domains
	settings         Settings
	webhooks         string
	deployments      Deployments
	closeDeployments func() error // of the default
	running          Registry
	closeRunning     func() error // of the default
	rpc              *rpc.Client  // to other auth nodes
	membersMu        sync.Mutex   // what this node decides as an arbiter, it decides one by one

	server     *rpc.Server
	withdraw   func()
	closeJoins func()
	life       context.Context // ends with Close
	stop       context.CancelFunc
	mu         sync.Mutex // wg does not grow after life's end
	wg         sync.WaitGroup
	once       sync.Once
	ended      error
}

// New starts auth on a node. ctx bounds the start only.
func New(ctx context.Context, host taubyte.Host, store taubyte.Datastore, opts ...Option) (*Service, error) {
	o := options{log: slog.Default()}
	for _, opt := range opts {
		opt(&o)
	}
	s := &Service{host: host, providers: map[string]Provider{}, authority: o.authority, settings: o.settings, webhooks: o.webhooks, log: o.log, rpc: rpc.NewClient(host, Protocol, nil)}
	for _, p := range o.providers {
		if _, taken := s.providers[p.Name()]; taken {
			return nil, fmt.Errorf("%w auth: two providers are named %s", taubyte.ErrInvalid, p.Name())
		}
		s.providers[p.Name()] = p
	}
	s.deployments, s.closeDeployments = o.deployed, func() error { return nil }
	if s.deployments == nil {
		client := tns.NewClient(host)
		s.deployments, s.closeDeployments = client, client.Close
	}
	s.running, s.closeRunning = o.running, func() error { return nil }
	if s.running == nil {
		client := tns.NewClient(host)
		s.running, s.closeRunning = client, client.Close
	}
	s.life, s.stop = context.WithCancel(context.Background())
	if err := s.start(ctx, store, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Service) start(ctx context.Context, store taubyte.Datastore, o options) (err error) {
	if s.key, err = ownKey(ctx, store); err != nil {
		return err
	}
	s.store, err = crdt.Open(ctx, s.host, store, "auth", crdt.WithWriters(taubyte.RoleAuth), crdt.WithLogger(s.log))
	if err != nil {
		return err
	}
	s.secrets, err = secrets.Open(ctx, secrets.Config{
		Store: s.store, Local: store, Self: s.host.ID(), Key: s.key, Peers: s.authNodes, Revoked: s.isRevoked, Log: s.log,
	})
	if err != nil {
		return err
	}
	if s.certs, err = startCertificates(ctx, s.life, s); err != nil {
		return err
	}
	if err := s.startDomains(ctx, store, o); err != nil {
		return err
	}
	if err := s.tendMembers(s.life); err != nil {
		return err
	}
	if s.closeJoins, err = s.serveJoins(); err != nil {
		return err
	}
	if s.server, err = rpc.Serve(s.host, Protocol, s.Handler()); err != nil {
		return err
	}
	s.withdraw, err = s.host.Provide(Protocol, s)
	return err
}

// Close ends the service. It may be called twice.
func (s *Service) Close() error {
	s.once.Do(func() {
		if s.withdraw != nil {
			s.withdraw()
		}
		if s.closeJoins != nil {
			s.closeJoins()
		}
		s.mu.Lock()
		s.stop()
		s.mu.Unlock()
		var errs []error
		if s.server != nil {
			errs = append(errs, s.server.Close())
		}
		s.wg.Wait()
		s.rpc.Close()
		if s.domains != nil {
			errs = append(errs, s.domains.close())
		}
		errs = append(errs, s.closeDeployments(), s.closeRunning())
		if s.secrets != nil {
			errs = append(errs, s.secrets.Close())
		}
		if s.store != nil {
			errs = append(errs, s.store.Close())
		}
		s.ended = errors.Join(errs...)
	})
	return s.ended
}

// ownKey returns the node's key for secrets, made at the first start. It stays in
// the node's own store.
func ownKey(ctx context.Context, store taubyte.Datastore) (*envelope.Key, error) {
	at := ds.NewKey("/auth/key")
	secret, err := store.Get(ctx, at)
	if err == nil {
		return envelope.ParseKey(string(secret))
	}
	if !errors.Is(err, ds.ErrNotFound) {
		return nil, fmt.Errorf("reading the node's key: %w", err)
	}
	k, err := envelope.NewKey()
	if err != nil {
		return nil, err
	}
	return k, store.Put(ctx, at, []byte(k.Secret()))
}

// The replicated keys:
//
//	/projects/<id>                        a Project
//	/repositories/<id, escaped>/<project> a registration
//	/recipients, /secrets                 see package auth/internal/secrets
type registration struct {
	Repository
	Since time.Time `json:"since"`
}

func projectKey(id taubyte.ProjectID) ds.Key { return ds.RawKey("/projects/" + string(id)) }

func repositoryPrefix(id taubyte.RepositoryID) string {
	return "/repositories/" + url.QueryEscape(string(id))
}

func checkProjectID(id taubyte.ProjectID) error {
	if id == "" || len(id) > 100 || strings.ContainsAny(string(id), "/ ") {
		return fmt.Errorf("%w project id %q", taubyte.ErrInvalid, id)
	}
	return nil
}

// CreateProject makes a project known. Without an id it is given a new one. The same again
// changes nothing; another name renames it.
func (s *Service) CreateProject(ctx context.Context, p Project) (Project, error) {
	if p.ID == "" {
		random := make([]byte, 32)
		_, _ = rand.Read(random) // never fails
		hash, err := multihash.Sum(random, multihash.SHA2_256, -1)
		if err != nil {
			return p, fmt.Errorf("making a project id: %w", err)
		}
		p.ID = taubyte.ProjectID(hash.B58String())
	}
	if err := checkProjectID(p.ID); err != nil {
		return p, err
	}
	if have, err := s.Project(ctx, p.ID); err == nil && have == p {
		return p, nil
	}
	return p, s.put(ctx, projectKey(p.ID), p)
}

// Project returns a project.
func (s *Service) Project(ctx context.Context, id taubyte.ProjectID) (p Project, err error) {
	if err := checkProjectID(id); err != nil {
		return p, err
	}
	raw, err := s.store.Get(ctx, projectKey(id))
	if errors.Is(err, ds.ErrNotFound) {
		return p, fmt.Errorf("%w: project %s", taubyte.ErrNotFound, id)
	}
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(raw, &p)
}

// Projects lists the projects, by id.
func (s *Service) Projects(ctx context.Context) ([]Project, error) {
	all := []Project{}
	err := each(ctx, s.store, "/projects", func(_ string, p Project) { all = append(all, p) })
	slices.SortFunc(all, func(a, b Project) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all, err
}

// RemoveProject forgets a project, the registrations of its repositories and its secrets. What
// it has deployed is tns's to remove.
func (s *Service) RemoveProject(ctx context.Context, id taubyte.ProjectID) error {
	repos, err := s.Repositories(ctx, id)
	if err != nil {
		return err
	}
	for _, r := range repos {
		if err := s.Unregister(ctx, r.ID); err != nil {
			return err
		}
	}
	if err := s.removeVariables(ctx, id); err != nil {
		return err
	}
	return s.store.Delete(ctx, projectKey(id))
}

// Register makes a repository part of a project. The same again changes nothing; a
// repository of another project is ErrConflict.
func (s *Service) Register(ctx context.Context, r Repository) (Repository, error) {
	provider, err := providerOf(r.ID)
	if err != nil {
		return r, err
	}
	r.Provider = provider
	if _, ok := s.providers[provider]; !ok {
		return r, fmt.Errorf("%w: no git provider %q here", taubyte.ErrNotFound, provider)
	}
	if !r.Kind.valid() {
		return r, fmt.Errorf("%w kind of repository %q", taubyte.ErrInvalid, r.Kind)
	}
	if r.Name == "" {
		r.Name = strings.TrimPrefix(string(r.ID), provider+"/")
	}
	if _, err := s.Project(ctx, r.Project); err != nil {
		return r, err
	}
	have, err := s.Repository(ctx, r.ID)
	switch {
	case err == nil && have.Project != r.Project:
		return r, fmt.Errorf("%w: repository %s belongs to project %s", taubyte.ErrConflict, r.ID, have.Project)
	case err == nil && have == r:
		return r, nil
	case err != nil && !errors.Is(err, taubyte.ErrNotFound):
		return r, err
	}
	key := ds.RawKey(repositoryPrefix(r.ID) + "/" + string(r.Project))
	return r, s.put(ctx, key, registration{r, time.Now().UTC()})
}

// Repository returns a repository that belongs to a project.
func (s *Service) Repository(ctx context.Context, id taubyte.RepositoryID) (Repository, error) {
	var best *registration
	err := each(ctx, s.store, repositoryPrefix(id), func(_ string, r registration) {
		if best == nil || r.earlier(*best) {
			best = &r
		}
	})
	if err != nil {
		return Repository{}, err
	}
	if best == nil {
		return Repository{}, fmt.Errorf("%w: no project has the repository %s", taubyte.ErrNotFound, id)
	}
	return best.Repository, nil
}

// earlier orders two registrations of one repository.
func (r registration) earlier(o registration) bool {
	if !r.Since.Equal(o.Since) {
		return r.Since.Before(o.Since)
	}
	return r.Project < o.Project
}

// Repositories lists the repositories of a project, or of all where id is empty.
func (s *Service) Repositories(ctx context.Context, id taubyte.ProjectID) ([]Repository, error) {
	best := map[taubyte.RepositoryID]registration{}
	err := each(ctx, s.store, "/repositories", func(_ string, r registration) {
		if have, ok := best[r.ID]; !ok || r.earlier(have) {
			best[r.ID] = r
		}
	})
	all := []Repository{}
	for _, r := range best {
		if id == "" || r.Project == id {
			all = append(all, r.Repository)
		}
	}
	slices.SortFunc(all, func(a, b Repository) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all, err
}

// Unregister takes a repository out of its project.
func (s *Service) Unregister(ctx context.Context, id taubyte.RepositoryID) error {
	r, err := s.Repository(ctx, id)
	if err != nil {
		return err
	}
	return s.store.Delete(ctx, ds.RawKey(repositoryPrefix(id)+"/"+string(r.Project)))
}

// Heads returns the branches of a registered repository.
func (s *Service) Heads(ctx context.Context, id taubyte.RepositoryID) (map[taubyte.Branch]taubyte.Commit, error) {
	r, p, err := s.provided(ctx, id)
	if err != nil {
		return nil, err
	}
	remote, err := s.remote(ctx, r)
	if err != nil {
		return nil, err
	}
	return p.Heads(ctx, remote)
}

// Source writes the tree of a commit of a registered repository as a tar stream.
func (s *Service) Source(ctx context.Context, id taubyte.RepositoryID, commit taubyte.Commit, w io.Writer) error {
	r, p, err := s.provided(ctx, id)
	if err != nil {
		return err
	}
	remote, err := s.remote(ctx, r)
	if err != nil {
		return err
	}
	return p.Source(ctx, remote, commit, w)
}

func (s *Service) provided(ctx context.Context, id taubyte.RepositoryID) (Repository, Provider, error) {
	r, err := s.Repository(ctx, id)
	if err != nil {
		return r, nil, err
	}
	p, ok := s.providers[r.Provider]
	if !ok {
		return r, nil, fmt.Errorf("%w: the git provider %s is not on this node", taubyte.ErrUnavailable, r.Provider)
	}
	return r, p, nil
}

func (s *Service) put(ctx context.Context, key ds.Key, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.store.Put(ctx, key, raw)
}

// each decodes the values under a prefix. What can't be decoded is skipped: a
// later version may have written it.
func each[T any](ctx context.Context, store *crdt.Store, prefix string, do func(key string, v T)) error {
	results, err := store.Query(ctx, query.Query{Prefix: prefix})
	if err != nil {
		return err
	}
	defer results.Close()
	for r := range results.Next() {
		if r.Error != nil {
			return r.Error
		}
		var v T
		if json.Unmarshal(r.Value, &v) == nil {
			do(r.Key, v)
		}
	}
	return ctx.Err()
}

// Handler is auth's API.
func (s *Service) Handler() http.Handler { return handler(s) }
