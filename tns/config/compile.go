package config

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/pathtemplate"
)

// Option changes how a configuration is compiled.
type Option func(*options)

type options struct {
	cloud string
}

// WithCloud names the cloud that compiles: the entry of that name under "clouds"
// in config.yaml gives the project its account and plan there. By default none
// does.
func WithCloud(fqdn string) Option { return func(o *options) { o.cloud = fqdn } }

// Compile reads the configuration at the root of fsys and returns what it says, or
// nil where a diagnostic is an error. It reports every fault at once and never
// panics, whatever the files hold.
func Compile(fsys fs.FS, opts ...Option) (*Project, Diagnostics) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	c := &compiler{fsys: fsys, options: o, schema: groups()}
	object := c.project()
	c.faults.sort()
	if c.faults.HasErrors() {
		return nil, c.faults
	}
	p, err := typed(object)
	if err != nil {
		// The schema and the model are two texts about one thing.
		c.faults = append(c.faults, Diagnostic{File: "config.yaml", Severity: Error, Message: err.Error()})
		return nil, c.faults
	}
	return p, c.faults
}

type compiler struct {
	options
	fsys   fs.FS
	schema map[string][]field
	faults Diagnostics
	files  int
}

// scope is the project or an application while it is compiled.
type scope struct {
	dir       string
	parent    *scope
	resources map[string]map[string]*resource // group, name
}

type resource struct {
	*file
	name    string
	id      string
	object  map[string]any
	domains []*resource    // that it names, once they are linked
	matcher *regexp.Regexp // of messaging whose match is one
}

func (c *compiler) project() map[string]any {
	f := open(c.fsys, "config.yaml", &c.faults)
	object := f.read(append(projectFields(), field{at: "clouds", parse: anything}, field{at: "egress.allow", parse: anything}))
	c.cloudOf(f, object)
	c.egressOf(f, object)
	global := c.scope(".", nil)
	var apps []*scope
	appObjects := map[string]any{}
	ids := map[string]string{} // of applications
	for _, e := range c.dir("applications") {
		if !e.IsDir() {
			continue
		}
		dir := path.Join("applications", e.Name())
		af := open(c.fsys, path.Join(dir, "config.yaml"), &c.faults)
		app := af.read(common())
		app["name"] = e.Name()
		id, _ := app["id"].(string)
		if other, taken := ids[id]; taken && id != "" {
			af.fault(af.at("id"), fmt.Sprintf("has the id of application %s", other), "each application has an id of its own")
		}
		ids[id] = e.Name()
		delete(app, "id")
		if len(c.dir(path.Join(dir, "applications"))) > 0 {
			af.fault(nil, "holds applications, which an application can't", "")
		}
		s := c.scope(dir, global)
		apps = append(apps, s)
		appObjects[id] = app
		c.finish(s, app)
	}
	c.finish(global, object)
	c.across(append([]*scope{global}, apps...))
	if len(apps) > 0 {
		object["applications"] = appObjects
	}
	return object
}

func anything(*yaml.Node) (any, string, string) { return nil, "", "" }

// cloudOf takes account and plan from the entry of the compiling cloud.
func (c *compiler) cloudOf(f *file, object map[string]any) {
	clouds, _ := f.find("clouds")
	if clouds == nil {
		return
	}
	if clouds.Kind != yaml.MappingNode {
		f.fault(clouds, "clouds must be a map, not "+kindName(clouds), "")
		return
	}
	for i := 0; i+1 < len(clouds.Content); i += 2 {
		name, entry := clouds.Content[i], resolve(clouds.Content[i+1])
		sub := &file{path: f.path, root: entry, faults: f.faults}
		if entry.Kind != yaml.MappingNode {
			f.fault(entry, "clouds."+name.Value+" must be a map, not "+kindName(entry), "")
			continue
		}
		got := sub.read([]field{{at: "account", wire: "account", parse: some}, {at: "plan", wire: "plan", parse: some}})
		if len(got) == 1 {
			f.fault(entry, "clouds."+name.Value+" must have both account and plan, or neither", "")
		}
		if name.Value == c.cloud {
			maps.Copy(object, got)
		}
	}
}

