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
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/seer"
	"github.com/taubyte/taubyte/tns"
)

// lost names the hosts that a branch claims and does not have, and who has them.
func lost(conflicts []tns.Claim) string {
	var all []string
	for _, c := range conflicts {
		text := c.Host
		if c.Owner != "" && c.Owner != c.Project {
			text += " (is " + string(c.Owner) + "'s)"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// commitOf names a deployment of a history, of which no node in reach may have more
// than the number.
func commitOf(d tns.Deployment) string {
	if d.Missing {
		return "(missing)"
	}
	return short(d.Commit())
}

func rollbackCommand() command {
	return command{
		name: "rollback", args: "PROJECT [DEPLOYMENT]", summary: "make an earlier deployment of a branch current again; without a number, list them; a project is named by its id or name",
		minArgs: 1, maxArgs: 2,
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			branch := fs.String("branch", "main", "the branch")
			return asking(fs, func(inv *invocation, c *api) error {
				project, err := c.likelyProject(inv.args[0])
				if err != nil {
					return err
				}
				at := "/v1/tns/projects/" + url.PathEscape(string(project)) + "/branches/" + url.PathEscape(*branch)
				if len(inv.args) == 1 {
					return list(inv, c, at+"/history", []string{"DEPLOYMENT", "COMMIT", "SINCE"}, func(d tns.Deployment) [][]string {
						return [][]string{{strconv.FormatUint(d.Sequence, 10), commitOf(d), d.Time.Local().Format(time.DateTime)}}
					})
				}
				return rollback(inv, c, at)
			})
		},
	}
}

func rollback(inv *invocation, c *api, at string) error {
	var d tns.Deployment
	if err := c.call(http.MethodPost, at+"/rollback?sequence="+url.QueryEscape(inv.args[1]), nil, &d); err != nil {
		return err
	}
	if inv.asJSON {
		return inv.json(d)
	}
	_, err := fmt.Fprintf(inv.out, "branch %s runs commit %s again, as deployment %d\n", d.Branch, short(d.Commit()), d.Sequence)
	return err
}

func routesCommand() command {
	return command{
		name: "routes", args: "[list]", summary: "list what a gateway serves, by host and path", verbs: []string{"list"},
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			return asking(fs, func(inv *invocation, c *api) error {
				return list(inv, c, "/v1/gateway/routes", []string{"HOST", "PATH", "METHOD", "KIND", "NAME", "BRANCH", "COMMIT"}, func(r gateway.Route) [][]string {
					return [][]string{{r.Host, r.Path, r.Method, r.Kind, r.Name, string(r.Branch), short(r.Commit)}}
				})
			})
		},
	}
}

func nodesCommand() command {
	return command{
		name: "nodes", args: "[list]", verbs: []string{"list"}, summary: "list the nodes of the network: what they run, how they are, and how busy",
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			return asking(fs, func(inv *invocation, c *api) error {
				return list(inv, c, "/v1/seer/nodes", []string{"NODE", "NAME", "HEALTH", "CPU", "MEMORY", "IN FLIGHT", "SERVICES", "STARTED"}, func(n seer.Node) [][]string {
					return [][]string{{
						n.ID.String(), n.Name, string(n.Health), fmt.Sprintf("%.0f%%", 100*n.Load.CPU), fmt.Sprintf("%.0f%%", 100*n.Load.Memory),
						fmt.Sprint(n.Load.InFlight), fmt.Sprint(len(n.Services)), n.StartedAt.Local().Format(time.DateTime),
					}}
				})
			})
		},
	}
}

func explainCommand() command {
	return command{
		name: "explain", args: "URL", summary: "say which node a request would go to, and how each is judged",
		minArgs: 1, maxArgs: 1,
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			method := fs.String("method", http.MethodGet, "the request's method")
			return asking(fs, func(inv *invocation, c *api) error {
				target, err := url.Parse(inv.args[0])
				if err != nil || target.Host == "" {
					return fmt.Errorf("%w URL %q", taubyte.ErrInvalid, inv.args[0])
				}
				path := target.Path
				if path == "" {
					path = "/"
				}
				q := url.Values{"host": {target.Host}, "path": {path}, "method": {*method}}
				var e gateway.Explanation
				if err := c.call(http.MethodGet, "/v1/gateway/explain?"+q.Encode(), nil, &e); err != nil {
					return err
				}
				if inv.asJSON {
					return inv.json(e)
				}
				return explain(inv, e)
			})
		},
	}
}

func explain(inv *invocation, e gateway.Explanation) error {
	fmt.Fprintln(inv.out, e.Status)
	if e.Allow != "" {
		fmt.Fprintln(inv.out, "allowed:", e.Allow)
	}
	if e.Route != nil {
		fmt.Fprintf(inv.out, "%s %s of project %s, branch %s, commit %s\n", e.Route.Kind, e.Route.Name, e.Route.Project, e.Route.Branch, short(e.Route.Commit))
	}
	if len(e.Candidates) == 0 {
		return nil
	}
	var rows [][]string
	for _, c := range e.Candidates {
		name := c.Name
		if name == "" {
			name = c.Node.String()
		}
		rows = append(rows, []string{name, fmt.Sprintf("%.3f", c.Latency/1e6), fmt.Sprint(c.InFlight), fmt.Sprint(c.Warm), fmt.Sprintf("%.3f", c.Score/1e6), fmt.Sprint(c.Ejected), c.Reason})
	}
	return inv.table([]string{"NODE", "LATENCY/MS", "IN FLIGHT", "WARM", "SCORE", "EJECTED", "REASON"}, rows)
}
