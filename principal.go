package taubyte

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Principal is who asks: one value in the context of each call. It is made once, where
// the call comes in (a stream of another node, the HTTP API, git), and it is checked in
// the methods of the services, so that a local call, a remote one and the HTTP API obey
// one rule.
//
// The zero Principal may nothing.
type Principal struct {
	Kind PrincipalKind `json:"kind"`
	// Name is what people know it by: an account ("github/octo"), a token's name, a
	// node's name.
	Name string `json:"name,omitempty"`

	// Verb is the most that a user may do with its projects.
	Verb Verb `json:"verb,omitempty"`
	// Projects are those of a user; of a job and a function, the one that it belongs to.
	Projects []ProjectID `json:"projects,omitempty"`
	// AllProjects: a user's verb is good for every project, those to come included, and
	// for what belongs to no one project.
	AllProjects bool `json:"allProjects,omitempty"`
	// Repositories, where there are any, make a user a git credential: it opens these
	// repositories (Verb says how) and nothing else; where Projects are named, as long as
	// they are of these.
	Repositories []RepositoryID `json:"repositories,omitempty"`
	// Until is when a user's or a job's rights end. Zero is never.
	Until time.Time `json:"until,omitzero"`

	Branch      Branch        `json:"branch,omitempty"`      // of a job and a function
	Job         JobID         `json:"job,omitempty"`         // of a job
	Attempt     uint64        `json:"attempt,omitempty"`     // of a job: the fence of its lease
	Application ApplicationID `json:"application,omitempty"` // of a function, if it is of one
	Resource    ResourceID    `json:"resource,omitempty"`    // of a function

	// Node is the member whose stream the call came on: the principal itself where Kind
	// is KindNode, and otherwise the member that carried the call here. Of a call that
	// came in on this node it is zero.
	Node Membership `json:"-"`
}

// A PrincipalKind says what a principal is.
type PrincipalKind string

// The kinds of principals.
const (
	// KindAdministrator is the owner of this node, and the program that embeds a service.
	// It is one on this node only: to others its calls are the node's.
	KindAdministrator PrincipalKind = "administrator"
	// KindNode is a member of the network, which acts in its own name by its roles.
	KindNode PrincipalKind = "node"
	// KindUser is an account at a git provider, or a token.
	KindUser PrincipalKind = "user"
	// KindJob is a worker that holds the lease of a job, acting for that job. It reads its
	// project and does what AllowJob lets it: it can't roll back, cancel or push.
	KindJob PrincipalKind = "job"
	// KindFunction is a resource of a project that runs. It reaches what AllowFunction lets
	// it, and may nothing by a verb.
	KindFunction PrincipalKind = "function"
)

// A Verb is what may be done with a project. Each includes those before it.
type Verb string

// The verbs.
const (
	// VerbRead sees a project: its configuration, deployments, jobs and logs.
	VerbRead Verb = "read"
	// VerbDeploy pushes, builds, cancels and rolls back.
	VerbDeploy Verb = "deploy"
	// VerbAdminister changes what the project is: its repositories, secrets, domains,
	// tokens, and whether it is there.
	VerbAdminister Verb = "administer"
)

// Verbs returns the verbs, the least first.
func Verbs() []Verb { return []Verb{VerbRead, VerbDeploy, VerbAdminister} }

// ParseVerb returns the verb of that name, or an error that lists the verbs.
func ParseVerb(name string) (Verb, error) {
	v := Verb(strings.ToLower(strings.TrimSpace(name)))
	if slices.Contains(Verbs(), v) {
		return v, nil
	}
	return "", fmt.Errorf("%w: no verb %q (the verbs are %v)", ErrInvalid, name, Verbs())
}

// Includes reports whether whoever may v may other as well. What is no verb includes
// nothing and is included in nothing.
func (v Verb) Includes(other Verb) bool {
	most, least := slices.Index(Verbs(), v), slices.Index(Verbs(), other)
	return least >= 0 && most >= least
}

