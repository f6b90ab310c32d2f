package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
)

// nodeFlags collects --node flags.
type nodeFlags []cloud.NodeSpec

func (n *nodeFlags) String() string { return "" }

// Set reads NAME=SERVICE,SERVICE…[@PORT].
func (n *nodeFlags) Set(s string) error {
	name, services, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("%q is not NAME=SERVICE,SERVICE", s)
	}
	spec := cloud.NodeSpec{Name: name}
	services, spec.Listen, _ = strings.Cut(services, "@")
	if services == "all" {
		spec.Services = taubyte.Roles()
	} else {
		for _, service := range strings.Split(services, ",") {
			r, err := taubyte.ParseRole(service)
			if err != nil {
				return err
			}
			spec.Services = append(spec.Services, r)
		}
	}
	*n = append(*n, spec)
	return nil
}

func initCommand() command {
	return command{
		name: "init", args: "DIR", summary: "make a network: keys, memberships and a configuration for each of its nodes",
		minArgs: 1, maxArgs: 1,
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			var nodes nodeFlags
			fs.Var(&nodes, "node", "a node, as NAME=SERVICE,SERVICE…[@MULTIADDR]; may be repeated (default node=all)\n"+
				"\"all\" stands for all services; MULTIADDR is where it listens for the others, by default on loopback")
			zone := fs.String("zone", "", "the DNS zone in which host names are generated")
			development := fs.Bool("development", false, "for this machine only: take every host name as owned, generate names under localhost")
			return func(inv *invocation) error {
				if len(nodes) == 0 {
					nodes = nodeFlags{{Name: "node", Services: taubyte.Roles()}}
				}
				for i := range nodes {
					place(&nodes[i], i)
				}
				if err := cloud.InitNetwork(inv.args[0], nodes, *zone, *development); err != nil {
					return err
				}
				return report(inv, nodes)
			}
		},
	}
}

// place gives a node the addresses that the command line left open: on loopback,
// ten ports apart.
func place(n *cloud.NodeSpec, i int) {
	if n.Listen == "" {
		n.Listen = fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", 4001+10*i)
	}
	n.API = fmt.Sprintf("127.0.0.1:%d", 4002+10*i)
	if slices.Contains(n.Services, taubyte.RoleGateway) {
		n.HTTP = fmt.Sprintf("127.0.0.1:%d", 8080+10*i)
	}
}

func report(inv *invocation, nodes []cloud.NodeSpec) error {
	type made struct {
		Name   string `json:"name"`
		Config string `json:"config"`
	}
	var all []made
	for _, n := range nodes {
		all = append(all, made{n.Name, filepath.Join(inv.args[0], n.Name, "taubyte.yaml")})
	}
	if inv.asJSON {
		return inv.json(map[string]any{"nodes": all})
	}
	for _, n := range all {
		fmt.Fprintf(inv.out, "%s: taubyte start --config %s\n", n.Name, n.Config)
	}
	return nil
}
