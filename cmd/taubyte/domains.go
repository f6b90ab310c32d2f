package main

import (
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
)

func domainsCommand() command {
	return command{
		name: "domains", args: "list | add HOST | check HOST | rm HOST [--project PROJECT]",
		summary: "list, claim, check or give up the host names that a project owns, at a node that runs auth; add prints the TXT record that shows ownership, and the one by which the cluster gets certificates by dns-01",
		verbs:   []string{"list", "add HOST", "check HOST", "rm HOST"},
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			named := fs.String("project", "", "the project, by its id or name (default: the only one; with list, all)")
			return asking(fs, func(inv *invocation, c *api) error {
				if inv.verb == "list" {
					path := "/v1/auth/domains"
					if *named != "" {
						project, err := c.project(*named)
						if err != nil {
							return err
						}
						path += "?project=" + url.QueryEscape(string(project))
					}
					return list(inv, c, path, []string{"HOST", "PROJECT", "STATE", "SINCE", "CHECKED", ""}, domainRow)
				}
				project, err := c.project(*named)
				if err != nil {
					return err
				}
				host := inv.args[0]
				at := "/v1/auth/domains/" + url.PathEscape(host) + "/projects/" + url.PathEscape(string(project))
				switch inv.verb {
				case "add":
					return addDomain(inv, c, host, project)
				case "check":
					var d auth.Domain
					if err := c.call(http.MethodPost, at+"/check", nil, &d); err != nil {
						return err
					}
					if inv.asJSON {
						return inv.json(d)
					}
					_, err := fmt.Fprintf(inv.out, "%s is %s for project %s\n", d.Host, d.State, d.Project)
					if d.Detail != "" && err == nil {
						_, err = fmt.Fprintln(inv.out, d.Detail)
					}
					return err
				}
				if err := c.call(http.MethodDelete, at, nil, nil); err != nil {
					return err
				}
				return told(inv, map[string]any{"removed": host}, host+" is no longer the project's own")
			})
		},
	}
}

func domainRow(d auth.Domain) [][]string {
	checked := ""
	if !d.Checked.IsZero() {
		checked = d.Checked.Local().Format(time.DateTime)
	}
	return [][]string{{d.Host, string(d.Project), string(d.State), d.Since.Local().Format(time.DateTime), checked, d.Detail}}
}

func addDomain(inv *invocation, c *api, host string, project taubyte.ProjectID) error {
	var d auth.Domain
	if err := c.call(http.MethodPost, "/v1/auth/domains", map[string]string{"project": string(project), "host": host}, &d); err != nil {
		return err
	}
	if inv.asJSON {
		return inv.json(d)
	}
	fmt.Fprintf(inv.err, "Make this TXT record until %s, and leave it; it is looked for each minute at first, and at once by \"taubyte domains check\".\n", d.Until.Local().Format(time.DateTime))
	if _, err := fmt.Fprintf(inv.out, "%s. TXT%s\n", d.Record, quoted(d.Token)); err != nil || d.Delegation == nil {
		return err
	}
	if d.Delegation.CNAME == "" {
		fmt.Fprintln(inv.err, "For certificates by dns-01, as a wildcard takes them, make this one as well, once.")
		_, err := fmt.Fprintf(inv.out, "%s. NS %s.\n", d.Delegation.Record, d.Delegation.NS)
		return err
	}
	fmt.Fprintf(inv.err, "For certificates by dns-01, as a wildcard takes them, make this one as well, once (or delegate the name by NS to %s).\n", d.Delegation.NS)
	_, err := fmt.Fprintf(inv.out, "%s. CNAME %s.\n", d.Delegation.Record, d.Delegation.CNAME)
	return err
}

// quoted writes a text as the strings of a TXT record, of 255 bytes at most.
func quoted(text string) (out string) {
	for ; len(text) > 255; text = text[255:] {
		out += ` "` + text[:255] + `"`
	}
	return out + ` "` + text + `"`
}
