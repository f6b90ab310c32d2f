package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/cloud"
)

func memberCommand() command {
	return command{
		name: "member", args: "list | add NAME --roles ROLE,ROLE… | renew NAME | revoke NAME",
		summary: "list, add, renew or revoke nodes of the network, at a node that runs auth; a node is named by its name or peer ID",
		verbs:   []string{"list", "add NAME", "renew NAME", "revoke NAME"},
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			roles := fs.String("roles", "", "with add: what the node will run")
			valid := fs.Duration("valid", auth.DefaultInvitation, "with add: how long the token is good")
			out := fs.String("out", "membership", "with renew: the file that the membership is written to")
			return asking(fs, func(inv *invocation, c *api) error {
				if inv.verb == "list" {
					return list(inv, c, "/v1/auth/members", []string{"NAME", "STATE", "ROLES", "SINCE", "UNTIL", "PEER", ""}, memberRow)
				}
				who := inv.args[0]
				switch inv.verb {
				case "add":
					return addMember(inv, c, who, *roles, *valid)
				case "renew":
					return renewMember(inv, c, who, *out)
				}
				if err := c.call(http.MethodDelete, "/v1/auth/members/"+url.PathEscape(who), nil, nil); err != nil {
					return err
				}
				return told(inv, map[string]any{"revoked": who}, who+" is revoked")
			})
		},
	}
}

// told prints what was done.
func told(inv *invocation, asJSON map[string]any, text string) error {
	if inv.asJSON {
		return inv.json(asJSON)
	}
	_, err := fmt.Fprintln(inv.out, text)
	return err
}

func memberRow(m auth.Member) [][]string {
	var roles []string
	for _, r := range m.Roles {
		roles = append(roles, string(r))
	}
	until, id := "", ""
	if !m.Until.IsZero() {
		until = m.Until.Local().Format(time.DateTime)
	}
	if m.Peer != "" {
		id = m.Peer.String()
	}
	return [][]string{{m.Name, string(m.State), strings.Join(roles, ","), m.Since.Local().Format(time.DateTime), until, id, m.Conflict}}
}

func addMember(inv *invocation, c *api, name, roles string, valid time.Duration) error {
	var all []taubyte.Role
	for _, text := range strings.Split(roles, ",") {
		r, err := taubyte.ParseRole(text)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	var i auth.Invitation
	in := map[string]any{"name": name, "roles": all, "valid": valid}
	if err := c.call(http.MethodPost, "/v1/auth/members", in, &i); err != nil {
		return err
	}
	if inv.asJSON {
		return inv.json(i)
	}
	fmt.Fprintf(inv.err, "%s joins with this token, once, until %s. It is secret: on its machine, run \"taubyte join -\" and paste it.\n", i.Name, i.Ends.Local().Format(time.DateTime))
	_, err := fmt.Fprintln(inv.out, i.Token)
	return err
}

func renewMember(inv *invocation, c *api, who, out string) error {
	var signed []byte
	if err := c.call(http.MethodPost, "/v1/auth/members/"+url.PathEscape(who)+"/renewal", nil, &signed); err != nil {
		return err
	}
	if err := os.WriteFile(out, signed, 0o600); err != nil {
		return err
	}
	return told(inv, map[string]any{"renewed": who, "membership": out},
		fmt.Sprintf("%s holds a new membership of %s: put it in the place of the one that its configuration names", out, who))
}

func joinCommand() command {
	return command{
		name: "join", args: "TOKEN", summary: "make a new node of a running network, with a token of \"taubyte member add\" (\"-\" reads it from standard input)",
		minArgs: 1, maxArgs: 1,
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			var spec cloud.NodeSpec
			data := fs.String("data", "node", "the folder that is made for the node")
			fs.StringVar(&spec.Listen, "listen", "", "the multiaddr that it listens on and the others dial (default /ip4/127.0.0.1/tcp/4001)")
			fs.StringVar(&spec.HTTP, "http", "", "with gateway: the address for users (default 127.0.0.1:8080)")
			fs.StringVar(&spec.API, "api", "", "the address of its API (default 127.0.0.1:4002)")
			return func(inv *invocation) error {
				token := inv.args[0]
				if token == "-" {
					text, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<16))
					if err != nil {
						return err
					}
					token = string(text)
				}
				made, err := cloud.JoinNetwork(inv.ctx, token, *data, spec)
				if err != nil {
					return err
				}
				config := filepath.Join(*data, "taubyte.yaml")
				return told(inv, map[string]any{"name": made.Name, "roles": made.Services, "config": config},
					fmt.Sprintf("%s is a member: taubyte start --config %s", made.Name, config))
			}
		},
	}
}
