package auth

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/internal/secrets"
)

// The secrets of a repository at a provider. Each is made by one call, and changed by what
// rotates it:
//
//	repositories/<id, escaped>/deploy-key           the private half, OpenSSH in PEM
//	repositories/<id, escaped>/webhook              what events are signed with
//	repositories/<id, escaped>/…-next, …-previous   while one takes another's place
//
// The provider keeps the rest: a deploy key is found there by its public half, and a
// webhook by its URL.
func secretName(id taubyte.RepositoryID, what string) string {
	return "repositories/" + url.QueryEscape(string(id)) + "/" + what
}

const (
	deployKey     = "deploy-key"
	webhookSecret = "webhook"
	// previousSecret is the one before, which is good while a provider may still send
	// events that it signed.
	previousSecret = "webhook-previous"
	// While a deploy key takes another's place, nextKey is the new one and previousKey the
	// one to be removed.
	nextKey     = "deploy-key-next"
	previousKey = "deploy-key-previous"
)

// previousFor is how long events may be signed with the secret before.
const previousFor = 24 * time.Hour

// An Addition asks for a repository to become a project's.
type Addition struct {
	// Provider and Repository name it: by its id there, or by its full name.
	Provider   string `json:"provider"`
	Repository string `json:"repository"`

	Project taubyte.ProjectID `json:"project"`
	Kind    Kind              `json:"kind"`
	// Credential is the caller's own token at the provider. Without one it is the
	// provider's that must administer the repository, which takes the verb administer on
	// everything.
	Credential string `json:"credential,omitempty"`
}

// AddRepository makes a repository at a provider part of a project: the credential must
// administer it there. It is given a deploy key that may read and, where the service has a
// URL for webhooks, a webhook. The same again mends what is missing of those.
//
// For the administrator, nodes of role auth, and users that may administer the project.
// ErrForbidden: the credential does not administer the repository. ErrConflict: it is another
// project's. ErrUnavailable: the provider does not answer; then it may be part of the project
// without key or webhook, until AddRepository is called again.
func (s *Service) AddRepository(ctx context.Context, a Addition) (Repository, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, a.Project, taubyte.RoleAuth); err != nil {
		return Repository{}, err
	}
	if err := a.Kind.check(); err != nil {
		return Repository{}, err
	}
	found, remote, p, err := s.administered(ctx, a)
	if err != nil {
		return Repository{}, err
	}
	return s.connect(ctx, a, found, remote, p)
}

// noProvider says which there are.
func (s *Service) noProvider(name string) error {
	return fmt.Errorf("%w: no git provider %q on this node: it has %s", taubyte.ErrNotFound, name,
		cmp.Or(strings.Join(slices.Sorted(maps.Keys(s.providers)), ", "), "none"))
}

// administered looks a repository up and checks that the credential administers it, by
// what the provider has said within the last minute.
func (s *Service) administered(ctx context.Context, a Addition) (RemoteRepository, Remote, RepositoryProvider, error) {
	if a.Credential == "" { // the caller would see by the provider's what he may not
		if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth); err != nil {
			return RemoteRepository{}, Remote{}, nil, fmt.Errorf("without a credential of your own at %s: %w", a.Provider, err)
		}
	}
	p, ok := s.providers[a.Provider]
	if !ok {
		return RemoteRepository{}, Remote{}, nil, s.noProvider(a.Provider)
	}
	rp, ok := p.(RepositoryProvider)
	if !ok {
		return RemoteRepository{}, Remote{}, nil, fmt.Errorf("%w: repositories of %s are added by a push to them", taubyte.ErrInvalid, a.Provider)
	}
	remote := Remote{Credential: a.Credential}
	if strings.Contains(a.Repository, "/") {
		remote.Name = a.Repository
	} else {
		remote.ID = a.Repository
	}
	found, err := s.rights.repository(ctx, a.Provider, rp, a.Repository, remote)
	if err != nil {
		return found, remote, rp, err
	}
	if !found.Administered {
		return found, remote, rp, fmt.Errorf("%w: the credential does not administer the repository %s of %s", taubyte.ErrForbidden, found.Name, a.Provider)
	}
	remote.ID, remote.Name = found.ID, found.Name
	return found, remote, rp, nil
}