func (c *compiler) dir(name string) []fs.DirEntry {
	entries, err := fs.ReadDir(c.fsys, name)
	if err != nil {
		return nil
	}
	return entries
}

// scope reads the resources of a project or an application.
func (c *compiler) scope(dir string, parent *scope) *scope {
	s := &scope{dir: dir, parent: parent, resources: map[string]map[string]*resource{}}
	for _, group := range slices.Sorted(maps.Keys(c.schema)) {
		s.resources[group] = map[string]*resource{}
		for _, e := range c.dir(path.Join(dir, group)) {
			at := path.Join(dir, group, e.Name())
			name, ok := strings.CutSuffix(e.Name(), ".yaml")
			switch {
			case e.IsDir():
				c.faults = append(c.faults, Diagnostic{File: at, Severity: Error, Message: "is a folder, where each file is a resource"})
				continue
			case strings.HasSuffix(e.Name(), ".yml"):
				c.faults = append(c.faults, Diagnostic{File: at, Severity: Warning, Message: "is not read", Hint: "name it " + strings.TrimSuffix(e.Name(), ".yml") + ".yaml"})
				continue
			case !ok || name == "":
				continue
			}
			if c.files++; c.files > maxFiles {
				c.faults = append(c.faults, Diagnostic{File: at, Severity: Error, Message: fmt.Sprintf("is beyond the %d files that are read", maxFiles)})
				return s
			}
			r := &resource{file: open(c.fsys, at, &c.faults), name: name}
			if r.broken {
				continue
			}
			r.object = r.read(c.schema[group])
			r.id, _ = r.object["id"].(string)
			c.check(group, r)
			s.resources[group][name] = r
		}
	}
	return s
}

// check holds a resource to the rules that span its fields, and projects what is
// written into what is compiled.
func (c *compiler) check(group string, r *resource) {
	o := r.object
	if n := r.at("name"); n != nil && n.Value != "" && n.Value != r.name {
		r.report(n, Warning, fmt.Sprintf("name is %q and has no effect: the file's name counts, %s", n.Value, r.name), "")
	}
	switch group {
	case groupFunctions:
		if t, _ := o["type"].(string); slices.Contains(isHTTP, t) {
			o["secure"] = t == TriggerHTTPS
			if one, _ := r.find("trigger.method"); one == nil {
				if several, near := r.find("trigger.methods"); several == nil {
					r.fault(near, "trigger.method is missing", "")
				}
			}
		}
		if o["local"] == true {
			r.report(r.at("trigger.local"), Warning, "trigger.local has no effect on a function", "write local: true in the messaging resource for messages that stay on their node")
		}
	case groupWebsites:
		checkOrigin(r)
		checkPrefixes(r)
	case groupLibraries:
		checkOrigin(r)
	case groupDomains:
		if o["cert-type"] == "inline" {
			for _, key := range []string{"cert", "key"} {
				if o[key+"-file"] == nil {
					r.fault(r.root, "certificate."+key+" is missing", "an inline certificate has both cert and key, as PEM text")
				}
			}
			break
		}
		for _, key := range []string{"cert", "key"} {
			if o[key+"-file"] != nil {
				r.report(r.at("certificate."+key), Warning, "certificate."+key+" has no effect while certificate.type is auto", "write type: inline to serve this certificate")
			}
		}
	case groupDatabases:
		if o["match"] == nil && o["useRegex"] != true {
			r.fault(r.root, "match is missing", "the name by which functions open the database")
		}
		checkSubnet(r, "the nodes that keep a database may be all (the default) or host, one node alone")
		for _, key := range []string{"type", "key"} {
			if text, _ := o["encryption-"+key].(string); text != "" {
				r.fault(r.at("encryption."+key), "encryption."+key+" is not offered: the database would be stored as it is", "leave encryption out, and encrypt in the function what must be")
			}
		}
		o["local"] = o["network-access"] == "host"
		if o["network-access"] != "subnet" {
			delete(o, "network-access")
		}
		checkRegexp(r, "match", o["useRegex"] == true)
	case groupStorages:
		checkStorage(r)
		checkSubnet(r, "leave it out: the functions of the project alone open a storage")
		if o["network-access"] == "host" {
			r.report(r.at("access.network"), Warning, "access.network has no effect on a storage", "the functions of the project alone open it, and as many nodes as the cloud asks for keep it")
		}
		o["public"] = o["network-access"] == "all"
		delete(o, "network-access")
		checkRegexp(r, "match", o["useRegex"] == true)
	case groupMessaging:
		if o["mqtt"] == true {
			r.fault(r.at("bridges.mqtt.enable"), "bridges.mqtt is not offered", "clients outside listen by bridges.websocket")
		}
		checkRegexp(r, "match", o["regex"] == true)
	}
}

