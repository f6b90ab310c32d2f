package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/patrick"
)

// credentialFlag names where the caller's token at a git provider is read from: it is not
// given as an argument, which every process of the machine can read.
func credentialFlag(fs *flag.FlagSet) *string {
	return fs.String("credential", "", "a file with your own token at the git provider, \"-\" for standard input (default: the node's)")
}

func readCredential(from string) (string, error) {
	var text []byte
	var err error
	switch from {
	case "":
		return "", nil
	case "-":
		text, err = io.ReadAll(io.LimitReader(os.Stdin, 1<<16))
	default:
		text, err = os.ReadFile(from)
	}
	if err != nil {
		return "", fmt.Errorf("%w credential: %w", taubyte.ErrInvalid, err)
	}
	if strings.TrimSpace(string(text)) == "" {
		return "", fmt.Errorf("%w credential: %s is empty", taubyte.ErrInvalid, from)
	}
	return strings.TrimSpace(string(text)), nil
}

// atProvider splits "<provider>/<id or full name>".
func atProvider(text string) (provider, repository string, err error) {
	provider, repository, ok := strings.Cut(text, "/")
	if !ok || provider == "" || repository == "" {
		return "", "", fmt.Errorf("%w repository %q: it is <provider>/<id> or <provider>/<owner>/<name>", taubyte.ErrInvalid, text)
	}
	return provider, repository, nil
}

func repoCommand() command {
	return command{
		name: "repo", args: "list | add PROVIDER/REPOSITORY --project PROJECT [--kind KIND] | rotate PROVIDER/REPOSITORY | rm PROVIDER/REPOSITORY",
		summary: "list, add or remove repositories of projects, at a node that runs auth; one at a git provider is given a deploy key and a webhook, and by rotate another deploy key, which takes the place of the old one once it works. REPOSITORY is its id at the provider, or its full name",
		verbs:   []string{"list", "add PROVIDER/REPOSITORY", "rotate PROVIDER/REPOSITORY", "rm PROVIDER/REPOSITORY"},
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			project := fs.String("project", "", "the project, by its id or name (default: the only one; with list, all)")
			kind := fs.String("kind", string(auth.KindProject), "with add: what it holds: project (everything), config, code, website or library")
			credential := credentialFlag(fs)
			return asking(fs, func(inv *invocation, c *api) error {
				token, err := readCredential(*credential)
				if err != nil {
					return err
				}
				switch inv.verb {
				case "list":
					path := "/v1/auth/repositories"
					if *project != "" {
						id, err := c.project(*project)
						if err != nil {
							return err
						}
						path += "?project=" + url.QueryEscape(string(id))
					}
					return list(inv, c, path, []string{"REPOSITORY", "NAME", "KIND", "PROJECT"}, func(r auth.Repository) [][]string {
						return [][]string{{string(r.ID), r.Name, string(r.Kind), string(r.Project)}}
					})
				case "add":
					id, err := c.project(*project)
					if err != nil {
						return err
					}
					return addRepository(inv, c, auth.Addition{Project: id, Kind: auth.Kind(*kind), Credential: token})
				}
				id, err := c.repository(inv.args[0])
				if err != nil {
					return err
				}
				if inv.verb == "rotate" {
					if err := c.callAs(http.MethodPost, "/v1/auth/repositories/"+url.PathEscape(string(id))+"/key", token); err != nil {
						return err
					}
					return told(inv, map[string]any{"rotated": id}, string(id)+" has another deploy key")
				}
				if err := c.callAs(http.MethodDelete, "/v1/auth/repositories/"+url.PathEscape(string(id)), token); err != nil {
					return err
				}
				return told(inv, map[string]any{"removed": id}, string(id)+" is of no project any more")
			})
		},
	}
}

// repository finds one of a project by its id, or by its provider and full name.
func (c *api) repository(named string) (taubyte.RepositoryID, error) {
	var all []auth.Repository
	if err := c.call(http.MethodGet, "/v1/auth/repositories", nil, &all); err != nil {
		return "", err
	}
	for _, r := range all {
		if string(r.ID) == named || strings.EqualFold(r.Provider+"/"+r.Name, named) {
			return r.ID, nil
		}
	}
	return "", fmt.Errorf("%w: no project has the repository %q: \"taubyte repo list\" lists those that are there", taubyte.ErrNotFound, named)
}

func addRepository(inv *invocation, c *api, a auth.Addition) error {
	var err error
	if a.Provider, a.Repository, err = atProvider(inv.args[0]); err != nil {
		return err
	}
	var r auth.Repository
	if err := c.call(http.MethodPost, "/v1/auth/additions", a, &r); err != nil {
		return err
	}
	jobs, err := c.build(r)
	if err != nil {
		fmt.Fprintf(inv.err, "%s is built later: %v\n", r.Name, err)
	}
	if inv.asJSON {
		return inv.json(struct {
			auth.Repository
			Jobs []startedJob `json:"jobs"`
		}{r, jobs})
	}
	_, err = fmt.Fprintf(inv.out, "%s (%s) is the repository of kind %s of project %s\n", r.ID, r.Name, r.Kind, r.Project)
	for _, j := range jobs {
		fmt.Fprintf(inv.out, "job %s builds branch %s\n", j.ID, j.Branch)
	}
	return err
}

// A startedJob builds a branch of a repository that was added.
type startedJob struct {
	ID         taubyte.JobID        `json:"id"`
	Repository taubyte.RepositoryID `json:"repository"`
	Branch     taubyte.Branch       `json:"branch"`
}

func jobsOf(r taubyte.RepositoryID, all []startedJob) string {
	var ids []string
	for _, j := range all {
		if j.Repository == r {
			ids = append(ids, string(j.ID))
		}
	}
	return strings.Join(ids, ",")
}

// build has the branches of a repository built as they are, in place of when patrick
// compares them the next time.
func (c *api) build(r auth.Repository) (started []startedJob, err error) {
	var heads map[taubyte.Branch]taubyte.Commit
	if err := c.call(http.MethodGet, "/v1/auth/repositories/"+url.PathEscape(string(r.ID))+"/heads", nil, &heads); err != nil {
		return nil, err
	}
	for _, branch := range slices.Sorted(maps.Keys(heads)) {
		var j patrick.Job
		push := auth.Push{Repository: r.ID, Branch: branch, Commit: heads[branch]}
		if err := c.call(http.MethodPost, "/v1/patrick/push", push, &j); err != nil {
			return started, err
		}
		started = append(started, startedJob{j.ID, r.ID, branch})
	}
	return started, nil
}

// ended waits until jobs have, for as long as a person would: what comes after is built
// either way.
func (c *api) ended(jobs []startedJob) {
	until := time.Now().Add(time.Minute)
	for _, started := range jobs {
		for time.Now().Before(until) && c.inv.ctx.Err() == nil {
			var j patrick.Job
			if err := c.call(http.MethodGet, "/v1/patrick/jobs/"+url.PathEscape(string(started.ID)), nil, &j); err != nil || j.State.Done() {
				break
			}
			select {
			case <-time.After(200 * time.Millisecond):
			case <-c.inv.ctx.Done():
			}
		}
	}
}

// callAs sends a request without a body that carries a token at a git provider.
func (c *api) callAs(method, path, credential string) error {
	if credential != "" {
		c.header = http.Header{auth.CredentialHeader: {credential}}
	}
	return c.call(method, path, nil, nil)
}
