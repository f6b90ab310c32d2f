package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/auth/internal/secrets"
	"github.com/taubyte/taubyte/internal/api"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// Registry says what a branch runs: a tns.Service or a tns.Client.
type Registry interface {
	tns.Watcher
	Current(ctx context.Context, project taubyte.ProjectID, branch taubyte.Branch) (*tns.Deployment, error)
}

// WithRegistry sets what says which branches run and which hosts are theirs: nodes of role
// substrate are given the environments of those alone, and gateways their certificates.
// The default is a tns.Client.
func WithRegistry(r Registry) Option { return func(o *options) { o.running = r } }

// SetVariable sets a variable or a secret of a project. What runs sees it within seconds,
// without a build.
//
// For the administrator, nodes of role auth, and users that may administer the project;
// a plain variable may be set by those who may deploy it. ErrInvalid, ErrTooLarge: see
// package environment. ErrNotFound: there is no such project.
func (s *Service) SetVariable(ctx context.Context, v environment.Variable) (environment.Variable, error) {
	if err := taubyte.Allow(ctx, changing(v.Kind), v.Project, taubyte.RoleAuth); err != nil {
		return v, err
	}
	if err := v.Check(); err != nil {
		return v, err
	}
	if _, err := s.Project(ctx, v.Project); err != nil {
		return v, err
	}
	// The limits are a courtesy: of two nodes that are asked at once each sees its own.
	count, together := 1, len(v.Name)+len(v.Value)
	err := s.eachVariable(ctx, v.Project, func(have environment.Variable, value []byte, _ secrets.Info) {
		if have.Key() != v.Key() {
			count++
			together += len(have.Name) + len(value)
		}
	})
	switch {
	case err != nil:
		return v, err
	case count > environment.MaxCount:
		return v, fmt.Errorf("%w: project %s has %d variables, the most is %d", taubyte.ErrTooLarge, v.Project, count-1, environment.MaxCount)
	case together > environment.MaxTogether:
		return v, fmt.Errorf("%w: the variables of project %s have %d bytes with this one, the most is %d", taubyte.ErrTooLarge, v.Project, together, environment.MaxTogether)
	}
	info, err := s.secrets.Put(ctx, callerOf(ctx), v.Key(), v.Value, secrets.ReaderProject(v.Project))
	if err != nil {
		return v, err
	}
	s.log.Info("variable set", "kind", v.Kind, "project", v.Project, "branch", v.Branch, "function", v.Function, "name", v.Name, "version", info.Version)
	v.Value = nil
	return described(v, info), nil
}

func changing(k environment.Kind) taubyte.Verb {
	if k == environment.Plain {
		return taubyte.VerbDeploy
	}
	return taubyte.VerbAdminister
}

func described(v environment.Variable, i secrets.Info) environment.Variable {
	v.Version, v.Since, v.By = i.Version, i.Made, i.By
	return v
}

// eachVariable opens the variables of a project.
func (s *Service) eachVariable(ctx context.Context, p taubyte.ProjectID, do func(environment.Variable, []byte, secrets.Info)) error {
	for _, i := range s.secrets.List(environment.Prefix(p)) {
		v, err := environment.ParseKey(i.Name)
		if err != nil {
			continue // a later version may have written it
		}
		value, info, err := s.secrets.Read(ctx, i.Name)
		if errors.Is(err, taubyte.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		do(v, value, info)
	}
	return nil
}

// Variables lists the variables of a project of one kind, or of both where it is empty:
// plain ones with their values, secrets without.
//
// For the administrator, nodes of role auth, and users that may read the project.
func (s *Service) Variables(ctx context.Context, p taubyte.ProjectID, kind environment.Kind) ([]environment.Variable, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, p, taubyte.RoleAuth); err != nil {
		return nil, err
	}
	if err := checkProjectID(p); err != nil {
		return nil, err
	}
	all := []environment.Variable{}
	for _, i := range s.secrets.List(environment.Prefix(p)) {
		v, err := environment.ParseKey(i.Name)
		if err != nil || kind != "" && v.Kind != kind {
			continue
		}
		if v.Kind == environment.Plain {
			value, _, err := s.secrets.Read(ctx, i.Name)
			if errors.Is(err, taubyte.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			v.Value = value
		}
		all = append(all, described(v, i))
	}
	slices.SortFunc(all, func(a, b environment.Variable) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Function, b.Function), cmp.Compare(a.Branch, b.Branch), cmp.Compare(a.Kind, b.Kind))
	})
	return all, nil
}

