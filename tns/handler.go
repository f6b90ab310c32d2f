package tns

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/api"
)

// publishLimit bounds a part: a configuration of thousands of resources fits.
const publishLimit = 16 << 20

// handler serves the registry over HTTP. A branch is escaped as one element of the path.
func handler(s *Service) http.Handler {
	mux := api.New(nil)
	mux.Handle("GET /projects", api.Operation{
		Summary: "Lists the projects with what they run.",
		Query:   []api.Parameter{{Name: "find", Text: "The ID or the name of a project or of a repository: only what it finds."}},
		Rights:  api.Everybody(taubyte.Roles()...),
	}, api.Answer(func(r *http.Request) ([]Summary, error) {
		if q := r.URL.Query(); q.Has("find") {
			return s.Find(r.Context(), q.Get("find"))
		}
		return s.Projects(r.Context())
	}))
	mux.Handle("GET /watch", api.Operation{
		Summary: "Follows what branches run.",
		Text:    "What is there comes first, and then a line that says ready.",
		Query: []api.Parameter{
			{Name: "after", Text: "The token of the last line that was read: only what changed since."},
			{Name: "project", Text: "The ID of a project: only what is of it. Without one the token has to be good for everything."},
			{Name: "branch", Text: "A branch of the project: only it."},
		},
		Rights: api.Project(taubyte.VerbRead, taubyte.Roles()...),
	}, api.Follow(func(r *http.Request) (<-chan Change, error) {
		q := r.URL.Query()
		return s.WatchProject(r.Context(), taubyte.ProjectID(q.Get("project")), taubyte.Branch(q.Get("branch")), q.Get("after"))
	}))
	mux.Handle("POST /copies", api.Operation{
		Summary: "Has another node keep what was published.", Rights: api.Nodes(taubyte.RoleTNS).Guarded(),
	}, api.Take(4*publishLimit, s.keepCopy))
	s.handleHosts(mux)
	s.handleProjects(mux)
	return mux
}

func (s *Service) handleHosts(mux *api.Mux) {
	host := "The host name."
	owner := api.Texts{"host": host, "project": "The project's ID."}
	verifiers := api.Everything(taubyte.VerbAdminister, taubyte.RoleAuth, taubyte.RoleTNS)
	mux.Handle("GET /hosts/{host}", api.Operation{
		Summary: "Lists who claims a host name.", Path: api.Texts{"host": host}, Rights: api.Everything(taubyte.VerbRead, taubyte.Roles()...),
	}, api.Answer(func(r *http.Request) ([]Claim, error) {
		return s.Claims(r.Context(), r.PathValue("host"))
	}))
	mux.Handle("PUT /hosts/{host}/owners/{project}", api.Operation{
		Summary: "Records that a project showed that it owns a host name.", Path: owner, Rights: verifiers,
	}, api.Act(func(r *http.Request) error {
		return s.Verify(r.Context(), projectOf(r), r.PathValue("host"), true)
	}))
	mux.Handle("DELETE /hosts/{host}/owners/{project}", api.Operation{
		Summary: "Records that a project no longer owns a host name.", Path: owner, Rights: verifiers,
	}, api.Act(func(r *http.Request) error {
		return s.Verify(r.Context(), projectOf(r), r.PathValue("host"), false)
	}))
}