// Administrator returns the principal that may everything on this node.
func Administrator() Principal { return Principal{Kind: KindAdministrator, Name: "administrator"} }

// NodePrincipal returns a member of the network as a principal.
func NodePrincipal(m Membership) Principal {
	name := m.Name
	if name == "" {
		name = m.Peer.String()
	}
	return Principal{Kind: KindNode, Name: name, Node: m}
}

type principalKey struct{}

// WithPrincipal returns a context whose calls are p's. Where calls of others come in it
// is set once, from what they have shown; code that a call has reached already sets
// another only to give it fewer rights, or for work in the service's own name (see
// AsService).
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// PrincipalOf returns who asks. A context that says nothing is of the program that
// embeds the service, which is the administrator.
func PrincipalOf(ctx context.Context) Principal {
	if p, ok := ctx.Value(principalKey{}).(Principal); ok {
		return p
	}
	return Administrator()
}

// AsService returns a context for what a service does in its own name, once it has
// checked the call that led to it: a push is its user's, but the job record that it
// makes is patrick's. To other nodes such calls are this node's.
func AsService(ctx context.Context) context.Context {
	return WithPrincipal(ctx, Administrator())
}

// Allow checks the principal of ctx: a user or a job by May, a node by its
// roles, of which it must hold one of those that are named. A call that another member
// carried here has to pass both: a member can hand on no more than it may itself, and
// what it says of whom it speaks for can only make its rights fewer. The administrator
// passes. The error wraps ErrForbidden.
func Allow(ctx context.Context, verb Verb, project ProjectID, roles ...Role) error {
	p := PrincipalOf(ctx)
	if err := AllowNode(ctx, roles...); err != nil || p.Kind == KindNode && p.Node.Peer != "" {
		return err
	}
	return p.May(verb, project)
}

// AllowJob is Allow for what a job does with what it has built. A job may do it for itself:
// in its project, on its branch, under its own id. Others take the verb deploy or a role,
// as in Allow. An empty branch or job is one that the call does not name.
func AllowJob(ctx context.Context, project ProjectID, branch Branch, job JobID, roles ...Role) error {
	p := PrincipalOf(ctx)
	if p.Kind != KindJob {
		return Allow(ctx, VerbDeploy, project, roles...)
	}
	if err := AllowNode(ctx, roles...); err != nil {
		return err
	}
	if err := p.May(VerbRead, project); err != nil {
		return err
	}
	if branch != "" && branch != p.Branch || job != "" && job != p.Job {
		return fmt.Errorf("%w: %s is for branch %q of project %s, and for no other job", ErrForbidden, p, p.Branch, project)
	}
	return nil
}

// AllowFunction is Allow for what a branch has while it runs: its databases, storages,
// content and services. A function may reach those of its own branch, and of no
// other. Others take the verb deploy or a role, as in Allow.
func AllowFunction(ctx context.Context, project ProjectID, branch Branch, roles ...Role) error {
	p := PrincipalOf(ctx)
	if p.Kind != KindFunction {
		return Allow(ctx, VerbDeploy, project, roles...)
	}
	if err := AllowNode(ctx, roles...); err != nil {
		return err
	}
	if project == "" || branch == "" || !slices.Contains(p.Projects, project) || branch != p.Branch {
		return fmt.Errorf("%w: %s is of branch %q of %s, and reaches nothing of others", ErrForbidden, p, p.Branch, p.extent())
	}
	return nil
}

// AllowNode is the part of Allow that is known before the project is: of a call that came
// from another member, that it holds one of the roles. Whatever did not passes.
func AllowNode(ctx context.Context, roles ...Role) error {
	if p := PrincipalOf(ctx); p.Node.Peer != "" {
		return p.HasRole(roles...)
	}
	return nil
}