// RemoveVariable removes a variable; its value does not count.
//
// For whom SetVariable is. ErrNotFound: there is none in that place.
func (s *Service) RemoveVariable(ctx context.Context, v environment.Variable) error {
	v.Value = nil
	if err := taubyte.Allow(ctx, changing(v.Kind), v.Project, taubyte.RoleAuth); err != nil {
		return err
	}
	if err := v.Check(); err != nil {
		return err
	}
	err := s.secrets.Delete(ctx, callerOf(ctx), v.Key())
	if errors.Is(err, taubyte.ErrNotFound) {
		return fmt.Errorf("%w: %s %s of %s", taubyte.ErrNotFound, v.Kind, v.Name, placeOf(v))
	}
	if err == nil {
		s.log.Info("variable removed", "kind", v.Kind, "project", v.Project, "branch", v.Branch, "function", v.Function, "name", v.Name)
	}
	return err
}

// removeVariables removes all secrets that a project has.
func (s *Service) removeVariables(ctx context.Context, p taubyte.ProjectID) error {
	for _, prefix := range []string{environment.Prefix(p), inlinePrefix + string(p) + "/"} {
		for _, i := range s.secrets.List(prefix) {
			if err := s.secrets.Delete(ctx, callerOf(ctx), i.Name); err != nil && !errors.Is(err, taubyte.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}

// grantWait bounds asking the registry what a branch runs.
const grantWait = 3 * time.Second

// Environment implements environment.Source. A node of role substrate is given what the
// functions of a branch may see that the registry says is deployed; each value is in the
// audit log.
//
// For the administrator and nodes of role substrate. ErrForbidden: nothing of the branch is
// deployed. ErrUnavailable: no registry says so.
func (s *Service) Environment(ctx context.Context, p taubyte.ProjectID, b taubyte.Branch) (environment.Environment, error) {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleSubstrate); err != nil {
		return environment.Environment{}, err
	}
	if err := checkProjectID(p); err != nil {
		return environment.Environment{}, err
	}
	asking, cancel := context.WithTimeout(taubyte.AsService(ctx), grantWait)
	d, err := s.running.Current(asking, p, b)
	cancel()
	switch {
	case errors.Is(err, taubyte.ErrNotFound):
		return environment.Environment{}, fmt.Errorf("%w: nothing of branch %.100q of project %s is deployed", taubyte.ErrForbidden, b, p)
	case err != nil:
		return environment.Environment{}, fmt.Errorf("%w: the registry does not say what runs: %w", taubyte.ErrUnavailable, err)
	}
	functions := functionsOf(d.Config())
	// Before the values: these may then be newer than it says, and not older.
	e := environment.Environment{Revision: s.revision(p)}
	e.Variables, err = s.give(ctx, p, callerOf(ctx).Who, func(v environment.Variable) bool {
		return (v.Branch == "" || v.Branch == b) && (v.Function == "" || functions[v.Function])
	})
	return e, err
}

// functionsOf are the names of what runs code.
func functionsOf(c *config.Project) map[string]bool {
	names := map[string]bool{}
	if c == nil {
		return names
	}
	add := func(app string, r *config.Resources) {
		for i := range r.Functions {
			names[environment.FunctionName(app, r.Functions[i].Name)] = true
		}
		for i := range r.SmartOps {
			names[environment.FunctionName(app, r.SmartOps[i].Name)] = true
		}
	}
	add("", &c.Resources)
	for i := range c.Applications {
		add(c.Applications[i].Name, &c.Applications[i].Resources)
	}
	return names
}

// give opens the variables of a project that are wanted, for who is in the audit log.
func (s *Service) give(ctx context.Context, p taubyte.ProjectID, who string, wanted func(environment.Variable) bool) ([]environment.Variable, error) {
	var variables []environment.Variable
	var names []string
	for _, i := range s.secrets.List(environment.Prefix(p)) {
		if v, err := environment.ParseKey(i.Name); err == nil && wanted(v) {
			variables = append(variables, v)
			names = append(names, i.Name)
		}
	}
	opened, err := s.secrets.GetAll(ctx, secrets.Caller{Who: who, As: secrets.ReaderProject(p)}, names)
	if err != nil {
		return nil, err
	}
	all := []environment.Variable{}
	for i, o := range opened {
		v := described(variables[i], o.Info)
		v.Value = o.Value
		all = append(all, v)
	}
	return all, nil
}

// A BuildRequest is for what a build may see.
type BuildRequest struct {
	Project  taubyte.ProjectID `json:"project"`
	Branch   taubyte.Branch    `json:"branch"`
	Function string            `json:"function,omitempty"` // that is built, if it is one
	Names    []string          `json:"names"`
	For      string            `json:"for"` // the job, for the audit log
}

// BuildEnvironment returns the variables and secrets of those names that a build may
// see, by the same rules as for a function. Who asks has checked that the job is its
// worker's.
//
// For the administrator and nodes of role patrick. ErrInvalid: a name that is not set.
func (s *Service) BuildEnvironment(ctx context.Context, r BuildRequest) ([]environment.Variable, error) {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RolePatrick); err != nil {
		return nil, err
	}
	if err := checkProjectID(r.Project); err != nil {
		return nil, err
	}
	who := fmt.Sprintf("%s for a build: %.100q", callerOf(ctx).Who, r.For)
	all, err := s.give(ctx, r.Project, who, func(v environment.Variable) bool {
		return slices.Contains(r.Names, v.Name) && v.Applies(r.Branch, r.Function)
	})
	if err != nil {
		return nil, err
	}
	all = environment.Resolve(all, r.Branch, r.Function)
	for _, n := range r.Names {
		if !slices.ContainsFunc(all, func(v environment.Variable) bool { return v.Name == n }) {
			return nil, fmt.Errorf("%w build: it needs %.150q, which is neither a secret nor a variable of project %s on branch %s (\"taubyte secrets set\")", taubyte.ErrInvalid, n, r.Project, r.Branch)
		}
	}
	return all, nil
}

// WatchEnvironments implements environment.Source.
//
// For the administrator and nodes of role substrate.
func (s *Service) WatchEnvironments(ctx context.Context) (<-chan environment.Change, error) {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleSubstrate); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return nil, fmt.Errorf("auth: %w", taubyte.ErrClosed)
	}
	out := make(chan environment.Change)
	watch := s.secrets.Watch("projects/")
	s.wg.Go(func() {
		defer watch.Stop()
		defer close(out)
		told := map[taubyte.ProjectID]string{}
		for first := true; ; first = false {
			change := environment.Change{Projects: map[taubyte.ProjectID]string{}, All: first}
			for p := range s.changedProjects(watch, told) {
				if rev := s.revision(p); rev != told[p] {
					told[p], change.Projects[p] = rev, rev
				}
			}
			if first || len(change.Projects) > 0 {
				select {
				case out <- change:
				case <-ctx.Done():
					return
				case <-s.life.Done():
					return
				}
			}
			select {
			case <-watch.News():
			case <-ctx.Done():
				return
			case <-s.life.Done():
				return
			}
		}
	})
	return out, nil
}