// connect registers a repository that the caller administers, and gives it its key and
// webhook.
func (s *Service) connect(ctx context.Context, a Addition, found RemoteRepository, remote Remote, p RepositoryProvider) (Repository, error) {
	r, err := s.Register(ctx, Repository{
		ID: NewRepositoryID(a.Provider, found.ID), Project: a.Project, Kind: a.Kind, Name: found.Name,
	})
	if err != nil {
		return r, err
	}
	private, public, err := s.deployKey(ctx, r.ID)
	if err != nil {
		return r, err
	}
	if private == nil {
		if private, public, err = newDeployKey(); err != nil {
			return r, err
		}
		if _, err := s.secrets.Put(ctx, callerOf(ctx), secretName(r.ID, deployKey), private); err != nil {
			return r, err
		}
	}
	if err := p.AddKey(ctx, remote, "taubyte "+string(a.Project), public); err != nil {
		return r, err
	}
	if s.webhooks == "" {
		return r, nil
	}
	secret, err := s.ownSecret(ctx, secretName(r.ID, webhookSecret))
	if errors.Is(err, taubyte.ErrNotFound) {
		secret = []byte(newSecret())
		_, err = s.secrets.Put(ctx, callerOf(ctx), secretName(r.ID, webhookSecret), secret)
	}
	if err != nil {
		return r, err
	}
	return r, p.SetWebhook(ctx, remote, s.webhookURL(r.ID), string(secret))
}

// RotateWebhook changes the secret of a repository's webhook. Events that are signed with
// the one before are good for another day.
//
// For the administrator, nodes of role auth, and users that may administer the project.
func (s *Service) RotateWebhook(ctx context.Context, id taubyte.RepositoryID, credential string) error {
	r, remote, p, err := s.managed(ctx, id, credential)
	if err != nil {
		return err
	}
	if s.webhooks == "" {
		return fmt.Errorf("%w: this service has no URL for webhooks", taubyte.ErrUnavailable)
	}
	before, err := s.ownSecret(ctx, secretName(r.ID, webhookSecret))
	if err != nil {
		return err
	}
	next := newSecret()
	// Whichever of the two the provider has when this fails, its events are good.
	if _, err := s.secrets.Put(ctx, callerOf(ctx), secretName(r.ID, previousSecret), before); err != nil {
		return err
	}
	if _, err := s.secrets.Put(ctx, callerOf(ctx), secretName(r.ID, webhookSecret), []byte(next)); err != nil {
		return err
	}
	return p.SetWebhook(ctx, remote, s.webhookURL(r.ID), next)
}

// RemoveRepository takes a repository out of its project, and its deploy key and webhook
// from the provider, by a credential there or the provider's own. Where that may not, or
// the repository is gone, they are left.
//
// For the administrator, nodes of role auth, and users that may administer the project.
// ErrUnavailable: the provider does not answer, and nothing was removed.
func (s *Service) RemoveRepository(ctx context.Context, id taubyte.RepositoryID, credential string) error {
	r, remote, p, err := s.managed(ctx, id, credential)
	if err != nil {
		return err
	}
	if p != nil {
		var err error
		for _, what := range []string{deployKey, nextKey, previousKey} {
			var public string
			if err == nil {
				_, public, err = s.keyOf(ctx, id, what)
			}
			if err == nil && public != "" {
				err = p.RemoveKey(ctx, remote, public)
			}
		}
		if err == nil && s.webhooks != "" {
			err = p.RemoveWebhook(ctx, remote, s.webhookURL(id))
		}
		if errors.Is(err, taubyte.ErrForbidden) || errors.Is(err, taubyte.ErrNotFound) {
			s.log.Warn("deploy key and webhook left at the provider", "repository", id, "name", r.Name, "err", err)
			err = nil
		}
		if err != nil {
			return err
		}
	}
	if err := s.Unregister(ctx, id); err != nil {
		return err
	}
	for _, what := range []string{deployKey, nextKey, previousKey, webhookSecret, previousSecret} {
		if err := s.secrets.Delete(ctx, callerOf(ctx), secretName(id, what)); err != nil && !errors.Is(err, taubyte.ErrNotFound) {
			return err
		}
	}
	return nil
}

// managed returns a registered repository that the caller may administer. The provider is
// nil where it looks after none.
func (s *Service) managed(ctx context.Context, id taubyte.RepositoryID, credential string) (Repository, Remote, RepositoryProvider, error) {
	r, err := s.Repository(taubyte.AsService(ctx), id)
	if err == nil || errors.Is(err, taubyte.ErrNotFound) {
		// Who may not administer the project learns nothing of it.
		if denied := taubyte.Allow(ctx, taubyte.VerbAdminister, r.Project, taubyte.RoleAuth); denied != nil {
			return r, Remote{}, nil, denied
		}
	}
	if err != nil {
		return r, Remote{}, nil, err
	}
	remote := remoteOf(r)
	remote.Credential = credential
	p, _ := s.providers[r.Provider].(RepositoryProvider)
	return r, remote, p, nil
}

// remoteOf names a repository to its provider.
func remoteOf(r Repository) Remote {
	return Remote{ID: strings.TrimPrefix(string(r.ID), r.Provider+"/"), Name: r.Name}
}

// remote is remoteOf with the deploy key, for reading.
func (s *Service) remote(ctx context.Context, r Repository) (Remote, error) {
	remote := remoteOf(r)
	if _, ok := s.providers[r.Provider].(RepositoryProvider); !ok {
		return remote, nil
	}
	private, _, err := s.deployKey(ctx, r.ID)
	remote.Key = private
	return remote, err
}

