package auth

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
)

// Kind is what a repository holds of a project.
type Kind string

// The kinds of repositories. A project is either one repository of kind Project,
// with everything in it, or one of Config, one of Code, and one for each website
// and library.
const (
	KindProject Kind = "project"
	KindConfig  Kind = "config"
	KindCode    Kind = "code"
	KindWebsite Kind = "website"
	KindLibrary Kind = "library"
)

func (k Kind) check() error {
	switch k {
	case KindProject, KindConfig, KindCode, KindWebsite, KindLibrary:
		return nil
	}
	return fmt.Errorf("%w kind of repository %q: it is project, config, code, website or library", taubyte.ErrInvalid, k)
}

// A Repository is a git repository that belongs to a project. It is the same on
// every node.
type Repository struct {
	ID       taubyte.RepositoryID `json:"id"` // "<provider>/<id there>"
	Project  taubyte.ProjectID    `json:"project"`
	Kind     Kind                 `json:"kind"`
	Provider string               `json:"provider"`
	Name     string               `json:"name"` // full name at the provider
	// Since is when it became the project's, as auth says: of one that left and came back
	// it is another.
	Since time.Time `json:"since,omitzero"`
}

// A Project is what repositories belong to.
type Project struct {
	ID   taubyte.ProjectID `json:"id"`
	Name string            `json:"name"`
}

// A Provider is a place where git repositories are. Its methods may be called
// concurrently; each returns when ctx ends.
//
// That much is every provider. What more one can do it says by the interfaces that it
// implements: [RepositoryProvider], [EventProvider], [StatusProvider], [AccountProvider].
// Where one is missing, what needs it is done without: a repository gets no webhook and
// is polled, a job has no status at the provider.
//
// What a provider answers becomes the errors of package taubyte: what is not there, or
// is hidden from the credential, is ErrNotFound; what the credential may not do, or a
// credential that is not accepted, ErrForbidden; a provider that can't be reached, fails,
// or wants fewer calls, ErrUnavailable.
type Provider interface {
	// Name is the provider's part of repository ids. It is constant, and unique
	// among the providers of a service.
	Name() string

	// Heads returns the branches of a repository and the commits that they are
	// at, all of them, as they are at some moment during the call. A list that may be
	// short is an error: a branch that is missing from it is taken as removed.
	Heads(ctx context.Context, r Remote) (map[taubyte.Branch]taubyte.Commit, error)

	// Source writes the tree of exactly that commit to w, as a tar stream of
	// regular files, folders and symbolic links, without git's own data. A commit
	// that is not there is taubyte.ErrNotFound, and then nothing was written.
	Source(ctx context.Context, r Remote, commit taubyte.Commit, w io.Writer) error
}

// A Remote is a repository as a provider is asked for it.
type Remote struct {
	// ID is the provider's own id, which a repository keeps when it is renamed or moved.
	ID string
	// Name is the full name that the repository was last known by.
	Name string
	// Key is the private half of the repository's deploy key (OpenSSH, PEM). Without one
	// its source is read with a credential.
	Key []byte
	// Credential is a token of the caller at the provider. Without one the provider uses
	// its own.
	Credential string
}

// A RemoteRepository is what a provider knows of a repository.
type RemoteRepository struct {
	ID            string
	Name          string // full name
	DefaultBranch taubyte.Branch
	// Administered: the credential that asked may add deploy keys and webhooks.
	Administered bool
}

// A RepositoryProvider looks after repositories, each known by its id. Adding what is there and
// removing what is not there is no error.
type RepositoryProvider interface {
	// Repository finds a repository by its id, or where that is empty by its name.
	Repository(ctx context.Context, r Remote) (RemoteRepository, error)

	// AddKey lets a public key (in the format of authorized_keys) read the repository.
	AddKey(ctx context.Context, r Remote, title, public string) error
	RemoveKey(ctx context.Context, r Remote, public string) error

	// SetWebhook has the provider send the repository's events to a URL, signed with the
	// secret: it makes the webhook of that URL, or changes the secret of the one that is
	// there.
	SetWebhook(ctx context.Context, r Remote, url, secret string) error
	RemoveWebhook(ctx context.Context, r Remote, url string) error
}

// A StatusProvider shows what became of a commit beside it.
type StatusProvider interface {
	SetStatus(ctx context.Context, r Remote, commit taubyte.Commit, s Status) error
}

// A Status is what became of a commit.
type Status struct {
	State StatusState `json:"state"`
	// Context tells statuses of one commit apart: of the same context the last counts.
	Context     string `json:"context"`
	Description string `json:"description,omitempty"` // one line; cut at 140 characters
	URL         string `json:"url,omitempty"`         // where more is said
}

// A StatusState is the state of a Status.
type StatusState string

// The states of a commit.
const (
	StatusPending StatusState = "pending"
	StatusSuccess StatusState = "success"
	StatusFailure StatusState = "failure" // of what was built
	StatusError   StatusState = "error"   // of whoever builds
)

func (s Status) check() error {
	switch s.State {
	case StatusPending, StatusSuccess, StatusFailure, StatusError:
	default:
		return fmt.Errorf("%w state of a commit %q", taubyte.ErrInvalid, s.State)
	}
	if s.Context == "" || len(s.Context) > 100 {
		return fmt.Errorf("%w context of a status %q", taubyte.ErrInvalid, s.Context)
	}
	return nil
}

// An AccountProvider knows whose a credential is.
type AccountProvider interface {
	// Account returns the account of a credential. One that is not accepted is
	// ErrForbidden.
	Account(ctx context.Context, credential string) (Account, error)
}

// An Account is a person or an organisation at a provider.
type Account struct {
	ID   string `json:"id"` // stays when the account is renamed
	Name string `json:"name"`
	// Scopes are what the credential may do, in the provider's words, and nil where the
	// provider does not say.
	Scopes []string `json:"scopes,omitempty"`
}

// NewRepositoryID returns the id of a repository at a provider.
func NewRepositoryID(provider, id string) taubyte.RepositoryID {
	return taubyte.RepositoryID(provider + "/" + id)
}

// provider returns the provider of a repository's id.
func providerOf(id taubyte.RepositoryID) (string, error) {
	p, rest, ok := strings.Cut(string(id), "/")
	if !ok || p == "" || rest == "" {
		return "", fmt.Errorf("%w repository id %q: it is not <provider>/<id>", taubyte.ErrInvalid, id)
	}
	return p, nil
}
