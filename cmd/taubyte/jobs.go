package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/patrick"
)

func jobsCommand() command {
	return command{
		name: "jobs", args: "[list | cancel ID | retry ID]", summary: "list the builds, the newest first, or cancel or repeat one",
		verbs: []string{"list", "cancel ID", "retry ID"},
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			project := fs.String("project", "", "only those of this project, by its id or name")
			limit := fs.Int("limit", 20, "how many")
			return asking(fs, func(inv *invocation, c *api) error {
				if inv.verb != "list" {
					return changeJob(inv, c)
				}
				id, err := c.likelyProject(*project)
				if err != nil {
					return err
				}
				var page patrick.Page
				q := url.Values{"project": {string(id)}, "limit": {fmt.Sprint(*limit)}}
				if err := c.call(http.MethodGet, "/v1/patrick/jobs?"+q.Encode(), nil, &page); err != nil {
					return err
				}
				if inv.asJSON {
					return inv.json(page)
				}
				var rows [][]string
				for _, j := range page.Jobs {
					took := ""
					if !j.Ended.IsZero() && !j.Started.IsZero() {
						took = round(j.Ended.Sub(j.Started)).String()
					}
					rows = append(rows, []string{string(j.ID), string(j.State), string(j.Repository), string(j.Branch), short(j.Commit), j.Created.Local().Format(time.DateTime), took, j.Error})
				}
				return inv.table([]string{"JOB", "STATE", "REPOSITORY", "BRANCH", "COMMIT", "CREATED", "TOOK", "ERROR"}, rows)
			})
		},
	}
}

func changeJob(inv *invocation, c *api) error {
	id, done := inv.args[0], map[string]string{"cancel": "cancelled", "retry": "queued again"}[inv.verb]
	if err := c.call(http.MethodPost, "/v1/patrick/jobs/"+url.PathEscape(id)+"/"+inv.verb, nil, nil); err != nil {
		return err
	}
	return told(inv, map[string]any{"job": id, "done": done}, "job "+id+" is "+done)
}

func logsCommand() command {
	return command{
		name: "logs", args: "[JOB]", summary: "print the log of a build, by default of the newest",
		maxArgs: 1, noJSON: true,
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			follow := fs.Bool("f", false, "go on as the build does")
			attempt := fs.Int("attempt", 0, "which attempt, from 1 (default: the last)")
			return asking(fs, func(inv *invocation, c *api) error {
				var id string
				if len(inv.args) == 1 {
					id = inv.args[0]
				} else {
					var page patrick.Page
					if err := c.call(http.MethodGet, "/v1/patrick/jobs?limit=1", nil, &page); err != nil {
						return err
					}
					if len(page.Jobs) == 0 {
						return fmt.Errorf("%w: nothing was built yet", taubyte.ErrNotFound)
					}
					id = string(page.Jobs[0].ID)
				}
				path := fmt.Sprintf("/v1/patrick/jobs/%s/logs?follow=%t", url.PathEscape(id), *follow)
				if *attempt > 0 {
					path += fmt.Sprintf("&attempt=%d", *attempt)
				}
				resp, err := c.stream(http.MethodGet, path, nil)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				_, err = io.Copy(inv.out, resp.Body)
				return err
			})
		},
	}
}