// changedProjects are the projects whose variables a watch says have changed.
func (s *Service) changedProjects(watch *secrets.Watch, told map[taubyte.ProjectID]string) map[taubyte.ProjectID]bool {
	projects := map[taubyte.ProjectID]bool{}
	names, all := watch.Changed()
	if all {
		for p := range told {
			projects[p] = true
		}
		for _, i := range s.secrets.List("projects/") {
			names = append(names, i.Name)
		}
	}
	for _, name := range names {
		p, _, _ := strings.Cut(strings.TrimPrefix(name, "projects/"), "/")
		projects[taubyte.ProjectID(p)] = true
	}
	return projects
}

// revision digests which versions a project's variables have.
func (s *Service) revision(p taubyte.ProjectID) string {
	all := s.secrets.List(environment.Prefix(p))
	if len(all) == 0 {
		return ""
	}
	h := sha256.New()
	for _, i := range all {
		fmt.Fprintf(h, "%d:%s %d %d\n", len(i.Name), i.Name, i.Version, i.Made.UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// Access is an entry of the audit log of secrets.
type Access = secrets.Access

// Accesses is an extract of the audit log.
type Accesses struct {
	Accesses []Access  `json:"accesses"`          // the newest first
	Missing  []peer.ID `json:"missing,omitempty"` // auth nodes that did not answer
}

// MaxAccesses bounds an extract of the audit log.
const MaxAccesses = 10_000

// AuditLog returns who did what with the secrets of a project, or with all secrets of the
// network where it is empty, the newest first and at most so many: of this node and all
// others that run auth.
//
// For the administrator, nodes of role auth, and users that may administer the project.
func (s *Service) AuditLog(ctx context.Context, p taubyte.ProjectID, most int) (Accesses, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, p, taubyte.RoleAuth); err != nil {
		return Accesses{}, err
	}
	if most < 1 || most > MaxAccesses {
		return Accesses{}, fmt.Errorf("%w number of accesses %d: it is at most %d", taubyte.ErrInvalid, most, MaxAccesses)
	}
	prefix := ""
	if p != "" {
		if err := checkProjectID(p); err != nil {
			return Accesses{}, err
		}
		prefix = environment.Prefix(p)
	}
	all, err := s.secrets.Audit(ctx, prefix, most)
	if err != nil {
		return Accesses{}, err
	}
	out := Accesses{Accesses: all}
	for _, other := range s.authNodes() {
		if other == s.host.ID() {
			continue
		}
		var theirs Accesses
		asking, cancel := context.WithTimeout(ctx, arbiterTime)
		err := s.rpc.CallPeer(asking, other, http.MethodGet, auditPath(p, most)+"&local=1", nil, &theirs)
		cancel()
		if err != nil {
			out.Missing = append(out.Missing, other)
			continue
		}
		out.Accesses = append(out.Accesses, theirs.Accesses...)
	}
	slices.SortStableFunc(out.Accesses, func(a, b Access) int { return b.Time.Compare(a.Time) })
	out.Accesses = out.Accesses[:min(len(out.Accesses), most)]
	return out, nil
}

func auditPath(p taubyte.ProjectID, most int) string {
	return "/secrets/audit?project=" + string(p) + "&limit=" + strconv.Itoa(most)
}

// SecretKeys lists the generations of the key under which secrets are sealed, the one in
// use last, with the nodes that have each.
//
// For the administrator, nodes of role auth, and users that may read the network.
func (s *Service) SecretKeys(ctx context.Context) ([]SecretKey, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.RoleAuth); err != nil {
		return nil, err
	}
	return s.secrets.Generations(), nil
}

// SecretKey is a generation of the key under which secrets are sealed.
type SecretKey = secrets.Generation

// RotateSecrets makes a new generation of that key and seals every secret anew. It is done
// by itself when a node of role auth is revoked, and every 90 days.
//
// For the administrator, nodes of role auth, and users that may administer the network.
func (s *Service) RotateSecrets(ctx context.Context) (SecretKey, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, "", taubyte.RoleAuth); err != nil {
		return SecretKey{}, err
	}
	return s.secrets.Rotate(ctx, callerOf(ctx))
}