// checkSubnet refuses a promise of place that nothing keeps.
func checkSubnet(r *resource, hint string) {
	if r.object["network-access"] == "subnet" {
		r.fault(r.at("access.network"), "access.network subnet is not offered", hint)
	}
}

// checkPrefixes holds the paths of a website to be places and no templates.
func checkPrefixes(r *resource) {
	list, _ := r.object["paths"].([]string)
	for i, p := range list {
		if pathtemplate.IsTemplate(p) {
			r.fault(r.item(i, "paths", "source.paths"), fmt.Sprintf("paths has %q, and a website's path has no wildcards", p), "a website has everything below its path")
		}
	}
}

func checkRegexp(r *resource, key string, is bool) {
	text, _ := r.object[key].(string)
	if !is || text == "" {
		return
	}
	var err error
	if r.matcher, err = regexp.Compile(text); err != nil {
		n, _ := r.find(key)
		if n == nil {
			n, _ = r.find("channel." + key)
		}
		r.fault(n, fmt.Sprintf("%s is no regular expression: %v", key, err), "")
	}
}

func checkStorage(r *resource) {
	o := r.object
	var kinds []string
	for _, kind := range []string{"object", "streaming"} {
		if n, _ := r.find(kind); n != nil {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) != 1 {
		r.fault(r.root, "a storage is either object or streaming", "write one of the two, with its size")
		return
	}
	kind := kinds[0]
	o["type"] = kind
	if bytes, ok := o[kind+"-size"]; ok {
		o["size"] = bytes
	} else if n, _ := r.find(kind + ".size"); n == nil {
		near, _ := r.find(kind)
		r.fault(near, kind+".size is missing", "")
	}
	delete(o, "object-size")
	delete(o, "streaming-size")
}

func checkOrigin(r *resource) {
	var named []string
	for _, p := range providers {
		n, _ := r.find("source." + p)
		if n == nil {
			continue
		}
		named = append(named, p)
		for _, key := range []string{"id", "fullname"} {
			if v, _ := r.find("source." + p + "." + key); v == nil {
				r.fault(n, "source."+p+"."+key+" is missing", "a repository at a provider is named by its id and its full name")
			}
		}
		r.object["provider"] = p
	}
	if len(named) > 1 {
		r.fault(r.root, "source names two providers: "+strings.Join(named, ", "), "")
	}
}

// finish resolves a scope's references and puts its resources into its object, by
// id.
func (c *compiler) finish(s *scope, object map[string]any) {
	for group, resources := range s.resources {
		byID := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(resources)) {
			r := resources[name]
			c.link(s, group, r)
			o := r.object
			o["name"] = r.name
			delete(o, "id")
			byID[r.id] = o
		}
		if len(byID) > 0 {
			object[group] = byID
		}
	}
}

