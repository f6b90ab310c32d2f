package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte/internal/pathtemplate"
)

// Limits of what is compared: a few files can ask for very many routes.
const (
	maxRoutes      = 200_000
	maxComparisons = 10_000_000
)

// across holds the resources of the whole project to the rules that span files. The
// first scope is the project's own. Of two files that conflict the later one is at fault.
func (c *compiler) across(scopes []*scope) {
	c.ids(scopes)
	c.hosts(scopes)
	c.routes(scopes)
	for _, s := range scopes {
		c.names(s)
		c.channels(s)
		c.protocols(s, scopes)
	}
}

// in lists the resources of a group in a scope, by name.
func (s *scope) in(group string) []*resource {
	var list []*resource
	for _, name := range slices.Sorted(maps.Keys(s.resources[group])) {
		list = append(list, s.resources[group][name])
	}
	return list
}

// built are the groups whose resources have something built for them, which is kept by
// the resource's id, whatever its group is.
var built = []string{groupFunctions, groupLibraries, groupSmartOps, groupWebsites}

// ids finds ids that stand twice in a project.
func (c *compiler) ids(scopes []*scope) {
	type key struct{ group, id string }
	first := map[key]*resource{}
	for _, s := range scopes {
		for _, group := range slices.Sorted(maps.Keys(s.resources)) {
			for _, r := range s.in(group) {
				k := key{group, r.id}
				if slices.Contains(built, group) {
					k.group = ""
				}
				if other := first[k]; other == nil {
					first[k] = r
				} else if r.id != "" {
					r.fault(r.at("id"), "has the id of "+other.said(), "each resource of a project has an id of its own")
				}
			}
		}
	}
}

// said is how faults name a resource: its file without the ending.
func (r *resource) said() string { return strings.TrimSuffix(r.path, ".yaml") }

// hosts finds host names that stand twice.
func (c *compiler) hosts(scopes []*scope) {
	first := map[string]*resource{}
	for _, s := range scopes {
		for _, r := range s.in(groupDomains) {
			name, _ := r.object["fqdn"].(string)
			if other := first[name]; other == nil {
				first[name] = r
			} else if name != "" {
				r.fault(r.at("fqdn"), fmt.Sprintf("fqdn is %s, which is that of %s", name, other.said()),
					"keep one of the two: functions and websites of any application may name a domain of the project")
			}
		}
	}
}

// served is a path that a resource has on a host.
type served struct {
	*resource
	node     *yaml.Node
	path     *pathtemplate.Template
	methods  []string
	wildcard bool
	website  bool
}

func (x *served) said() string {
	if x.website {
		return fmt.Sprintf("%s (%s)", x.resource.said(), x.path)
	}
	return fmt.Sprintf("%s (%s %s)", x.resource.said(), strings.Join(x.methods, ", "), x.path)
}

// routes finds functions and websites that are in each other's place.
func (c *compiler) routes(scopes []*scope) {
	hosts := map[string][]*served{}
	left := maxRoutes
	add := func(r *resource, x *served) bool {
		for _, d := range r.domains {
			name, _ := d.object["fqdn"].(string)
			if name == "" {
				continue // which was said
			}
			if left -= len(x.methods); left < 0 {
				r.fault(x.node, fmt.Sprintf("is beyond the %d routes that a project may have (each method of each path on each domain is one)", maxRoutes), "")
				return false
			}
			hosts[name] = append(hosts[name], x)
		}
		return true
	}
	for _, s := range scopes {
		for _, r := range s.in(groupFunctions) {
			f := Function{}
			f.Method, _ = r.object["method"].(string)
			f.Methods, _ = r.object["methods"].([]string)
			list, _ := r.object["paths"].([]string)
			for i, text := range list {
				p, err := pathtemplate.Parse(text)
				if err != nil {
					continue
				}
				_, literal := p.Literal()
				if !add(r, &served{r, r.item(i, "trigger.paths"), p, f.AllMethods(), !literal, false}) {
					return
				}
			}
		}
		for _, r := range s.in(groupWebsites) {
			list, _ := r.object["paths"].([]string)
			for i, text := range list {
				if !pathtemplate.IsTemplate(text) && !add(r, &served{r, r.item(i, "paths", "source.paths"), pathtemplate.Prefix(strings.TrimRight(text, "/")), []string{"GET"}, true, true}) {
					return
				}
			}
		}
	}
	said := map[[2]*yaml.Node]bool{}
	budget := maxComparisons
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		if !c.host(name, hosts[name], said, &budget) {
			return
		}
	}
}

// host compares what is served on one host. Paths without wildcards conflict only where
// they are the same; for others each is held to each, as far as the budget goes.
func (c *compiler) host(name string, all []*served, said map[[2]*yaml.Node]bool, budget *int) bool {
	type key struct{ method, path string }
	literals := map[key]*served{}
	var wild []*served
	fault := func(x, other *served, message, hint string) {
		if pair := [2]*yaml.Node{x.node, other.node}; !said[pair] {
			said[pair] = true
			x.fault(x.node, message, hint)
		}
	}
	for _, x := range all {
		if x.wildcard {
			wild = append(wild, x)
			continue
		}
		path, _ := x.path.Literal()
		for _, method := range x.methods {
			k := key{method, path}
			if other := literals[k]; other == nil {
				literals[k] = x
			} else if other.resource != x.resource {
				fault(x, other, fmt.Sprintf("%s %s on %s is that of %s", method, path, name, other.said()), "one function answers a method and path of a domain")
			}
		}
	}
	for i, x := range wild {
		for _, other := range wild[:i] {
			if *budget--; *budget < 0 {
				x.fault(x.node, fmt.Sprintf("is beyond the paths with wildcards and of websites that are compared with each other (%d comparisons)", maxComparisons), "")
				return false
			}
			switch conflict(x, other) {
			case pathtemplate.Equivalent:
				if x.resource != other.resource {
					fault(x, other, fmt.Sprintf("%s on %s has the paths of %s", x.path, name, other.said()), "a path has one resource for each method")
				}
			case pathtemplate.Overlaps:
				fault(x, other, fmt.Sprintf("%s on %s conflicts with %s: some paths are of both, and neither is the more specific", x.path, name, other.said()),
					"the rules are those of Go's http.ServeMux")
			}
		}
		if slices.Contains(x.methods, "HEAD") && !slices.Contains(x.methods, "GET") {
			for _, other := range all { // a GET without wildcards, which has HEAD as well
				if *budget--; !other.wildcard && *budget > 0 && conflict(x, other) == pathtemplate.Overlaps {
					fault(x, other, fmt.Sprintf("HEAD %s on %s conflicts with %s, which has HEAD as well", x.path, name, other.said()), "the rules are those of Go's http.ServeMux")
				}
			}
		}
	}
	return true
}

