package tns

import (
	"hash/maphash"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/pathtemplate"
	"github.com/taubyte/taubyte/tns/config"
)

// shards of an index: a change copies the shards of the hosts that it touches and
// shares the others.
const shards = 256

// index is what Lookup reads: immutable, replaced as a whole.
type index struct {
	seed   maphash.Seed
	shards [shards]map[string]*hostEntry
}

func newIndex() *index { return &index{seed: maphash.MakeSeed()} }

func (x *index) shard(host string) uint64 { return maphash.String(x.seed, host) % shards }

func (x *index) host(host string) *hostEntry { return x.shards[x.shard(host)][host] }

// hostEntry is one host name: all who claim it, the strongest first, whose site it
// leads to.
type hostEntry struct {
	claims []claimant
}

type claimant struct {
	branchKey
	claim HostClaim
	site  *site
}

func (e *hostEntry) site() *site { return e.claims[0].site }

// with returns the entry with a branch's claim in place of the one it had; a nil
// site takes the claim away. It returns nil when nobody is left.
func (e *hostEntry) with(c claimant) *hostEntry {
	next := &hostEntry{}
	if e != nil {
		next.claims = slices.DeleteFunc(slices.Clone(e.claims), func(o claimant) bool { return o.branchKey == c.branchKey })
	}
	if c.site != nil {
		next.claims = append(next.claims, c)
		sortClaims(next.claims, func(c *claimant) (branchKey, *HostClaim) { return c.branchKey, &c.claim })
	}
	if len(next.claims) == 0 {
		return nil
	}
	return next
}

// editor makes the next index from one.
type editor struct {
	*index
	own [shards]bool // copied already
}

func (x *index) edit() *editor {
	next := *x
	return &editor{index: &next}
}

func (e *editor) put(host string, entry *hostEntry) {
	n := e.shard(host)
	if !e.own[n] {
		e.own[n] = true
		if e.shards[n] = maps.Clone(e.shards[n]); e.shards[n] == nil {
			e.shards[n] = map[string]*hostEntry{}
		}
	}
	if entry == nil {
		delete(e.shards[n], host)
	} else {
		e.shards[n][host] = entry
	}
}

// set replaces what a branch contributes. before are the hosts that it had; the
// hosts that it has now are returned.
func (e *editor) set(k branchKey, before []string, c *Change) (now []string) {
	if c != nil && c.Deployment != nil {
		sites := newSites(c.Deployment)
		for _, claim := range c.Hosts {
			s := sites[claim.Domain]
			if s == nil {
				s = &site{} // the name is the project's all the same: nobody else serves it
			}
			e.put(claim.Host, e.host(claim.Host).with(claimant{k, claim, s}))
			now = append(now, claim.Host)
		}
	}
	has := make(map[string]bool, len(now))
	for _, host := range now {
		has[host] = true
	}
	for _, host := range before {
		if !has[host] {
			e.put(host, e.host(host).with(claimant{branchKey: k}))
		}
	}
	return now
}

// site is what one domain of a deployment serves.
type site struct {
	exact     map[string]*pathEntry
	templates map[string]*pathtemplate.Tree[templateRoute] // by method; nil for most sites
	prefixes  []prefixRoute                                // of websites, the longest first
}

// pathEntry is what functions serve at one path.
type pathEntry struct {
	methods []methodRoute
	allow   string
}

type methodRoute struct {
	method string
	route  *Route
}

type prefixRoute struct {
	prefix   string // without the slash at its end; "" is the whole host
	template *pathtemplate.Template
	route    *Route
}

// templateRoute is what a function serves at a path with wildcards.
type templateRoute struct {
	template *pathtemplate.Template
	route    *Route
}

// newSites builds the site of every domain of a deployment.
func newSites(d *Deployment) map[taubyte.ResourceID]*site {
	sites := map[taubyte.ResourceID]*site{}
	c := d.Config()
	if c == nil {
		return sites
	}
	add := func(app taubyte.ApplicationID, r *config.Resources) {
		base := Route{Project: d.Project, Application: app, Branch: d.Branch, Commit: d.Commit(), Deployment: d}
		for i := range r.Functions {
			f := &r.Functions[i]
			if f.Type != config.TriggerHTTP && f.Type != config.TriggerHTTPS {
				continue
			}
			route := base
			route.Resource, route.Function = f.ID, f
			module := f.ID
			if id, ok := strings.CutPrefix(f.Source, "libraries/"); ok {
				module = taubyte.ResourceID(id)
			}
			route.Asset, _ = d.Asset(module)
			for _, id := range f.Domains {
				siteOf(sites, id).function(f, &route)
			}
		}
		for i := range r.Websites {
			w := &r.Websites[i]
			for _, path := range w.Paths {
				route := base
				route.Resource, route.Website = w.ID, w
				route.Prefix = strings.TrimRight(path, "/")
				route.Asset, _ = d.Asset(w.ID)
				for _, id := range w.Domains {
					s := siteOf(sites, id)
					s.prefixes = append(s.prefixes, prefixRoute{route.Prefix, pathtemplate.Prefix(route.Prefix), &route})
				}
			}
		}
	}
	add("", &c.Resources)
	for i := range c.Applications {
		add(c.Applications[i].ID, &c.Applications[i].Resources)
	}
	for _, s := range sites {
		s.finish()
	}
	return sites
}