// handleEnvironment mounts the paths of secrets and variables.
func (s *Service) handleEnvironment(mux *api.Mux) {
	kind := api.Parameter{Name: "kind", Text: "env, for variables, or secret."}
	mux.Handle("GET /projects/{id}/variables", api.Operation{
		Summary: "Lists a project's variables, or its secrets without their values.", Path: projectID,
		Query: []api.Parameter{kind}, Rights: api.Project(taubyte.VerbRead, operators...),
	}, api.Answer(func(r *http.Request) ([]environment.Variable, error) {
		return s.Variables(r.Context(), projectOf(r), environment.Kind(r.URL.Query().Get("kind")))
	}))
	mux.Handle("PUT /projects/{id}/variables", api.Operation{
		Summary: "Sets a variable, or a secret, of a project.", Path: projectID,
		Text:   "A secret takes the verb administer, and a variable deploy.",
		Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Call(4*environment.MaxValue, func(r *http.Request, v environment.Variable) (environment.Variable, error) {
		v.Project = projectOf(r)
		return s.SetVariable(r.Context(), v)
	}))
	mux.Handle("DELETE /projects/{id}/variables", api.Operation{
		Summary: "Removes a variable, or a secret, of a project.", Path: projectID,
		Text: "A secret takes the verb administer, and a variable deploy.",
		Query: []api.Parameter{
			kind, {Name: "name", Text: "Its name."},
			{Name: "branch", Text: "The branch that it is for, where it is for one."},
			{Name: "function", Text: "The function that it is for, where it is for one."},
		},
		Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Act(func(r *http.Request) error {
		q := r.URL.Query()
		return s.RemoveVariable(r.Context(), environment.Variable{
			Kind: environment.Kind(q.Get("kind")), Project: projectOf(r), Branch: taubyte.Branch(q.Get("branch")), Function: q.Get("function"), Name: q.Get("name"),
		})
	}))
	mux.Handle("GET /environments/{id}", api.Operation{
		Summary: "Returns what the functions of a branch see.", Path: projectID,
		Query:  []api.Parameter{{Name: "branch", Text: "The branch."}},
		Rights: api.Nodes(taubyte.RoleSubstrate),
	}, api.Answer(func(r *http.Request) (environment.Environment, error) {
		return s.Environment(r.Context(), projectOf(r), taubyte.Branch(r.URL.Query().Get("branch")))
	}))
	mux.Handle("GET /environments/watch", api.Operation{
		Summary: "Follows which projects have variables.", Rights: api.Nodes(taubyte.RoleSubstrate),
	}, api.Follow(func(r *http.Request) (<-chan environment.Change, error) {
		return s.WatchEnvironments(r.Context())
	}))
	mux.Handle("POST /environments/build", api.Operation{
		Summary: "Returns what a build sees.", Rights: api.Nodes(taubyte.RolePatrick),
	}, api.Call(1<<18, func(r *http.Request, in BuildRequest) ([]environment.Variable, error) {
		return s.BuildEnvironment(r.Context(), in)
	}))
	mux.Handle("GET /secrets/audit", api.Operation{
		Summary: "Lists who did what with secrets, the newest first.",
		Query: append([]api.Parameter{
			{Name: "limit", Text: "The most entries that are answered: 100 where nothing is said.", Type: 0},
			{Name: "local", Text: "Asked by a node of role auth: only what this node has seen."},
		}, ofProject...),
		Rights: api.Project(taubyte.VerbAdminister, operators...),
	}, api.Answer(func(r *http.Request) (Accesses, error) {
		q := r.URL.Query()
		most, err := strconv.Atoi(cmp.Or(q.Get("limit"), "100"))
		if err != nil {
			return Accesses{}, fmt.Errorf("%w limit: %w", taubyte.ErrInvalid, err)
		}
		if m, isNode := rpc.Caller(r.Context()); q.Get("local") != "" && isNode && m.Has(taubyte.RoleAuth) {
			return s.localAudit(r.Context(), taubyte.ProjectID(q.Get("project")), most)
		}
		return s.AuditLog(r.Context(), taubyte.ProjectID(q.Get("project")), most)
	}))
	mux.Handle("GET /secrets/keys", api.Operation{
		Summary: "Lists the generations of the key that seals secrets.", Rights: api.Everything(taubyte.VerbRead, operators...),
	}, api.Answer(func(r *http.Request) ([]SecretKey, error) {
		return s.SecretKeys(r.Context())
	}))
	mux.Handle("POST /secrets/rotation", api.Operation{
		Summary: "Makes a new generation of that key, and seals every secret anew.", Rights: api.Everything(taubyte.VerbAdminister, operators...),
	}, api.Answer(func(r *http.Request) (SecretKey, error) {
		return s.RotateSecrets(r.Context())
	}))
}

// localAudit is AuditLog of this node alone, for the other auth nodes.
func (s *Service) localAudit(ctx context.Context, p taubyte.ProjectID, most int) (Accesses, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbAdminister, p, taubyte.RoleAuth); err != nil {
		return Accesses{}, err
	}
	prefix := ""
	if p != "" {
		prefix = environment.Prefix(p)
	}
	all, err := s.secrets.Audit(ctx, prefix, min(max(most, 1), MaxAccesses))
	return Accesses{Accesses: all}, err
}

// placeOf says where a variable is.
func placeOf(v environment.Variable) string {
	place := "project " + string(v.Project)
	if v.Branch != "" {
		place += ", branch " + string(v.Branch)
	}
	if v.Function != "" {
		place += ", function " + v.Function
	}
	return place
}
