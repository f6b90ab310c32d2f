package main

import (
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

// listFlag is a flag that may be given several times, or once with commas.
type listFlag []string

func (l *listFlag) String() string { return strings.Join(*l, ",") }

func (l *listFlag) Set(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*l = append(*l, part)
		}
	}
	return nil
}

func tokenCommand() command {
	return command{
		name: "token", args: "list | create NAME --verb VERB (--project ID,ID… | --repository ID,ID… | --all) | revoke ID",
		summary: "list, make or revoke what others than the node's owner show to the API and to git, with fewer rights",
		verbs:   []string{"list", "create NAME", "revoke ID"},
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			var projects, repositories listFlag
			verb := fs.String("verb", "read", "with create: the most that it may: read, deploy or administer")
			fs.Var(&projects, "project", "with create: the projects that it is for, by id or name")
			fs.Var(&repositories, "repository", "with create: a git credential, which opens these repositories (local/shop) and nothing else")
			all := fs.Bool("all", false, "with create: for every project, and for what belongs to none")
			lasts := fs.String("for", "90d", "with create: how long it is good (12h, 30d), 366 days at most")
			return asking(fs, func(inv *invocation, c *api) error {
				switch inv.verb {
				case "list":
					return list(inv, c, "/v1/auth/tokens", []string{"ID", "NAME", "VERB", "FOR", "MADE", "ENDS", ""}, tokenRow)
				case "create":
					d, err := days(*lasts)
					if err != nil {
						return err
					}
					t := auth.Token{Name: inv.args[0], All: *all, Ends: time.Now().Add(d).UTC()}
					if t.Verb, err = taubyte.ParseVerb(*verb); err != nil {
						return err
					}
					for _, named := range projects {
						id, err := c.project(named)
						if err != nil {
							return err
						}
						t.Projects = append(t.Projects, id)
					}
					for _, id := range repositories {
						t.Repositories = append(t.Repositories, taubyte.RepositoryID(id))
					}
					return createToken(inv, c, t)
				}
				id := inv.args[0]
				if err := c.call(http.MethodDelete, "/v1/auth/tokens/"+url.PathEscape(id), nil, nil); err != nil {
					return err
				}
				return told(inv, map[string]any{"revoked": id}, id+" is revoked")
			})
		},
	}
}

// days reads a duration, in days as well.
func days(text string) (time.Duration, error) {
	if n, ok := strings.CutSuffix(text, "d"); ok {
		if count, err := strconv.Atoi(n); err == nil && count > 0 && count <= 10_000 {
			return time.Duration(count) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%w: --for %q: it is a time like 12h or 30d", taubyte.ErrInvalid, text)
	}
	return d, nil
}

// createToken prints the token alone on the output, so that a script can take it.
func createToken(inv *invocation, c *api, t auth.Token) error {
	var made auth.NewToken
	if err := c.call(http.MethodPost, "/v1/auth/tokens", t, &made); err != nil {
		return err
	}
	if inv.asJSON {
		return inv.json(made)
	}
	fmt.Fprintf(inv.err, "token %s (%s) may %s %s until %s. It is shown this once.\n",
		made.ID, made.Name, made.Verb, tokenScope(made.Token), made.Ends.Local().Format(time.DateTime))
	_, err := fmt.Fprintln(inv.out, made.Secret)
	return err
}

// tokenScope says what a token is for.
func tokenScope(t auth.Token) string {
	var names []string
	switch {
	case t.All:
		return "everything"
	case len(t.Repositories) > 0:
		for _, id := range t.Repositories {
			names = append(names, string(id))
		}
		return "git " + strings.Join(names, ",")
	}
	for _, id := range t.Projects {
		names = append(names, string(id))
	}
	return strings.Join(names, ",")
}

func tokenRow(t auth.Token) [][]string {
	state := ""
	switch {
	case !t.Revoked.IsZero():
		state = "revoked " + t.Revoked.Local().Format(time.DateTime)
	case !time.Now().Before(t.Ends):
		state = "ended"
	}
	return [][]string{{t.ID, t.Name, string(t.Verb), tokenScope(t), t.Made.Local().Format(time.DateTime), t.Ends.Local().Format(time.DateTime), state}}
}
