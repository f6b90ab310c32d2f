package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/tns"
)

func projectsCommand() command {
	return command{
		name: "projects", args: "[list | create NAME | import PROVIDER/REPOSITORY | delete PROJECT]",
		summary: "list the projects, their branches, and the commit that each runs; or create, import or delete a project, at a node that runs auth",
		verbs:   []string{"list", "create NAME", "import PROVIDER/REPOSITORY", "delete PROJECT"},
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			code := fs.String("code", "", "with import: the repository of the functions, by id or name (default: tb_code_NAME beside tb_NAME)")
			credential := credentialFlag(fs)
			return asking(fs, func(inv *invocation, c *api) error {
				if inv.verb == "list" {
					return listProjects(inv, c)
				}
				token, err := readCredential(*credential)
				if err != nil {
					return err
				}
				switch inv.verb {
				case "create":
					return createProject(inv, c, inv.args[0])
				case "import":
					return importProject(inv, c, inv.args[0], auth.Import{Code: *code, Credential: token})
				}
				return deleteProject(inv, c, inv.args[0], token)
			})
		},
	}
}

// listProjects lists what is deployed, which tns knows, and the projects of which nothing
// is, which auth knows; a node that runs one of them is asked for what it has.
func listProjects(inv *invocation, c *api) error {
	all := []tns.Summary{}
	err := c.call(http.MethodGet, "/v1/tns/projects", nil, &all)
	if err != nil && !errors.Is(err, taubyte.ErrUnavailable) {
		return err
	}
	var known []auth.Project
	if aerr := c.call(http.MethodGet, "/v1/auth/projects", nil, &known); aerr != nil && (err != nil || !errors.Is(aerr, taubyte.ErrUnavailable)) {
		return aerr
	}
	deployed := map[taubyte.ProjectID]bool{}
	for _, p := range all {
		deployed[p.Project] = true
	}
	for _, p := range known {
		if !deployed[p.ID] {
			all = append(all, tns.Summary{Project: p.ID, Name: p.Name, Branches: []tns.BranchSummary{}})
		}
	}
	if inv.asJSON {
		return inv.json(all)
	}
	var rows [][]string
	for _, p := range all {
		if len(p.Branches) == 0 {
			rows = append(rows, []string{string(p.Project), p.Name, "-", "-", "-", "-", ""})
		}
		for _, b := range p.Branches {
			rows = append(rows, []string{string(p.Project), p.Name, string(b.Branch), short(b.Commit), strconv.FormatUint(b.Sequence, 10), b.Time.Local().Format(time.DateTime), lost(b.Conflicts)})
		}
	}
	return inv.table([]string{"PROJECT", "NAME", "BRANCH", "COMMIT", "DEPLOYMENT", "SINCE", "NOT SERVED"}, rows)
}

// createProject prints the id alone on the output, so that a script can take it.
func createProject(inv *invocation, c *api, name string) error {
	var p auth.Project
	if err := c.call(http.MethodPost, "/v1/auth/projects", auth.Project{Name: name}, &p); err != nil {
		return err
	}
	if !inv.asJSON {
		fmt.Fprintf(inv.err, "project %s is made: give its config/config.yaml the line \"id: %s\" and push it.\n", p.Name, p.ID)
	}
	return told(inv, map[string]any{"id": p.ID, "name": p.Name}, string(p.ID))
}

func importProject(inv *invocation, c *api, what string, in auth.Import) (err error) {
	if in.Provider, in.Repository, err = atProvider(what); err != nil {
		return err
	}
	var out auth.Imported
	if err := c.call(http.MethodPost, "/v1/auth/imports", in, &out); err != nil {
		return err
	}
	// The configuration first: what it names is built for it.
	var jobs []startedJob
	for _, r := range out.Repositories {
		started, err := c.build(r)
		if err != nil {
			fmt.Fprintf(inv.err, "%s is built later: %v\n", r.Name, err)
		}
		jobs = append(jobs, started...)
		if r.Kind == auth.KindConfig {
			c.ended(started)
		}
	}
	if inv.asJSON {
		return inv.json(struct {
			auth.Imported
			Jobs []startedJob `json:"jobs"`
		}{out, jobs})
	}
	fmt.Fprintf(inv.out, "project %s (%s)\n", out.Project.ID, out.Project.Name)
	var rows [][]string
	for _, r := range out.Repositories {
		rows = append(rows, []string{string(r.ID), r.Name, string(r.Kind), jobsOf(r.ID, jobs)})
	}
	return inv.table([]string{"REPOSITORY", "NAME", "KIND", "JOBS"}, rows)
}

func deleteProject(inv *invocation, c *api, named, credential string) error {
	id, err := c.likelyProject(named)
	if err != nil {
		return err
	}
	if err := c.callAs(http.MethodDelete, "/v1/auth/projects/"+url.PathEscape(string(id)), credential); err != nil {
		return err
	}
	return told(inv, map[string]any{"deleted": id}, "project "+string(id)+" is deleted, and nothing of it is served")
}