// conflict is the relation of what two resources serve, by method and path: Equivalent
// and Overlaps are conflicts.
func conflict(a, b *served) pathtemplate.Relation {
	paths := pathtemplate.Compare(a.path, b.path)
	if paths == pathtemplate.Disjoint {
		return paths
	}
	worst := pathtemplate.Disjoint
	for _, m := range a.methods {
		for _, n := range b.methods {
			methods := pathtemplate.Disjoint
			switch {
			case m == n:
				methods = pathtemplate.Equivalent
			case m == "GET" && n == "HEAD":
				methods = pathtemplate.MoreGeneral
			case m == "HEAD" && n == "GET":
				methods = pathtemplate.MoreSpecific
			}
			switch r := pathtemplate.Combine(methods, paths); r {
			case pathtemplate.Equivalent:
				return r
			case pathtemplate.Overlaps:
				worst = r
			}
		}
	}
	return worst
}

// names finds what is opened or called by name and would hide another of its scope, or is
// hidden by what the project has: of protocols, commands and channels the project's own
// is found first, where an application's stores are found before the project's.
func (c *compiler) names(s *scope) {
	unique := func(group, at string, projectFirst bool, key func(*resource) string) {
		first := map[string]*resource{}
		if projectFirst && s.parent != nil {
			for _, r := range s.parent.in(group) {
				first[key(r)] = r
			}
		}
		for _, r := range s.in(group) {
			k := key(r)
			switch other := first[k]; {
			case k == "":
			case other == nil:
				first[k] = r
			case s.resources[group][other.name] == other:
				r.fault(r.at(at), fmt.Sprintf("%s is that of %s", at, other.said()), "only one of them would ever be found")
			default:
				r.report(r.at(at), Warning, fmt.Sprintf("%s is that of %s and has no effect", at, other.said()), "what the project has is found first")
			}
		}
	}
	match := func(flag string) func(*resource) string {
		return func(r *resource) string {
			text, _ := r.object["match"].(string)
			if text == "" {
				return ""
			}
			return fmt.Sprint(r.object[flag] == true, " ", text)
		}
	}
	unique(groupDatabases, "match", false, match("useRegex"))
	unique(groupStorages, "match", false, match("useRegex"))
	unique(groupServices, "protocol", true, func(r *resource) string { text, _ := r.object["protocol"].(string); return text })
	unique(groupFunctions, "trigger.command", true, func(r *resource) string {
		service, command := r.command()
		if service == "" || command == "" {
			return ""
		}
		return service + " " + command
	})
	if s.parent != nil { // in one scope several messaging resources may share a channel
		hidden := match("regex")
		for _, r := range s.in(groupMessaging) {
			for _, other := range s.parent.in(groupMessaging) {
				if k := hidden(r); k != "" && k == hidden(other) {
					r.report(r.at("channel.match"), Warning, fmt.Sprintf("channel.match is that of %s and has no effect", other.said()), "what the project has is found first")
				}
			}
		}
	}
}

// command is what a function of the type p2p answers.
func (r *resource) command() (service, command string) {
	if r.object["type"] == TriggerP2P {
		service, _ = r.object["service"].(string)
		command, _ = r.object["command"].(string)
	}
	return service, command
}

// protocols warns of functions that no command can reach. A function of the project
// serves the services of applications as well.
func (c *compiler) protocols(s *scope, scopes []*scope) {
	for _, r := range s.in(groupFunctions) {
		protocol, _ := r.command()
		if protocol == "" {
			continue
		}
		reached := false
		for _, from := range scopes {
			if s.parent != nil && from != s && from != s.parent {
				continue
			}
			for _, service := range from.in(groupServices) {
				reached = reached || service.object["protocol"] == protocol
			}
		}
		if !reached {
			n := r.at("trigger.protocol")
			if n == nil {
				n = r.at("trigger.service")
			}
			r.report(n, Warning, fmt.Sprintf("no service has the protocol %q: the function is never called", protocol), "add services/<name>.yaml with protocol: "+protocol)
		}
	}
}

// channels warns of functions that no message can reach.
func (c *compiler) channels(s *scope) {
	for _, r := range s.in(groupFunctions) {
		channel, _ := r.object["channel"].(string)
		if r.object["type"] != TriggerPubSub || channel == "" {
			continue
		}
		reached := false
		for from := s; from != nil; from = from.parent {
			for _, m := range from.in(groupMessaging) {
				reached = reached || m.object["match"] == channel || m.matcher != nil && m.matcher.MatchString(channel)
			}
		}
		if !reached {
			r.report(r.at("trigger.channel"), Warning, fmt.Sprintf("no messaging has the channel %q: the function is never called", channel), "add messaging/<name>.yaml with channel.match: "+channel)
		}
	}
}