func (s *Service) handleProjects(mux *api.Mux) {
	project := api.Texts{"project": "The project's ID."}
	branch := api.Texts{"project": project["project"], "branch": "The branch, escaped as one element of the path."}
	mayRead, mayPublish := api.Project(taubyte.VerbRead, taubyte.Roles()...), api.Project(taubyte.VerbDeploy, publishers...)
	mux.Handle("DELETE /projects/{project}", api.Operation{
		Summary: "Takes all branches of a project off the air, and refuses what jobs of before publish.", Path: project,
		Rights: api.Project(taubyte.VerbAdminister, taubyte.RoleAuth),
	}, api.Act(func(r *http.Request) error {
		return s.RemoveProject(r.Context(), projectOf(r))
	}))
	mux.Handle("GET /projects/{project}/conflicts", api.Operation{
		Summary: "Lists the claims of a project that lead nowhere.", Path: project, Rights: mayRead,
	}, api.Answer(func(r *http.Request) ([]Claim, error) {
		return s.Conflicts(r.Context(), projectOf(r))
	}))
	mux.Handle("GET /projects/{project}/assets", api.Operation{
		Summary: "Lists the roots of all that a project's history is made of.", Path: project, Rights: mayRead,
	}, api.Answer(func(r *http.Request) ([]cid.Cid, error) {
		return s.Assets(r.Context(), projectOf(r))
	}))
	const at = "/projects/{project}/branches/{branch}"
	mux.Handle("GET "+at, api.Operation{
		Summary: "Returns what a branch runs.", Path: branch, Rights: mayRead,
	}, api.Answer(func(r *http.Request) (*Deployment, error) {
		return s.Current(r.Context(), projectOf(r), branchOf(r))
	}))
	mux.Handle("DELETE "+at, api.Operation{
		Summary: "Has a branch run nothing.", Path: branch,
		Rights: api.Project(taubyte.VerbDeploy, append([]taubyte.Role{taubyte.RoleAuth}, publishers...)...),
	}, api.Act(func(r *http.Request) error {
		return s.Remove(r.Context(), projectOf(r), branchOf(r))
	}))
	mux.Handle("POST "+at+"/parts", api.Operation{
		Summary: "Publishes what a repository gives to a branch.", Path: branch, Rights: mayPublish,
	}, api.Call(publishLimit, func(r *http.Request, part Part) (*Deployment, error) {
		return s.Publish(r.Context(), projectOf(r), branchOf(r), part)
	}))
	mux.Handle("GET "+at+"/history", api.Operation{
		Summary: "Lists what a branch has run.", Path: branch, Rights: mayRead,
	}, api.Answer(func(r *http.Request) ([]*Deployment, error) {
		return s.History(r.Context(), projectOf(r), branchOf(r))
	}))
	mux.Handle("GET "+at+"/diff", api.Operation{
		Summary: "Compares two deployments of a branch.", Path: branch,
		Query: []api.Parameter{
			{Name: "from", Text: "A deployment: its number, or a commit."}, {Name: "to", Text: "The other one."},
		},
		Rights: mayRead,
	}, api.Answer(func(r *http.Request) (*Diff, error) {
		q := r.URL.Query()
		return s.Diff(r.Context(), projectOf(r), branchOf(r), q.Get("from"), q.Get("to"))
	}))
	mux.Handle("POST "+at+"/rollback", api.Operation{
		Summary: "Has a branch run what it ran before.", Path: branch,
		Query:  []api.Parameter{{Name: "sequence", Text: "The number of that deployment.", Type: uint64(0), Required: true}},
		Rights: mayPublish,
	}, api.Answer(func(r *http.Request) (*Deployment, error) {
		sequence, err := strconv.ParseUint(r.URL.Query().Get("sequence"), 10, 64)
		if err != nil {
			err = fmt.Errorf("%w sequence: %w", taubyte.ErrInvalid, err)
			return nil, cmp.Or(taubyte.AllowNode(r.Context(), publishers...), err)
		}
		return s.Rollback(r.Context(), projectOf(r), branchOf(r), sequence)
	}))
}

// publishers are the roles of nodes that change what is run.
var publishers = []taubyte.Role{taubyte.RoleMonkey, taubyte.RoleTNS}

func projectOf(r *http.Request) taubyte.ProjectID { return taubyte.ProjectID(r.PathValue("project")) }
func branchOf(r *http.Request) taubyte.Branch     { return taubyte.Branch(r.PathValue("branch")) }

func branchPath(project taubyte.ProjectID, branch taubyte.Branch, rest string) string {
	return "/projects/" + url.PathEscape(string(project)) + "/branches/" + url.PathEscape(string(branch)) + rest
}
