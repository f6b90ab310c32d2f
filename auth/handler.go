package auth

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/api"
	"github.com/taubyte/taubyte/internal/rpc"
)

// handler serves auth over HTTP. Certificates go to gateways and to nobody else, and
// arbiters are asked by nodes of role auth.
func handler(s *Service) http.Handler {
	mux := api.New(nil)
	s.handleProjects(mux)
	s.handleRepositories(mux)
	s.handleCertificates(mux)
	s.handleDomains(mux)
	s.handleMembers(mux)
	s.handleTokens(mux)
	s.handleEnvironment(mux)
	return mux
}

var (
	operators = []taubyte.Role{taubyte.RoleAuth}
	builders  = []taubyte.Role{taubyte.RoleAuth, taubyte.RolePatrick}

	projectID    = api.Texts{"id": "The project's ID."}
	repositoryID = api.Texts{"id": "The repository's ID, escaped as one element of the path."}
	ofProject    = []api.Parameter{{Name: "project", Text: "The ID of a project: only what is of it. Without one the token has to be good for everything."}}
	byCredential = []api.Parameter{{Name: CredentialHeader, Text: "The caller's own token at the git provider, which shows that it administers the repository there."}}
)

func (s *Service) handleProjects(mux *api.Mux) {
	mux.Handle("GET /projects", api.Operation{
		Summary: "Lists the projects.", Rights: api.Everybody(builders...),
	}, api.Answer(func(r *http.Request) ([]Project, error) {
		return s.Projects(r.Context())
	}))
	mux.Handle("POST /projects", api.Operation{
		Summary: "Creates a project.", Text: "One without an ID is given one, which takes the verb administer on everything. An ID that is there already is answered with the project, unchanged.",
		Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Call(1<<16, func(r *http.Request, p Project) (Project, error) {
		return s.CreateProject(r.Context(), p)
	}))
	mux.Handle("GET /projects/{id}", api.Operation{
		Summary: "Returns a project.", Path: projectID, Rights: api.Project(taubyte.VerbRead, builders...),
	}, api.Answer(func(r *http.Request) (Project, error) {
		return s.Project(r.Context(), projectOf(r))
	}))
	mux.Handle("DELETE /projects/{id}", api.Operation{
		Summary: "Deletes a project, and stops what it serves.", Path: projectID, Header: byCredential,
		Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Act(func(r *http.Request) error {
		return s.DeleteProject(r.Context(), projectOf(r), r.Header.Get(CredentialHeader))
	}))
	mux.Handle("POST /imports", api.Operation{
		Summary: "Imports a project from a git provider.",
		Rights:  api.Project(taubyte.VerbAdminister, operators...),
	}, api.Call(1<<16, func(r *http.Request, in Import) (Imported, error) {
		return s.ImportProject(r.Context(), in)
	}))
}

func (s *Service) handleRepositories(mux *api.Mux) {
	mux.Handle("GET /repositories", api.Operation{
		Summary: "Lists the repositories.", Query: ofProject, Rights: api.Project(taubyte.VerbRead, builders...),
	}, api.Answer(func(r *http.Request) ([]Repository, error) {
		return s.Repositories(r.Context(), taubyte.ProjectID(r.URL.Query().Get("project")))
	}))
	mux.Handle("POST /repositories", api.Operation{
		Summary: "Registers a repository of a project.", Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Call(1<<16, func(r *http.Request, repo Repository) (Repository, error) {
		return s.Register(r.Context(), repo)
	}))
	mux.Handle("POST /additions", api.Operation{
		Summary: "Adds a repository of a git provider to a project.", Text: "It is given a deploy key and a webhook there.",
		Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Call(1<<16, func(r *http.Request, a Addition) (Repository, error) {
		return s.AddRepository(r.Context(), a)
	}))
	mux.Handle("GET /repositories/{id}", api.Operation{
		Summary: "Returns a repository.", Path: repositoryID, Rights: api.Project(taubyte.VerbRead, builders...),
	}, api.Answer(func(r *http.Request) (Repository, error) {
		return s.Repository(r.Context(), repositoryOf(r))
	}))
	mux.Handle("DELETE /repositories/{id}", api.Operation{
		Summary: "Removes a repository from its project.", Path: repositoryID, Header: byCredential,
		Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Act(func(r *http.Request) error {
		return s.RemoveRepository(r.Context(), repositoryOf(r), r.Header.Get(CredentialHeader))
	}))
	mux.Handle("GET /repositories/{id}/heads", api.Operation{
		Summary: "Lists the branches of a repository, each with its newest commit.", Path: repositoryID,
		Rights: api.Project(taubyte.VerbRead, builders...),
	}, api.Answer(func(r *http.Request) (map[taubyte.Branch]taubyte.Commit, error) {
		return s.Heads(r.Context(), repositoryOf(r))
	}))
	mux.Handle("GET /repositories/{id}/commits/{commit}", api.Operation{
		Summary: "Returns the tree of a commit.",
		Path:    api.Texts{"id": repositoryID["id"], "commit": "The commit's hash."},
		Rights:  api.Project(taubyte.VerbRead, taubyte.RolePatrick),
	}, api.Serve(s.serveSource).Bytes("application/x-tar", "The tree. An answer that breaks off is not whole."))
	mux.Handle("POST /repositories/{id}/webhook", api.Operation{
		Summary: "Gives the webhook of a repository another secret.", Path: repositoryID, Header: byCredential,
		Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Act(func(r *http.Request) error {
		return s.RotateWebhook(r.Context(), repositoryOf(r), r.Header.Get(CredentialHeader))
	}))
	mux.Handle("POST /repositories/{id}/key", api.Operation{
		Summary: "Gives a repository another deploy key.", Path: repositoryID, Header: byCredential,
		Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Act(func(r *http.Request) error {
		return s.RotateDeployKey(r.Context(), repositoryOf(r), r.Header.Get(CredentialHeader))
	}))
	mux.Handle("POST /repositories/{id}/events", api.Operation{
		Summary: "Checks and reads what a git provider sent to a webhook.", Path: repositoryID,
		Rights: api.Nodes(builders...),
	}, api.Call(2*MaxEvent, func(r *http.Request, in sentEvent) (Event, error) {
		return s.Event(r.Context(), repositoryOf(r), in.Header, in.Body)
	}))
	mux.Handle("POST /repositories/{id}/statuses", api.Operation{
		Summary: "Sets the status of a commit at the git provider.", Path: repositoryID,
		Rights: api.Nodes(builders...),
	}, api.Take(1<<14, func(r *http.Request, in sentStatus) error {
		return s.SetStatus(r.Context(), repositoryOf(r), in.Commit, in.Status)
	}))
}

func (s *Service) handleCertificates(mux *api.Mux) {
	mux.Handle("GET /certificates", api.Operation{
		Summary: "Lists the certificates, without their keys.", Rights: api.Everything(taubyte.VerbRead, operators...),
	}, api.Answer(func(r *http.Request) ([]CertificateInfo, error) {
		return s.Certificates(r.Context())
	}))
	mux.Handle("POST /certificates", api.Operation{
		Summary: "Imports a certificate with its key, as PEM.", Text: "The answer is the host names that it is for.",
		Rights: api.Everything(taubyte.VerbAdminister, operators...),
	}, api.Call(1<<20, func(r *http.Request, c Certificate) ([]string, error) {
		return s.ImportCertificate(r.Context(), c.Cert, c.Key)
	}))
	mux.Handle("DELETE /certificates/{id}", api.Operation{
		Summary: "Removes a certificate.", Path: api.Texts{"id": "Its ID, or a host name that it is for."},
		Rights: api.Everything(taubyte.VerbAdminister, operators...),
	}, api.Act(func(r *http.Request) error {
		return s.RemoveCertificate(r.Context(), r.PathValue("id"))
	}))
	mux.Handle("POST /certificates/inline", api.Operation{
		Summary: "Keeps a certificate of a project's configuration.", Text: "The answer is what stands for it in the deployment.",
		Rights: api.Project(taubyte.VerbDeploy, taubyte.RoleMonkey, taubyte.RoleTNS),
	}, api.Call(1<<20, func(r *http.Request, i InlineCertificate) (string, error) {
		return s.KeepInlineCertificate(r.Context(), i)
	}))
	mux.Handle("GET /certificates/watch", api.Operation{
		Summary: "Follows the certificates: all, then what changes.", Rights: api.Nodes(taubyte.RoleGateway).Guarded(),
	}, watchedCertificates(s.WatchCertificates))
	mux.Handle("GET /certificates/inline/watch", api.Operation{
		Summary: "Follows the certificates of projects' configurations: all, then what changes.", Rights: api.Nodes(taubyte.RoleGateway).Guarded(),
	}, watchedCertificates(s.WatchInlineCertificates))
}

func (s *Service) handleDomains(mux *api.Mux) {
	one := api.Texts{"host": "The host name.", "project": "The ID of the project that claims it."}
	mux.Handle("GET /domains", api.Operation{
		Summary: "Lists the domains that projects claim.", Query: ofProject, Rights: api.Project(taubyte.VerbRead, operators...),
	}, api.Answer(func(r *http.Request) ([]Domain, error) {
		return s.Domains(r.Context(), taubyte.ProjectID(r.URL.Query().Get("project")))
	}))
	mux.Handle("POST /domains", api.Operation{
		Summary: "Claims a domain for a project.", Text: "It takes the fields project and host. The answer says which TXT record shows that it is the project's.",
		Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Call(1<<12, func(r *http.Request, d Domain) (Domain, error) {
		return s.ClaimDomain(r.Context(), d.Project, d.Host)
	}))
	mux.Handle("POST /domains/{host}/projects/{project}/check", api.Operation{
		Summary: "Asks DNS now whether a domain is the project's.", Path: one, Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Answer(func(r *http.Request) (Domain, error) {
		return s.CheckDomain(r.Context(), taubyte.ProjectID(r.PathValue("project")), r.PathValue("host"))
	}))
	mux.Handle("DELETE /domains/{host}/projects/{project}", api.Operation{
		Summary: "Drops a project's claim to a domain.", Path: one, Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Act(func(r *http.Request) error {
		return s.DropDomain(r.Context(), taubyte.ProjectID(r.PathValue("project")), r.PathValue("host"))
	}))
}

func (s *Service) handleMembers(mux *api.Mux) {
	member := api.Texts{"id": "The member's name, or its peer ID."}
	mux.Handle("POST /membership", api.Operation{
		Summary: "Renews the membership of the node that calls.", Rights: api.Nodes(taubyte.Roles()...).Guarded(),
	}, api.Answer(func(r *http.Request) ([]byte, error) {
		m, _ := rpc.Caller(r.Context())
		return s.Renew(r.Context(), m)
	}))
	mux.Handle("GET /members", api.Operation{
		Summary: "Lists the members of the network.", Rights: api.Everything(taubyte.VerbAdminister, operators...),
	}, api.Answer(func(r *http.Request) ([]Member, error) {
		return s.Members(r.Context())
	}))
	mux.Handle("POST /members", api.Operation{
		Summary: "Invites a node into the network.", Rights: api.Everything(taubyte.VerbAdminister, operators...),
	}, api.Call(1<<12, func(r *http.Request, a addition) (Invitation, error) {
		return s.AddMember(r.Context(), a.Name, a.Roles, a.Valid)
	}))
	mux.Handle("DELETE /members/{id}", api.Operation{
		Summary: "Revokes a member.", Path: member, Rights: api.Everything(taubyte.VerbAdminister, operators...),
	}, api.Act(func(r *http.Request) error {
		return s.RevokeMember(r.Context(), r.PathValue("id"))
	}))
	mux.Handle("POST /members/{id}/renewal", api.Operation{
		Summary: "Signs the membership of a member anew.", Path: member, Rights: api.Everything(taubyte.VerbAdminister, operators...),
	}, api.Answer(func(r *http.Request) ([]byte, error) {
		return s.RenewMember(r.Context(), r.PathValue("id"))
	}))
	mux.Handle("POST /members/invitations", api.Operation{
		Summary: "Asks an arbiter to record an invitation.", Rights: api.Nodes(operators...).Guarded(),
	}, api.Take(1<<12, func(r *http.Request, i invitation) error {
		s.membersMu.Lock()
		defer s.membersMu.Unlock()
		return s.invite(r.Context(), i)
	}))
	mux.Handle("POST /members/admissions", api.Operation{
		Summary: "Asks an arbiter whether an invitation may be used.", Rights: api.Nodes(operators...).Guarded(),
	}, api.Take(1<<12, func(r *http.Request, u usedInvitation) error {
		s.membersMu.Lock()
		defer s.membersMu.Unlock()
		return s.use(r.Context(), u)
	}))
	mux.Handle("POST /network/rotation", api.Operation{
		Summary: "Takes one step of the replacement of a key of the network.", Rights: api.Everything(taubyte.VerbAdminister, operators...),
	}, api.Call(1<<10, func(r *http.Request, in rotation) (Rotation, error) {
		return s.RotateKey(r.Context(), in.Kind, in.Force)
	}))
}

func (s *Service) handleTokens(mux *api.Mux) {
	mux.Handle("GET /tokens", api.Operation{
		Summary: "Lists the tokens, without their secrets.", Rights: api.Everybody(operators...),
	}, api.Answer(func(r *http.Request) ([]Token, error) {
		return s.Tokens(r.Context())
	}))
	mux.Handle("POST /tokens", api.Operation{
		Summary: "Makes a token.", Text: "Its secret is in the answer and nowhere else. It takes the verb administer on all that the token is for.",
		Rights: api.Everybody(operators...),
	}, api.Call(1<<16, func(r *http.Request, t Token) (NewToken, error) {
		return s.CreateToken(r.Context(), t)
	}))
	mux.Handle("DELETE /tokens/{id}", api.Operation{
		Summary: "Revokes a token.", Path: api.Texts{"id": "The token's ID."}, Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Act(func(r *http.Request) error {
		return s.RevokeToken(r.Context(), r.PathValue("id"))
	}))
	mux.Handle("POST /tokens/principal", api.Operation{
		Summary: "Tells a node whose a token is.", Rights: api.Nodes(taubyte.Roles()...).Guarded(),
	}, api.Call(1<<10, func(r *http.Request, in shownToken) (taubyte.Principal, error) {
		return s.Authenticate(r.Context(), in.Secret)
	}))
}

// CredentialHeader is the header of the API that carries the caller's token at a git
// provider, for requests that have no body.
const CredentialHeader = "Taubyte-Provider-Credential"

// sentEvent is the body of POST /repositories/{id}/events.
type sentEvent struct {
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// sentStatus is the body of POST /repositories/{id}/statuses.
type sentStatus struct {
	Commit taubyte.Commit `json:"commit"`
	Status Status         `json:"status"`
}

// shownToken is the body of POST /tokens/principal.
type shownToken struct {
	Secret string `json:"secret"`
}

// rotation is the body of POST /network/rotation.
type rotation struct {
	Kind  taubyte.KeyKind `json:"kind"`
	Force bool            `json:"force,omitempty"`
}

// addition is the body of POST /members.
type addition struct {
	Name  string         `json:"name"`
	Roles []taubyte.Role `json:"roles"`
	Valid time.Duration  `json:"valid,omitempty"` // nanoseconds
}

func memberPath(who, rest string) string { return "/members/" + url.PathEscape(who) + rest }

func repositoryOf(r *http.Request) taubyte.RepositoryID {
	return taubyte.RepositoryID(r.PathValue("id"))
}

func projectOf(r *http.Request) taubyte.ProjectID { return taubyte.ProjectID(r.PathValue("id")) }

func projectPath(id taubyte.ProjectID) string { return "/projects/" + url.PathEscape(string(id)) }

func repositoryPath(id taubyte.RepositoryID, rest string) string {
	return "/repositories/" + url.PathEscape(string(id)) + rest
}

func (s *Service) serveSource(w http.ResponseWriter, r *http.Request, codes rpc.Codes) {
	out := &begun{ResponseWriter: w}
	err := s.Source(r.Context(), repositoryOf(r), taubyte.Commit(r.PathValue("commit")), out)
	switch {
	case err == nil:
	case out.yes:
		panic(http.ErrAbortHandler) // so that half a tree does not look like one
	default:
		rpc.WriteError(w, err, codes)
	}
}

// begun knows whether the answer has.
type begun struct {
	http.ResponseWriter
	yes bool
}

func (b *begun) Write(p []byte) (int, error) {
	if !b.yes {
		b.yes = true
		b.Header().Set("Content-Type", "application/x-tar")
	}
	return b.ResponseWriter.Write(p)
}

func watchedCertificates(watch func(context.Context) (<-chan CertificateChange, error)) api.Endpoint {
	return api.Follow(func(r *http.Request) (<-chan CertificateChange, error) { return watch(r.Context()) })
}