// lookup finds a resource by name: in the scope, then in the project.
func (s *scope) lookup(group, name string) (*resource, bool) {
	for ; s != nil; s = s.parent {
		if r, found := s.resources[group][name]; found {
			return r, true
		}
	}
	return &resource{}, false
}

func (c *compiler) link(s *scope, group string, r *resource) {
	if names, ok := r.object["domains"].([]string); ok {
		ids := make([]string, 0, len(names))
		for i, name := range names {
			d, ok := s.lookup(groupDomains, name)
			if !ok {
				r.fault(r.item(i, "trigger.domains", "domains"), fmt.Sprintf("there is no domain %q", name), "add domains/"+name+".yaml, or correct the name")
			} else if !slices.Contains(r.domains, d) {
				r.domains = append(r.domains, d)
			}
			ids = append(ids, d.id)
		}
		r.object["domains"] = ids
	}
	if src, _ := r.object["source"].(string); src != "" && src != "." {
		name := strings.TrimPrefix(src, "libraries/")
		library, ok := s.lookup(groupLibraries, name)
		if !ok {
			n, _ := r.find("source")
			r.fault(n, fmt.Sprintf("there is no library %q", name), "add libraries/"+name+".yaml, or correct the name")
		}
		r.object["source"] = "libraries/" + library.id
	}
	tags, _ := r.object["tags"].([]string)
	var ops []string
	for i, tag := range tags {
		name, ok := strings.CutPrefix(tag, "smartops:")
		if !ok {
			continue
		}
		op, ok := s.lookup(groupSmartOps, name)
		if !ok {
			r.fault(r.item(i, "tags"), fmt.Sprintf("there is no smart operation %q", name), "add smartops/"+name+".yaml, or correct the name")
		}
		ops = append(ops, op.id)
	}
	if len(ops) > 0 {
		r.object["smartops"] = ops
	}
}

// item is the i-th node of a list that stands at one of the places.
func (r *resource) item(i int, places ...string) *yaml.Node {
	for _, at := range places {
		if n, _ := r.find(at); n != nil && i < len(n.Content) {
			return n.Content[i]
		}
	}
	return r.root
}

// typed turns the compiled object into the model. The keys of both are the same,
// but that resources are maps by id there and sorted lists here.
func typed(object map[string]any) (*Project, error) {
	flat := flatten(object)
	if apps, ok := flat["applications"].([]map[string]any); ok {
		for i := range apps {
			apps[i] = flatten(apps[i])
		}
	}
	raw, err := json.Marshal(flat)
	if err != nil {
		return nil, err
	}
	p := new(Project)
	if err := json.Unmarshal(raw, p); err != nil {
		return nil, err
	}
	p.object = object
	return p, nil
}

func flatten(object map[string]any) map[string]any {
	flat := maps.Clone(object)
	for key, v := range object {
		byID, ok := v.(map[string]any)
		if !ok {
			continue
		}
		list := make([]map[string]any, 0, len(byID))
		for id, r := range byID {
			fields, ok := r.(map[string]any)
			if !ok {
				continue
			}
			fields = maps.Clone(fields)
			fields["id"] = id
			list = append(list, fields)
		}
		slices.SortFunc(list, func(a, b map[string]any) int {
			return strings.Compare(fmt.Sprint(a["name"]), fmt.Sprint(b["name"]))
		})
		flat[key] = list
	}
	return flat
}

// Object returns the compiled object as other implementations of the schema write
// it: resources by id. Its values are strings, numbers (int64), booleans and lists
// of strings; what this package adds to the schema (timers, egress) is in it only
// where a project says it. It is nil for a project that Compile did not make.
func (p *Project) Object() map[string]any { return p.object }

// ApplicationByID returns an application of the project, or nil.
func (p *Project) ApplicationByID(id taubyte.ApplicationID) *Application {
	for i := range p.Applications {
		if p.Applications[i].ID == id {
			return &p.Applications[i]
		}
	}
	return nil
}