// HasRole returns nil for the administrator and for what came from a member that holds
// one of the roles, and otherwise an error that wraps ErrForbidden.
func (p Principal) HasRole(roles ...Role) error {
	switch {
	case p.Kind == KindAdministrator, p.Node.Has(roles...):
		return nil
	case len(roles) == 0:
		return fmt.Errorf("%w: this takes one of the kinds administrator and user, and no node", ErrForbidden)
	}
	return fmt.Errorf("%w: this takes one of the roles %v, and %s holds %v", ErrForbidden, roles, p, p.Node.Roles)
}

// May returns nil where the principal may do so with the project, and otherwise an error
// that wraps ErrForbidden and says why. The empty project stands for what belongs to
// none: the nodes, the network, the list of everything. A node may nothing by a verb.
func (p Principal) May(verb Verb, project ProjectID) error {
	if p.Kind == KindAdministrator {
		return nil
	}
	what := "project " + string(project)
	if project == "" {
		what = "the network"
	}
	switch {
	case !p.Until.IsZero() && !time.Now().Before(p.Until):
		return fmt.Errorf("%w: what %s may ended at %s", ErrForbidden, p, p.Until.UTC().Format(time.RFC3339))
	case len(p.Repositories) > 0:
		return fmt.Errorf("%w: %s opens git repositories and nothing else", ErrForbidden, p)
	case p.Kind == KindUser && !p.AllProjects && (project == "" || !slices.Contains(p.Projects, project)),
		(p.Kind == KindJob || p.Kind == KindFunction) && (project == "" || !slices.Contains(p.Projects, project)):
		return fmt.Errorf("%w: %s may not %s %s: it is for %s", ErrForbidden, p, verb, what, p.extent())
	case p.Kind == KindUser && p.Verb.Includes(verb),
		p.Kind == KindJob && VerbRead.Includes(verb):
		return nil
	}
	return fmt.Errorf("%w: %s may not %s %s: it may %s", ErrForbidden, p, verb, what, p.most())
}

// MayGit is May for a git repository of a project: write to it, or read it. The empty
// project is a repository of none yet.
func (p Principal) MayGit(repository RepositoryID, project ProjectID, write bool) error {
	verb := VerbRead
	if write {
		verb = VerbDeploy
	}
	if p.Kind != KindUser || len(p.Repositories) == 0 {
		return p.May(verb, project)
	}
	switch {
	case !p.Until.IsZero() && !time.Now().Before(p.Until):
		return fmt.Errorf("%w: what %s may ended at %s", ErrForbidden, p, p.Until.UTC().Format(time.RFC3339))
	case !slices.Contains(p.Repositories, repository) || len(p.Projects) > 0 && !slices.Contains(p.Projects, project):
		return fmt.Errorf("%w: %s does not open the repository %s", ErrForbidden, p, repository)
	case !p.Verb.Includes(verb):
		return fmt.Errorf("%w: %s may read the repository %s and not push to it", ErrForbidden, p, repository)
	}
	return nil
}

// extent says in words what a principal's rights are good for.
func (p Principal) extent() string {
	if len(p.Projects) == 0 {
		return "no project"
	}
	names := make([]string, 0, len(p.Projects))
	for _, id := range p.Projects {
		names = append(names, string(id))
	}
	return "project " + strings.Join(names, ", ")
}

func (p Principal) most() string {
	switch {
	case p.Kind == KindUser && p.Verb != "":
		return string(p.Verb)
	case p.Kind == KindJob:
		return string(VerbRead)
	}
	return "nothing"
}

// String names the principal for people. It holds nothing secret.
func (p Principal) String() string {
	switch p.Kind {
	case KindAdministrator:
		return "the administrator"
	case KindNode:
		return "node " + p.Name
	case KindUser:
		return p.Name
	case KindJob:
		return "job " + string(p.Job)
	case KindFunction:
		return "function " + string(p.Resource)
	}
	return "nobody"
}
