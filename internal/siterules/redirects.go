package siterules

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A Redirect is what a rule of _redirects asks for.
type Redirect struct {
	// Status is 200 for a rewrite, which answers with another file of the website, 404 for
	// one with that status, or that of a redirect.
	Status int
	// To is the decoded path of the file, or the Location of a redirect: a URL, or an encoded
	// path from the website's root.
	To string
	// Shadows reports that the rule counts even where the website has a file. Rules of one
	// path do, and those of many whose status is followed by an exclamation mark.
	Shadows bool
}

type redirect struct {
	from    *pattern
	query   map[string]string // the value, or a name after a colon
	to      *target
	status  int
	shadows bool
}

// statuses that a redirect may have.
var statuses = []int{200, 301, 302, 303, 307, 308, 404}

// redirects are rules in their order, and where those of one path are.
type redirects struct {
	all     []redirect
	static  map[string][]int
	dynamic []int
}

func parseRedirects(text []byte) (*redirects, []error) {
	r := &redirects{static: map[string][]int{}}
	static := 0
	full := map[bool]bool{}
	faults := lines(RedirectsFile, text, maxRedirectLine, func(line string) error {
		one, err := parseRedirect(line)
		if err != nil {
			return err
		}
		fixed := one.from.static()
		if fixed && static == MaxStaticRedirects || !fixed && len(r.dynamic) == MaxDynamicRedirects {
			if full[fixed] {
				return nil
			}
			full[fixed] = true
			return fmt.Errorf("more than %d redirects of one path, or %d with a splat or placeholders", MaxStaticRedirects, MaxDynamicRedirects)
		}
		at := len(r.all)
		r.all = append(r.all, one)
		if fixed {
			static++
			r.static[one.from.path] = append(r.static[one.from.path], at)
		} else {
			r.dynamic = append(r.dynamic, at)
		}
		return nil
	})
	return r, faults
}

func parseRedirect(line string) (r redirect, err error) {
	fields := strings.Fields(line)
	for i, f := range fields {
		if strings.HasPrefix(f, "#") {
			fields = fields[:i]
			break
		}
	}
	if len(fields) < 2 {
		return r, fmt.Errorf("a redirect has a path and a target, as in /old /new 301")
	}
	if r.from, err = parsePattern(fields[0]); err != nil {
		return r, err
	}
	names := r.from.names
	fields = fields[1:]
	for ; len(fields) > 0; fields = fields[1:] {
		name, value, ok := strings.Cut(fields[0], "=")
		if !ok || strings.HasPrefix(name, "/") || isURL(name) {
			break
		}
		if name == "" || value == "" {
			return r, fmt.Errorf("%q is no query parameter: write name=value, or name=:placeholder", fields[0])
		}
		if r.query == nil {
			r.query = map[string]string{}
		}
		if _, ok := r.query[name]; ok {
			return r, fmt.Errorf("the query parameter %s is there twice", name)
		}
		r.query[name] = value
		if p, ok := strings.CutPrefix(value, ":"); ok {
			if names[p] || !placeholder.MatchString(value) {
				return r, fmt.Errorf("%q: there is more than one :%s, or it is no name", fields[0], p)
			}
			names[p] = true
		}
	}
	if len(fields) == 0 {
		return r, fmt.Errorf("a redirect has a path and a target, as in /old /new 301")
	}
	if r.to, err = parseTarget(fields[0], names); err != nil {
		return r, err
	}
	r.status, r.shadows = http.StatusMovedPermanently, r.from.static()
	fields = fields[1:]
	if len(fields) > 0 && fields[0][0] >= '0' && fields[0][0] <= '9' {
		text, forced := strings.CutSuffix(fields[0], "!")
		r.status = 0
		for _, s := range statuses {
			if text == fmt.Sprint(s) {
				r.status = s
			}
		}
		if r.status == 0 {
			return r, fmt.Errorf("the status %s is none of 200, 301, 302, 303, 307, 308 and 404", fields[0])
		}
		r.shadows = r.shadows || forced
		fields = fields[1:]
	}
	if len(fields) > 0 {
		return r, fmt.Errorf("%q: conditions of country, language, role or cookie are not supported; behind the target is the status alone", fields[0])
	}
	if r.to.absolute && (r.status == 200 || r.status == 404) {
		return r, fmt.Errorf("the status %d answers with a file of the website, and %s is elsewhere: requests are not passed on to other hosts; redirect with 302", r.status, r.to.pieces[0].text)
	}
	return r, nil
}

// find returns what the first rule that matches asks for.
func (r *redirects) find(host, path, query string) (Redirect, bool) {
	static, dynamic := r.static[trimSlash(path)], r.dynamic
	var params url.Values
	for len(static) > 0 || len(dynamic) > 0 {
		next := &static
		if len(static) == 0 || len(dynamic) > 0 && dynamic[0] < static[0] {
			next = &dynamic
		}
		rule := &r.all[(*next)[0]]
		*next = (*next)[1:]
		values, ok := rule.from.find(host, path)
		if !ok {
			continue
		}
		if len(rule.query) > 0 {
			if params == nil {
				params, _ = url.ParseQuery(query)
			}
			if !rule.asked(params, values) {
				continue
			}
		}
		found := Redirect{Status: rule.status, Shadows: rule.shadows}
		if rule.status == 200 || rule.status == 404 {
			found.To = rule.to.path(values)
			return found, true
		}
		found.To = rule.to.location(values, query)
		if !rule.to.absolute { // one that leads to itself would never end
			to, _, _ := cutAny(found.To, "?#")
			if trimSlash(unescape(to)) == trimSlash(path) && len(rule.query) == 0 {
				continue
			}
		}
		return found, true
	}
	return Redirect{}, false
}

// asked reports whether a request has the query parameters of the rule, and takes those
// that have names.
func (r *redirect) asked(params url.Values, values map[string]string) bool {
	for name, want := range r.query {
		got := params[name]
		if len(got) == 0 {
			return false
		}
		if p, ok := strings.CutPrefix(want, ":"); ok {
			values[p] = got[0]
		} else if !slices.Contains(got, want) {
			return false
		}
	}
	return true
}
