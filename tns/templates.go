package tns

import (
	"maps"
	"slices"
	"strings"

	"github.com/taubyte/taubyte/internal/pathtemplate"
)

// matchTemplates is match for a site with templates, at a path that no function has
// without wildcards for the method.
func (s *site) matchTemplates(path, method string) Match {
	w := s.websiteRoute(path)
	reads := w != nil && isRead(method)
	if t := s.templateRoute(path, method); t != nil && (!reads || compareWebsite(w, t, path) < 0) {
		return Match{Route: t.route, template: t.template}
	}
	// A website takes what it has itself, and what no function has with another method.
	_, taken := s.exact[path]
	if taken && w != nil && s.websiteAt(path) != nil {
		taken = false
	}
	for _, tree := range s.templates {
		if t := tree.Match(path); t != nil && (w == nil || compareWebsite(w, t, path) < 0) {
			taken = true
		}
	}
	switch {
	case reads && !taken:
		return Match{Route: w.route}
	case w == nil && !taken:
		return Match{Status: NoPath}
	}
	return Match{Status: NoMethod, Allow: s.allow(path, w != nil && !taken)}
}

// templateRoute finds a method's function by the templates; HEAD falls back on GET.
func (s *site) templateRoute(path, method string) *templateRoute {
	if tree := s.templates[method]; tree != nil {
		if t := tree.Match(path); t != nil {
			return t
		}
	}
	if method != "HEAD" {
		return nil
	}
	if tree := s.templates["GET"]; tree != nil {
		return tree.Match(path)
	}
	return nil
}

// allow lists the methods of a path.
func (s *site) allow(path string, website bool) string {
	methods := map[string]bool{}
	if e, ok := s.exact[path]; ok {
		for _, m := range e.methods {
			methods[m.method] = true
		}
		website = website || s.websiteAt(path) != nil
	}
	for method, tree := range s.templates {
		if tree.Match(path) != nil {
			methods[method] = true
		}
	}
	if website {
		methods["GET"] = true
	}
	if methods["GET"] {
		methods["HEAD"] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
}

// compareWebsite compares a website and a template that both have a path: less than 0
// where the template is the more specific, 0 where they have the same paths, more where
// the website is. Configurations in which neither is are refused when they are compiled.
func compareWebsite(w *prefixRoute, t *templateRoute, path string) int {
	if len(path) == len(w.prefix) {
		return 1 // the website's own path, which has no wildcards
	}
	switch pathtemplate.Compare(w.template, t.template) {
	case pathtemplate.MoreGeneral:
		return -1
	case pathtemplate.Equivalent:
		return 0
	case pathtemplate.MoreSpecific:
		return 1
	}
	return -1
}
