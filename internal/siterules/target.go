package siterules

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// A target is where a redirect leads: text with the names of a pattern in it.
type target struct {
	pieces   []piece
	absolute bool // a URL
	query    bool // it has one of its own
}

type piece struct {
	text  string
	name  string // instead of text
	query bool   // behind the question mark
}

// parseTarget reads a target. names are those that it may refer to.
func parseTarget(text string, names map[string]bool) (*target, error) {
	t := &target{}
	host := 0 // where it ends
	if _, rest, ok := strings.Cut(text, "://"); ok && isURL(text) {
		t.absolute = true
		host = len(text)
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			host = len(text) - len(rest) + i
		}
		u, err := url.Parse(text[:host])
		switch {
		case placeholder.MatchString(text[len(text)-len(rest) : host]):
			return nil, errors.New("the host of a target can't depend on the request: anybody could make the website lead anywhere")
		case err != nil || u.Hostname() == "" || u.User != nil:
			return nil, fmt.Errorf("%q has no valid host", text)
		}
	} else if !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//") || strings.HasPrefix(text, `/\`) {
		return nil, fmt.Errorf("%q is neither a path, which begins with a slash, nor a URL, which begins with https:// or http://", text)
	}
	t.pieces = append(t.pieces, piece{text: text[:host]})
	rest, inQuery := text[host:], false
	literal := func(s string) {
		if s == "" {
			return
		}
		t.pieces = append(t.pieces, piece{text: escape(s, "%?#&=+;[]")})
		path, _, _ := strings.Cut(s, "#")
		inQuery = inQuery || strings.ContainsRune(path, '?')
	}
	last := 0
	for _, at := range placeholder.FindAllStringSubmatchIndex(rest, -1) {
		name := rest[at[2]:at[3]]
		if !names[name] {
			if before := rest[at[0]-min(at[0], 1) : at[0]]; before == "/" || before == "=" {
				return nil, fmt.Errorf("the target refers to :%s, which the path does not have", name)
			}
			continue // urn:isbn
		}
		literal(rest[last:at[0]])
		t.pieces = append(t.pieces, piece{name: name, query: inQuery})
		last = at[1]
	}
	literal(rest[last:])
	t.query = inQuery
	return t, nil
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

// path is the path in the website that a rewrite leads to, decoded.
func (t *target) path(values map[string]string) string {
	var b strings.Builder
	for _, p := range t.pieces {
		if p.name != "" {
			b.WriteString(values[p.name])
			continue
		}
		path, _, cut := cutAny(p.text, "?#")
		b.WriteString(unescape(path))
		if cut {
			break
		}
	}
	return b.String()
}

// location is the value of a redirect's header: a URL, or a path from the website's root
// that can't be taken for another host's.
func (t *target) location(values map[string]string, query string) string {
	var b strings.Builder
	for _, p := range t.pieces {
		switch {
		case p.name == "":
			b.WriteString(p.text)
		case p.query:
			b.WriteString(url.QueryEscape(strings.ReplaceAll(values[p.name], "%2F", "/")))
		default:
			b.WriteString(EscapePath(values[p.name]))
		}
	}
	to := b.String()
	if !t.absolute {
		to = "/" + strings.TrimLeft(to, `/\`)
	}
	if query != "" && !t.query {
		before, fragment, has := strings.Cut(to, "#")
		to = before + "?" + query
		if has {
			to += "#" + fragment
		}
	}
	return to
}

func cutAny(s, chars string) (before, after string, found bool) {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// EscapePath encodes a decoded path for a URL. A slash that is data, %2F, stays one.
func EscapePath(path string) string {
	parts := strings.Split(path, "%2F")
	for i, part := range parts {
		parts[i] = escape(part, "")
	}
	return strings.Join(parts, "%2F")
}

// escape encodes what has no place in the path of a URL, but for the characters of also.
func escape(s, also string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~!$'()*,:@/", c) >= 0, strings.IndexByte(also, c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}
