package tns

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// publishLimit bounds a part: a configuration of thousands of resources fits.
const publishLimit = 16 << 20

// handler serves the registry over HTTP:
//
//	GET    /projects                                   ?find=ID or name of a project or repository
//	GET    /watch?after=TOKEN&project=P&branch=B       changes, a line of JSON each
//	GET    /hosts/{host}                               who claims a host name
//	PUT    /hosts/{host}/owners/{project}              the project showed that it owns the name
//	DELETE /hosts/{host}/owners/{project}              it no longer does
//	GET    /projects/{project}/conflicts               its claims that lead nowhere
//	GET    /projects/{project}/assets                  the roots of all that its history is made of
//	GET    /projects/{project}/branches/{branch}       what the branch runs
//	DELETE /projects/{project}/branches/{branch}
//	POST   /projects/{project}/branches/{branch}/parts a Part to publish
//	GET    /projects/{project}/branches/{branch}/history
//	GET    /projects/{project}/branches/{branch}/diff?from=REVISION&to=REVISION
//	POST   /projects/{project}/branches/{branch}/rollback?sequence=N
//
// The branch is escaped as one element of the path. Who may is said by the methods.
func handler(s *Service) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /projects", func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Has("find") {
			all, err := s.Find(r.Context(), q.Get("find"))
			rpc.Reply(w, all, err, nil)
			return
		}
		all, err := s.Projects(r.Context())
		rpc.Reply(w, all, err, nil)
	})
	mux.HandleFunc("GET /hosts/{host}", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.Claims(r.Context(), r.PathValue("host"))
		rpc.Reply(w, all, err, nil)
	})
	for method, verified := range map[string]bool{"PUT": true, "DELETE": false} {
		mux.HandleFunc(method+" /hosts/{host}/owners/{project}", func(w http.ResponseWriter, r *http.Request) {
			rpc.Reply(w, nil, s.Verify(r.Context(), projectOf(r), r.PathValue("host"), verified), nil)
		})
	}
	mux.HandleFunc("GET /projects/{project}/conflicts", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.Conflicts(r.Context(), projectOf(r))
		rpc.Reply(w, all, err, nil)
	})
	mux.HandleFunc("GET /projects/{project}/assets", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.Assets(r.Context(), projectOf(r))
		rpc.Reply(w, all, err, nil)
	})
	mux.HandleFunc("GET /watch", s.serveWatch)
	mux.HandleFunc("POST /copies", rpc.Only(s.serveCopies, taubyte.RoleTNS))
	const branch = "/projects/{project}/branches/{branch}"
	mux.HandleFunc("GET "+branch, func(w http.ResponseWriter, r *http.Request) {
		d, err := s.Current(r.Context(), projectOf(r), branchOf(r))
		rpc.Reply(w, d, err, nil)
	})
	mux.HandleFunc("GET "+branch+"/history", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.History(r.Context(), projectOf(r), branchOf(r))
		rpc.Reply(w, all, err, nil)
	})
	mux.HandleFunc("GET "+branch+"/diff", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		d, err := s.Diff(r.Context(), projectOf(r), branchOf(r), q.Get("from"), q.Get("to"))
		rpc.Reply(w, d, err, nil)
	})
	mux.HandleFunc("DELETE "+branch, func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, s.Remove(r.Context(), projectOf(r), branchOf(r)), nil)
	})
	mux.HandleFunc("POST "+branch+"/parts", func(w http.ResponseWriter, r *http.Request) {
		var part Part
		if err := rpc.Decode(w, r, publishLimit, &part); err != nil {
			rpc.WriteError(w, err, nil)
			return
		}
		d, err := s.Publish(r.Context(), projectOf(r), branchOf(r), part)
		rpc.Reply(w, d, err, nil)
	})
	mux.HandleFunc("POST "+branch+"/rollback", func(w http.ResponseWriter, r *http.Request) {
		sequence, err := strconv.ParseUint(r.URL.Query().Get("sequence"), 10, 64)
		if err != nil {
			err = fmt.Errorf("%w sequence: %w", taubyte.ErrInvalid, err)
			rpc.WriteError(w, cmp.Or(taubyte.AllowNode(r.Context(), publishers...), err), nil)
			return
		}
		d, err := s.Rollback(r.Context(), projectOf(r), branchOf(r), sequence)
		rpc.Reply(w, d, err, nil)
	})
	return mux
}

// publishers are the roles of nodes that change what is run.
var publishers = []taubyte.Role{taubyte.RoleMonkey, taubyte.RoleTNS}

func projectOf(r *http.Request) taubyte.ProjectID { return taubyte.ProjectID(r.PathValue("project")) }
func branchOf(r *http.Request) taubyte.Branch     { return taubyte.Branch(r.PathValue("branch")) }

func branchPath(project taubyte.ProjectID, branch taubyte.Branch, rest string) string {
	return "/projects/" + url.PathEscape(string(project)) + "/branches/" + url.PathEscape(string(branch)) + rest
}

func (s *Service) serveWatch(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	q := r.URL.Query()
	changes, err := s.WatchProject(ctx, taubyte.ProjectID(q.Get("project")), taubyte.Branch(q.Get("branch")), q.Get("after"))
	if err != nil {
		rpc.WriteError(w, err, nil)
		return
	}
	stream, err := rpc.NewStream(w)
	if err != nil {
		return
	}
	_ = rpc.Follow(stream, changes, rpc.Beat)
}