// deployKey returns both halves of a repository's deploy key, nil where it has none.
func (s *Service) deployKey(ctx context.Context, id taubyte.RepositoryID) (private []byte, public string, err error) {
	return s.keyOf(ctx, id, deployKey)
}

func (s *Service) keyOf(ctx context.Context, id taubyte.RepositoryID, what string) (private []byte, public string, err error) {
	private, err = s.ownSecret(ctx, secretName(id, what))
	if errors.Is(err, taubyte.ErrNotFound) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return nil, "", fmt.Errorf("%w deploy key of %s: %w", taubyte.ErrDamaged, id, err)
	}
	return private, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), nil
}

// ownSecret opens a secret for the service itself.
func (s *Service) ownSecret(ctx context.Context, name string) ([]byte, error) {
	value, _, err := s.secrets.Get(ctx, secrets.Caller{Who: "auth"}, name)
	return value, err
}

func newDeployKey() (private []byte, public string, err error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	block, err := ssh.MarshalPrivateKey(key, "taubyte")
	if err != nil {
		return nil, "", err
	}
	sshKey, err := ssh.NewPublicKey(pub)
	if err != nil {
		return nil, "", err
	}
	return pem.EncodeToMemory(block), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sshKey))), nil
}

func newSecret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	return hex.EncodeToString(raw)
}

// webhookURL is where a provider sends the events of a repository:
// <base>/<provider>/<id there>.
func (s *Service) webhookURL(id taubyte.RepositoryID) string {
	provider, rest, _ := strings.Cut(string(id), "/")
	return s.webhooks + "/" + url.PathEscape(provider) + "/" + url.PathEscape(rest)
}

// WebhookPath is where gateways take what providers send, below it to
// <provider>/<id there>, on every host.
const WebhookPath = "/.well-known/taubyte/webhooks/"

// Event reads what a provider sent to the webhook of a repository: the headers and the body
// as it came. An event that is not signed with the repository's secret, and any of a
// repository that has none, is ErrForbidden: the answer does not tell which.
//
// For the administrator and nodes of the roles auth and patrick.
func (s *Service) Event(ctx context.Context, id taubyte.RepositoryID, header http.Header, body []byte) (Event, error) {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleAuth, taubyte.RolePatrick); err != nil {
		return Event{}, err
	}
	provider, err := providerOf(id)
	if err != nil {
		return Event{}, errNotSigned
	}
	p, ok := s.providers[provider].(EventProvider)
	if !ok {
		return Event{}, errNotSigned
	}
	// Always two, so that comparing takes as long for a repository that has none.
	secrets := []string{s.decoy, s.decoy}
	for i, what := range []string{webhookSecret, previousSecret} {
		// Not in the audit log, which is of secrets that are given out: everybody may send
		// deliveries, as many as he likes.
		value, info, err := s.secrets.Read(ctx, secretName(id, what))
		switch {
		case errors.Is(err, taubyte.ErrNotFound):
		case err != nil:
			return Event{}, err
		case what == webhookSecret || time.Since(info.Made) <= previousFor:
			secrets[i] = string(value)
		}
	}
	e, err := p.Event(header, body, secrets...)
	switch {
	case errors.Is(err, taubyte.ErrForbidden):
		return Event{}, errNotSigned
	case err != nil:
		return Event{}, err
	case e.Repository != "" && e.Repository != id:
		return Event{}, errNotSigned
	}
	e.Repository = id
	return e, nil
}

var errNotSigned = fmt.Errorf("%w: no webhook here has signed this", taubyte.ErrForbidden)

// SetStatus shows what became of a commit at the repository's provider. Where that shows
// nothing of the kind, nothing is done.
//
// For the administrator and nodes of the roles auth and patrick.
func (s *Service) SetStatus(ctx context.Context, id taubyte.RepositoryID, commit taubyte.Commit, status Status) error {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleAuth, taubyte.RolePatrick); err != nil {
		return err
	}
	if err := status.check(); err != nil {
		return err
	}
	r, err := s.Repository(taubyte.AsService(ctx), id)
	if err != nil {
		return err
	}
	p, ok := s.providers[r.Provider].(StatusProvider)
	if !ok {
		return nil
	}
	return p.SetStatus(ctx, remoteOf(r), commit, status)
}

// Account returns whose a credential at a provider is, and what it may.
//
// For the administrator and nodes of role auth.
func (s *Service) Account(ctx context.Context, provider, credential string) (Account, error) {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleAuth); err != nil {
		return Account{}, err
	}
	p, ok := s.providers[provider].(AccountProvider)
	if !ok {
		return Account{}, fmt.Errorf("%w: no git provider %q with accounts here", taubyte.ErrNotFound, provider)
	}
	return p.Account(ctx, credential)
}
