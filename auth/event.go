package auth

import (
	"net/http"

	"github.com/taubyte/taubyte"
)

// A Push is a change of a branch of a repository.
type Push struct {
	Repository taubyte.RepositoryID `json:"repository"`
	Branch     taubyte.Branch       `json:"branch"`
	Commit     taubyte.Commit       `json:"commit"` // empty where the branch was deleted
	// Delivery identifies the message that told of the push, where the provider
	// sends such: a message that comes twice is one push.
	Delivery string `json:"delivery,omitempty"`
}

// An EventProvider reads the events that a provider sends to a webhook.
type EventProvider interface {
	// Event checks a message and returns what it says. The body is as it came, and is
	// signed with one of the secrets (two are good while a secret is being changed);
	// signatures are compared in constant time. A message that none of them signed is
	// ErrForbidden, and nothing of it has been looked at. One that can't be understood is
	// ErrInvalid.
	Event(header http.Header, body []byte, secrets ...string) (Event, error)
}

// MaxEvent bounds the body of an event, in bytes. It is the limit of GitHub.
const MaxEvent = 25 << 20

// An Event is something that happened at a provider. Which fields it has its kind says.
type Event struct {
	Kind EventKind `json:"kind"`
	// Type is the provider's own word for the event.
	Type string `json:"type"`
	// Delivery identifies the message: one that is sent again has the same.
	Delivery   string               `json:"delivery"`
	Repository taubyte.RepositoryID `json:"repository"`
	Name       string               `json:"name"` // full name of the repository, at the time

	// Branch is the one that was pushed, created or deleted; of a pull request the one
	// that it is to be merged into.
	Branch taubyte.Branch `json:"branch,omitempty"`
	// Commit is what the branch is at after a push, and empty where a push deleted it; of
	// a pull request the newest that it proposes.
	Commit taubyte.Commit `json:"commit,omitempty"`

	PullRequest *PullRequest `json:"pullRequest,omitempty"`
}

// An EventKind says what happened.
type EventKind string

// The kinds of events. A provider may tell of a new branch as a push, as the creation of
// a branch, or as both.
const (
	EventPush          EventKind = "push"
	EventPing          EventKind = "ping" // of a new webhook
	EventBranchCreated EventKind = "branch-created"
	EventBranchDeleted EventKind = "branch-deleted"
	EventPullRequest   EventKind = "pull-request"
	// EventOther is signed and well formed, and nothing that a cloud acts on: tags, issues,
	// stars.
	EventOther EventKind = "other"
)

// Push returns what a push says. Other events, and pushes of tags, are none.
func (e Event) Push() (Push, bool) {
	if e.Kind != EventPush {
		return Push{}, false
	}
	return Push{Repository: e.Repository, Branch: e.Branch, Commit: e.Commit, Delivery: e.Delivery}, true
}

// A PullRequest is a proposal to merge a branch into another.
type PullRequest struct {
	Number int    `json:"number"`
	Action string `json:"action"` // "opened", "synchronize", "closed" …
	Open   bool   `json:"open"`
	// From is the repository that has the proposed branch: another one where the pull
	// request is of a fork, and empty where the fork was deleted. Who may propose a fork's
	// commit is everybody.
	From   taubyte.RepositoryID `json:"from,omitempty"`
	Branch taubyte.Branch       `json:"branch"` // there
}
