package auth

import (
	"context"
	"fmt"
	"io"
	"strings"

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

func (k Kind) valid() bool {
	switch k {
	case KindProject, KindConfig, KindCode, KindWebsite, KindLibrary:
		return true
	}
	return false
}

// A Repository is a git repository that belongs to a project. It is the same on
// every node.
type Repository struct {
	ID       taubyte.RepositoryID `json:"id"` // "<provider>/<id there>"
	Project  taubyte.ProjectID    `json:"project"`
	Kind     Kind                 `json:"kind"`
	Provider string               `json:"provider"`
	Name     string               `json:"name"` // full name at the provider
}

// A Project is what repositories belong to.
type Project struct {
	ID   taubyte.ProjectID `json:"id"`
	Name string            `json:"name"`
}

// A Push is a change of a branch of a repository.
type Push struct {
	Repository taubyte.RepositoryID `json:"repository"`
	Branch     taubyte.Branch       `json:"branch"`
	Commit     taubyte.Commit       `json:"commit"` // empty where the branch was deleted
	// Delivery identifies the message that told of the push, where the provider
	// sends such: a message that comes twice is one push.
	Delivery string `json:"delivery,omitempty"`
}

// A Provider is a place where git repositories are. Its methods may be called
// concurrently; each returns when ctx ends.
type Provider interface {
	// Name is the provider's part of repository ids. It is constant, and unique
	// among the providers of a service.
	Name() string

	// Heads returns the branches of a repository and the commits that they are
	// at, all of them, as they are at some moment during the call. A repository
	// that is not there, or that the service may not read, is
	// taubyte.ErrNotFound; a provider that can't be asked, ErrUnavailable.
	Heads(ctx context.Context, name string) (map[taubyte.Branch]taubyte.Commit, error)

	// Source writes the tree of exactly that commit to w, as a tar stream of
	// regular files, folders and symbolic links, without git's own data. A commit
	// that is not there is taubyte.ErrNotFound, and then nothing was written.
	Source(ctx context.Context, name string, commit taubyte.Commit, w io.Writer) error
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
