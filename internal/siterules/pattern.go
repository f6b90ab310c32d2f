package siterules

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// placeholder is a name as Cloudflare and Netlify read it. The port of a host is none.
var placeholder = regexp.MustCompile(`:([A-Za-z]\w*)`)

// splat is the name by which a target refers to what * stands for.
const splat = "splat"

// A pattern matches paths, and hosts where it names one. It is immutable.
type pattern struct {
	path   string         // of a static pattern, without the slash at its end
	prefix string         // what every path that matches begins with
	match  *regexp.Regexp // of the path, nil where the pattern is static
	host   *regexp.Regexp // nil: any
	names  map[string]bool
}

func (p *pattern) static() bool { return p.match == nil }

// parsePattern reads a path, or a URL, which restricts the pattern to its host.
func parsePattern(text string) (*pattern, error) {
	p := &pattern{names: map[string]bool{}}
	path := text
	for _, scheme := range []string{"https://", "http://"} {
		rest, ok := strings.CutPrefix(text, scheme)
		if !ok {
			continue
		}
		host, after, _ := strings.Cut(rest, "/")
		if host == "" {
			return nil, fmt.Errorf("%q has no host", text)
		}
		path = "/" + after
		expr, err := p.expression(strings.ToLower(host), `[^.]+`)
		if err != nil {
			return nil, err
		}
		p.host = expr
	}
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return nil, fmt.Errorf("%q is no path: it begins with a slash", text)
	}
	if strings.ContainsRune(path, '?') {
		return nil, errors.New("a path has no query: write its parameters behind it, as in /store id=:id")
	}
	path, _, _ = strings.Cut(path, "#") // browsers keep it to themselves
	if at := strings.IndexAny(path, "*:"); at < 0 || path[at] == ':' && !strings.ContainsRune(path, '*') && !placeholder.MatchString(path) {
		p.path = trimSlash(unescape(path))
		p.prefix = p.path
		return p, nil
	}
	expr, err := p.expression(path, `[^/]+`)
	if err != nil {
		return nil, err
	}
	p.match = expr
	special := strings.IndexByte(path, '*')
	if at := placeholder.FindStringIndex(path); at != nil && (special < 0 || at[0] < special) {
		special = at[0]
	}
	p.prefix = unescape(path[:special])
	if path[special:] == "*" {
		p.prefix = strings.TrimSuffix(p.prefix, "/")
	}
	return p, nil
}

// expression compiles a host or a path. A placeholder stands for what one matches.
func (p *pattern) expression(text, one string) (*regexp.Regexp, error) {
	name := func(n string) error {
		if p.names[n] {
			return fmt.Errorf("there is more than one :%s", n)
		}
		p.names[n] = true
		return nil
	}
	var b strings.Builder
	b.WriteString(`(?s)^`)
	end := `/?$`
	for i, part := range strings.Split(text, "*") {
		if i > 1 || i == 1 && p.names[splat] {
			return nil, errors.New("there is more than one splat (*)")
		}
		if i == 1 {
			p.names[splat] = true
			if s := b.String(); part == "" && strings.HasSuffix(s, "/") { // /news/* is /news as well
				b.Reset()
				b.WriteString(strings.TrimSuffix(s, "/"))
				b.WriteString(`(?:/(?P<splat>.*))?`)
			} else {
				b.WriteString(`(?P<splat>.*)`)
			}
			if part == "" {
				end = `$`
			}
		}
		last := 0
		for _, at := range placeholder.FindAllStringSubmatchIndex(part, -1) {
			b.WriteString(regexp.QuoteMeta(unescape(part[last:at[0]])))
			n := part[at[2]:at[3]]
			if err := name(n); err != nil {
				return nil, err
			}
			fmt.Fprintf(&b, `(?P<%s>%s)`, n, one)
			last = at[1]
		}
		b.WriteString(regexp.QuoteMeta(unescape(part[last:])))
	}
	s := b.String()
	if end == `/?$` {
		s = strings.TrimSuffix(s, "/")
	}
	expr, err := regexp.Compile(s + end)
	if err != nil {
		return nil, fmt.Errorf("%q can't be read", text)
	}
	return expr, nil
}

// find reports whether a host and a path match, and what the names stand for.
func (p *pattern) find(host, path string) (values map[string]string, ok bool) {
	if !strings.HasPrefix(path, p.prefix) {
		return nil, false
	}
	if p.static() && trimSlash(path) != p.path {
		return nil, false
	}
	if len(p.names) > 0 {
		values = map[string]string{}
	}
	if p.host != nil && !capture(p.host, hostname(host), values) {
		return nil, false
	}
	if p.match != nil && !capture(p.match, path, values) {
		return nil, false
	}
	return values, true
}

func capture(expr *regexp.Regexp, text string, to map[string]string) bool {
	found := expr.FindStringSubmatch(text)
	if found == nil {
		return false
	}
	for i, name := range expr.SubexpNames() {
		if name != "" {
			to[name] = found[i]
		}
	}
	return true
}

func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(host)
}

// trimSlash removes the slash at the end of a path, but not of the root.
func trimSlash(path string) string {
	if path == "/" {
		return path
	}
	return strings.TrimSuffix(path, "/")
}

func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil && !strings.Contains(strings.ToUpper(s), "%2F") {
		return u
	}
	return s
}
