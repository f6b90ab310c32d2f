package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
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
		return "", err
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
		name: "repo", args: "list | add PROVIDER/REPOSITORY --project ID [--kind KIND] | rm PROVIDER/ID",
		summary: "list, add or remove repositories of projects, at a node that runs auth; one at a git provider is given a deploy key and a webhook",
		minArgs: 1, maxArgs: 2,
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			project := fs.String("project", "", "with add: the project's id; with list: of this project alone")
			kind := fs.String("kind", string(auth.KindProject), "with add: what it holds: project (everything), config, code, website or library")
			credential := credentialFlag(fs)
			return asking(fs, func(inv *invocation, c *api) error {
				verb := inv.args[0]
				if (len(inv.args) == 1) != (verb == "list") {
					return fmt.Errorf("%w: repo %s takes a repository, and list none", taubyte.ErrInvalid, verb)
				}
				token, err := readCredential(*credential)
				if err != nil {
					return err
				}
				switch verb {
				case "list":
					return list(inv, c, "/v1/auth/repositories?project="+url.QueryEscape(*project), []string{"REPOSITORY", "NAME", "KIND", "PROJECT"}, func(r auth.Repository) [][]string {
						return [][]string{{string(r.ID), r.Name, string(r.Kind), string(r.Project)}}
					})
				case "add":
					return addRepository(inv, c, auth.Addition{Project: taubyte.ProjectID(*project), Kind: auth.Kind(*kind), Credential: token})
				case "rm":
					if err := c.callAs(http.MethodDelete, "/v1/auth/repositories/"+url.PathEscape(inv.args[1]), token); err != nil {
						return err
					}
					return told(inv, map[string]any{"removed": inv.args[1]}, inv.args[1]+" is of no project any more")
				}
				return fmt.Errorf("%w: repo %q: it is list, add or rm", taubyte.ErrInvalid, verb)
			})
		},
	}
}

func addRepository(inv *invocation, c *api, a auth.Addition) error {
	if a.Project == "" {
		return fmt.Errorf("%w: --project names no project", taubyte.ErrInvalid)
	}
	var err error
	if a.Provider, a.Repository, err = atProvider(inv.args[1]); err != nil {
		return err
	}
	var r auth.Repository
	if err := c.call(http.MethodPost, "/v1/auth/additions", a, &r); err != nil {
		return err
	}
	if inv.asJSON {
		return inv.json(r)
	}
	_, err = fmt.Fprintf(inv.out, "%s (%s) is the repository of kind %s of project %s\n", r.ID, r.Name, r.Kind, r.Project)
	return err
}

// callAs sends a request without a body that carries a token at a git provider.
func (c *api) callAs(method, path, credential string) error {
	if credential != "" {
		c.header = http.Header{auth.CredentialHeader: {credential}}
	}
	return c.call(method, path, nil, nil)
}

// changeProjects is "projects" with a verb.
func changeProjects(inv *invocation, c *api, credential, code string) error {
	verb, what := inv.args[0], ""
	if len(inv.args) == 2 {
		what = inv.args[1]
	}
	if what == "" {
		return fmt.Errorf("%w: projects %s takes a name, a repository or an id", taubyte.ErrInvalid, verb)
	}
	switch verb {
	case "create":
		var p auth.Project
		if err := c.call(http.MethodPost, "/v1/auth/projects", auth.Project{Name: what}, &p); err != nil {
			return err
		}
		return told(inv, map[string]any{"id": p.ID, "name": p.Name}, string(p.ID))
	case "import":
		provider, repository, err := atProvider(what)
		if err != nil {
			return err
		}
		var out auth.Imported
		in := auth.Import{Provider: provider, Repository: repository, Code: code, Credential: credential}
		if err := c.call(http.MethodPost, "/v1/auth/imports", in, &out); err != nil {
			return err
		}
		if inv.asJSON {
			return inv.json(out)
		}
		fmt.Fprintf(inv.out, "project %s (%s)\n", out.Project.ID, out.Project.Name)
		var rows [][]string
		for _, r := range out.Repositories {
			rows = append(rows, []string{string(r.ID), r.Name, string(r.Kind)})
		}
		return inv.table([]string{"REPOSITORY", "NAME", "KIND"}, rows)
	case "delete":
		if err := c.callAs(http.MethodDelete, "/v1/auth/projects/"+url.PathEscape(what), credential); err != nil {
			return err
		}
		return told(inv, map[string]any{"deleted": what}, "project "+what+" is deleted, and nothing of it is served")
	}
	return fmt.Errorf("%w: projects %q: it is create, import or delete, or nothing to list them", taubyte.ErrInvalid, verb)
}
