package config

import (
	"slices"
	"strings"

	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multihash"

	"github.com/taubyte/taubyte"
)

// Indexes returns the look-up entries that other implementations of the schema keep
// beside the object, for one branch.
func (p *Project) Indexes(branch taubyte.Branch) map[string]any {
	x := indexer{project: p, at: "branches/" + string(branch) + "/projects/" + string(p.ID), out: map[string]any{}}
	x.scope("", p.Resources)
	for _, a := range p.Applications {
		x.scope(a.ID, a.Resources)
	}
	return x.out
}

type indexer struct {
	project *Project
	at      string
	out     map[string]any
}

// The kinds of repositories in the index.
const (
	kindLibrary = 3
	kindWebsite = 4
)

func (x *indexer) link(key, value string) {
	links, _ := x.out[key].([]string)
	if !slices.Contains(links, value) {
		x.out[key] = append(links, value)
	}
}

func (x *indexer) scope(app taubyte.ApplicationID, r Resources) {
	at, wasm, named := x.at, "wasm/project/"+string(x.project.ID), "projects/"+string(x.project.ID)
	if app != "" {
		at += "/applications/" + string(app)
		wasm += "/application/" + string(app)
		named += "/applications/" + string(app)
	}
	value := func(group string, id taubyte.ResourceID) string { return at + "/" + group + "/" + string(id) }
	module := func(group string, c Common) {
		x.link(wasm+"/modules/"+group+"/"+c.Name+"/links", value(group, c.ID))
	}
	hosts := func(kind string, domains []taubyte.ResourceID, v string) {
		for _, id := range domains {
			for _, d := range slices.Concat(r.Domains, x.project.Domains) {
				if d.ID == id {
					x.link("http/"+kind+"/"+reversed(d.FQDN)+"/links", v)
				}
			}
		}
	}
	for _, d := range r.Domains {
		x.out["domains/"+reversed(d.FQDN)+"/links"] = nil
	}
	for _, f := range r.Functions {
		module(groupFunctions, f.Common)
		hosts(groupFunctions, f.Domains, value(groupFunctions, f.ID))
	}
	for _, w := range r.Websites {
		hosts(groupWebsites, w.Domains, value(groupWebsites, w.ID))
		x.repository(w.Origin, kindWebsite, w.ID, value(groupWebsites, w.ID))
	}
	for _, l := range r.Libraries {
		module(groupLibraries, l.Common)
		x.out["libraries/"+string(l.ID)] = l.Name
		x.repository(l.Origin, kindLibrary, l.ID, value(groupLibraries, l.ID))
	}
	for _, s := range r.SmartOps {
		module(groupSmartOps, s.Common)
	}
	for _, d := range r.Databases {
		x.link(named+"/"+d.Name+"/links", value(groupDatabases, d.ID))
	}
	for _, s := range r.Storages {
		x.link(named+"/"+s.Name+"/links", value(groupStorages, s.ID))
	}
	for _, m := range r.Messaging {
		x.link("p2p/pubsub/"+hash(string(x.project.ID)+string(app)), value(groupMessaging, m.ID))
	}
}

func (x *indexer) repository(o Origin, kind int, id taubyte.ResourceID, value string) {
	if o.Provider == "" {
		return
	}
	at := "repositories/" + o.Provider + "/" + o.RepositoryID + "/" + string(x.project.ID)
	x.out[at+"/type"] = kind
	x.out[at+"/resources/"+string(id)] = value
}

// reversed writes a host name from the top: "test/example/www".
func reversed(fqdn string) string {
	labels := strings.Split(strings.ToLower(fqdn), ".")
	slices.Reverse(labels)
	return strings.Join(labels, "/")
}

// hash is base58 of the sha2-256 multihash of a text.
func hash(s string) string {
	sum, err := multihash.Sum([]byte(s), multihash.SHA2_256, -1)
	if err != nil {
		panic(err) // sha2-256 is always there
	}
	return base58.Encode(sum)
}