func siteOf(sites map[taubyte.ResourceID]*site, id taubyte.ResourceID) *site {
	s, ok := sites[id]
	if !ok {
		s = &site{exact: map[string]*pathEntry{}}
		sites[id] = s
	}
	return s
}

func (s *site) function(f *config.Function, r *Route) {
	for _, path := range f.Paths {
		if pathtemplate.IsTemplate(path) {
			t, err := pathtemplate.Parse(path)
			if err != nil {
				continue // no configuration that was compiled has one
			}
			literal, ok := t.Literal()
			if !ok {
				s.template(f, t, r)
				continue
			}
			path = literal
		}
		e, ok := s.exact[path]
		if !ok {
			e = &pathEntry{}
			s.exact[path] = e
		}
		for _, method := range f.AllMethods() {
			if !slices.ContainsFunc(e.methods, func(m methodRoute) bool { return m.method == method }) {
				e.methods = append(e.methods, methodRoute{method, r})
			}
		}
	}
}

func (s *site) template(f *config.Function, t *pathtemplate.Template, r *Route) {
	if s.templates == nil {
		s.templates = map[string]*pathtemplate.Tree[templateRoute]{}
	}
	for _, method := range f.AllMethods() {
		tree := s.templates[method]
		if tree == nil {
			tree = &pathtemplate.Tree[templateRoute]{}
			s.templates[method] = tree
		}
		tree.Put(t, templateRoute{t, r})
	}
}

func (s *site) finish() {
	slices.SortStableFunc(s.prefixes, func(a, b prefixRoute) int { return len(b.prefix) - len(a.prefix) })
	for path, e := range s.exact {
		var allow []string
		if s.websiteAt(path) != nil {
			allow = append(allow, "GET", "HEAD")
		}
		for _, m := range e.methods {
			allow = append(allow, m.method)
			if m.method == "GET" {
				allow = append(allow, "HEAD")
			}
		}
		slices.Sort(allow)
		e.allow = strings.Join(slices.Compact(allow), ", ")
	}
}

const websiteAllow = "GET, HEAD"

// match finds what a site has at a path.
func (s *site) match(path, method string) Match {
	e, ok := s.exact[path]
	if ok {
		if r := e.route(method); r != nil {
			return Match{Route: r}
		}
	}
	if s.templates != nil {
		return s.matchTemplates(path, method)
	}
	if ok {
		// A website at this very path takes what the functions there do not.
		if s.websiteAt(path) == nil || !isRead(method) {
			return Match{Status: NoMethod, Allow: e.allow}
		}
	}
	r := s.website(path)
	switch {
	case r == nil:
		return Match{Status: NoPath}
	case !isRead(method):
		return Match{Status: NoMethod, Allow: websiteAllow}
	}
	return Match{Route: r}
}

func isRead(method string) bool { return method == "GET" || method == "HEAD" }

// route finds a method's function; HEAD falls back on GET, whose answer it is
// without a body.
func (e *pathEntry) route(method string) *Route {
	var get *Route
	for i := range e.methods {
		switch e.methods[i].method {
		case method:
			return e.methods[i].route
		case "GET":
			get = e.methods[i].route
		}
	}
	if method == "HEAD" {
		return get
	}
	return nil
}

// websiteAt finds the one whose own path that is.
func (s *site) websiteAt(path string) *Route {
	if r := s.website(path); r != nil && r.Prefix == strings.TrimRight(path, "/") {
		return r
	}
	return nil
}

// website finds the one with the longest prefix, which ends where a path element
// does.
func (s *site) website(path string) *Route {
	if w := s.websiteRoute(path); w != nil {
		return w.route
	}
	return nil
}

func (s *site) websiteRoute(path string) *prefixRoute {
	for i := range s.prefixes {
		p := s.prefixes[i].prefix
		if strings.HasPrefix(path, p) && (len(path) == len(p) || path[len(p)] == '/') {
			return &s.prefixes[i]
		}
	}
	return nil
}

