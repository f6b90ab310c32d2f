package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/protocol"

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
	host        taubyte.Host
	store       *crdt.Store
	key         *envelope.Key
	providers   map[string]Provider
	authority   *taubyte.Authority
	log         *slog.Logger
	secrets     *secrets.Store
	certs       *certificates
	inline      *inline
	domains     *domains
	rights      rights // of credentials at providers
	settings    Settings
	webhooks    string
	decoy       string // a secret that nobody has: see Event
	deployments Deployments
	running     Registry
	tns         *tns.Client // of what has no other; nil where all have
	rpc         *rpc.Client // to other auth nodes
	membersMu   sync.Mutex  // what this node decides as an arbiter, it decides one by one

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
	s := &Service{host: host, providers: map[string]Provider{}, authority: o.authority, settings: o.settings, webhooks: o.webhooks, decoy: newSecret(), log: o.log, rpc: rpc.NewClient(host, Protocol, nil)}
	for _, p := range o.providers {
		if _, taken := s.providers[p.Name()]; taken {
			return nil, fmt.Errorf("%w auth: two providers are named %s", taubyte.ErrInvalid, p.Name())
		}
		s.providers[p.Name()] = p
	}
	if o.deployed == nil || o.running == nil || o.verifier == nil {
		s.tns = tns.NewClient(host)
	}
	if o.deployed == nil {
		o.deployed = s.tns
	}
	if o.running == nil {
		o.running = s.tns
	}
	if o.verifier == nil {
		o.verifier = s.tns
	}
	s.deployments, s.running = o.deployed, o.running
	if s.rights.now = o.now; s.rights.now == nil {
		s.rights.now = time.Now
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
	if err := s.tidyRegistrations(ctx); err != nil {
		return err
	}
	if err := s.startCertificates(ctx); err != nil {
		return err
	}
	s.inline = startInline(s.life, s)
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
		if s.tns != nil {
			errs = append(errs, s.tns.Close())
		}
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
//	/projects/<id>                             a Project
//	/repositories/<id, escaped>/<project>/<peer> and those beside it: see repositories.go
//	/tokens/<id>/…                             see tokens.go
//	/recipients, /secrets                      see package auth/internal/secrets

func projectKey(id taubyte.ProjectID) ds.Key { return ds.RawKey("/projects/" + string(id)) }

func checkProjectID(id taubyte.ProjectID) error {
	if id == "" || len(id) > 100 || strings.ContainsAny(string(id), "/ ") {
		return fmt.Errorf("%w project id %q", taubyte.ErrInvalid, id)
	}
	return nil
}

// Heads returns the branches of a registered repository. It takes the verb read on its
// project, or a node of the roles auth or patrick.
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

// Source writes the tree of a commit of a registered repository as a tar stream. It
// takes the verb read on its project, or a node of role patrick.
func (s *Service) Source(ctx context.Context, id taubyte.RepositoryID, commit taubyte.Commit, w io.Writer) error {
	if err := taubyte.AllowNode(ctx, taubyte.RolePatrick); err != nil {
		return err
	}
	r, p, err := s.provided(ctx, id)
	if err == nil {
		err = taubyte.Allow(ctx, taubyte.VerbRead, r.Project, taubyte.RolePatrick)
	}
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