// RequestPath is the path of a URL as Lookup takes it: decoded, but for slashes that
// are data and no separators, which stay %2F (RFC 3986, 2.2).
func RequestPath(u *url.URL) string {
	if u.RawPath == "" || !strings.Contains(u.RawPath, "%2F") && !strings.Contains(u.RawPath, "%2f") {
		return u.Path
	}
	parts := strings.Split(strings.ReplaceAll(u.EscapedPath(), "%2f", "%2F"), "%2F")
	for i, part := range parts {
		if decoded, err := url.PathUnescape(part); err == nil {
			parts[i] = decoded
		}
	}
	return strings.Join(parts, "%2F")
}

// Lookup finds where a request goes. host is that of the request: it may carry a
// port, and its case does not matter. path is RequestPath's. It does not allocate where
// it finds something.
//
// An exact host beats a wildcard ("*.example.com"). Of the paths on a host the most
// specific wins, by the rules of http.ServeMux: a path without wildcards beats
// "/items/{id}", that beats "/items/{rest...}", and a website is "<its path>/{rest...}",
// so that of websites the longest path wins. Where functions have the path with other
// methods alone, the status is NoMethod, unless a website has this very path as well.
func (t *Table) Lookup(host, path, method string) Match {
	e := t.index.Load().find(host)
	if e == nil {
		return Match{Status: NoHost}
	}
	return e.site().match(path, method)
}

// Owner returns the branch that a host leads to.
func (t *Table) Owner(host string) (project taubyte.ProjectID, branch taubyte.Branch, ok bool) {
	e := t.index.Load().find(host)
	if e == nil {
		return "", "", false
	}
	return e.claims[0].project, e.claims[0].branch, true
}

// find returns the entry of a request's host: its own, or that of a wildcard.
func (x *index) find(host string) *hostEntry {
	var buf [maxHost]byte
	name, ok := normalHost(host, buf[:0])
	if !ok {
		return nil
	}
	if e := x.shards[maphash.Bytes(x.seed, name)%shards][string(name)]; e != nil {
		return e
	}
	return x.wildcard(name)
}

// wildcard looks for "*.rest" of a name.
func (x *index) wildcard(name []byte) *hostEntry {
	for i, b := range name {
		if b == '.' {
			if i == 0 {
				return nil
			}
			name[i-1] = '*' // name is the caller's own copy
			rest := name[i-1:]
			return x.shards[maphash.Bytes(x.seed, rest)%shards][string(rest)]
		}
	}
	return nil
}

// maxHost is the longest DNS name, and a dot at its end.
const maxHost = 254

// normalHost copies a host into buf, in lower case, without port and final dot.
func normalHost(host string, buf []byte) ([]byte, bool) {
	if len(host) > maxHost+len(":65535") {
		return nil, false
	}
	for i := range len(host) {
		c := host[i]
		if c == ':' {
			break
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if len(buf) == cap(buf) {
			return nil, false
		}
		buf = append(buf, c)
	}
	if n := len(buf); n > 0 && buf[n-1] == '.' {
		buf = buf[:n-1]
	}
	return buf, len(buf) > 0
}

// Hosts are the hosts that lead somewhere, in no order; one may be a wildcard
// ("*.example.com").
func (t *Table) Hosts() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, shard := range t.index.Load().shards {
			for host := range shard {
				if !yield(host) {
					return
				}
			}
		}
	}
}

// Routes lists all routes that are in use.
func (t *Table) Routes() []RouteInfo {
	var all []RouteInfo
	x := t.index.Load()
	for _, shard := range x.shards {
		for host, e := range shard {
			s := e.site()
			for path, p := range s.exact {
				for _, m := range p.methods {
					all = append(all, RouteInfo{Host: host, Method: m.method, Path: path, Route: m.route})
				}
			}
			for method, tree := range s.templates {
				for t := range tree.All() {
					all = append(all, RouteInfo{Host: host, Method: method, Path: t.template.String(), Route: t.route})
				}
			}
			for _, p := range s.prefixes {
				all = append(all, RouteInfo{Host: host, Path: p.prefix + "/", Route: p.route})
			}
		}
	}
	slices.SortFunc(all, func(a, b RouteInfo) int {
		if c := strings.Compare(a.Host, b.Host); c != 0 {
			return c
		}
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return strings.Compare(a.Method, b.Method)
	})
	return all
}

// RouteInfo is a route and what leads to it.
type RouteInfo struct {
	Host   string
	Method string // "" for a website
	Path   string // may have wildcards: "/items/{id}"
	Route  *Route
}
