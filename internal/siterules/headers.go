package siterules

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// A headerRule is what is set for the paths of one pattern, in order.
type headerRule struct {
	from *pattern
	sets []headerSet
}

type headerSet struct {
	name  string // canonical
	value string
	unset bool
}

// reserved are headers that the node sets, or that the connection depends on.
var reserved = []string{
	"Accept-Ranges", "Age", "Allow", "Alt-Svc", "Connection", "Content-Encoding", "Content-Length", "Content-Range", "Date", "Etag",
	"Keep-Alive", "Location", "Proxy-Authenticate", "Proxy-Connection", "Server", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// ownPrefix begins the headers by which nodes talk to gateways.
const ownPrefix = "Taubyte-"

func parseHeaders(text []byte) ([]headerRule, []error) {
	var rules []headerRule
	var under *headerRule // nil: what follows a fault in a path
	started, full := false, false
	faults := lines(HeadersFile, text, maxHeaderLine, func(line string) error {
		if strings.HasPrefix(line, "/") || isURL(line) {
			started, under = true, nil
			from, err := parsePattern(line)
			if err != nil {
				return err
			}
			if len(rules) == MaxHeaderRules {
				if full {
					return nil
				}
				full = true
				return fmt.Errorf("more than %d paths", MaxHeaderRules)
			}
			rules = append(rules, headerRule{from: from})
			under = &rules[len(rules)-1]
			return nil
		}
		if !started {
			return fmt.Errorf("a header before the first path")
		}
		set, err := parseHeader(line)
		if err == nil && under != nil {
			under.sets = append(under.sets, set)
		}
		return err
	})
	return rules, faults
}

func parseHeader(line string) (s headerSet, err error) {
	name, value, ok := strings.Cut(line, ":")
	if rest, unset := strings.CutPrefix(line, "!"); unset {
		name, value, ok, s.unset = rest, "", true, true
	}
	name = strings.TrimSpace(name)
	s.value = strings.TrimSpace(value)
	s.name = http.CanonicalHeaderKey(name)
	switch {
	case !ok:
		return s, fmt.Errorf("%q is neither a path, which begins with a slash, nor a header, which is Name: value", line)
	case !httpguts.ValidHeaderFieldName(name):
		return s, fmt.Errorf("%q is no name of a header", name)
	case !s.unset && s.value == "":
		return s, fmt.Errorf("the header %s has no value (! %s removes it)", s.name, s.name)
	case !httpguts.ValidHeaderFieldValue(s.value):
		return s, fmt.Errorf("the value of %s has characters that no header may have", s.name)
	case slices.Contains(reserved, s.name), strings.HasPrefix(s.name, ownPrefix):
		return s, fmt.Errorf("the header %s can't be set by a website", s.name)
	}
	return s, nil
}

// apply sets headers of an answer. The first rule that has a header replaces the node's
// own value, and the next ones add to it (RFC 9110, 5.3). What varies the answer stays.
func apply(rules []headerRule, h http.Header, host, path string) {
	var mine []string // what was set
	for i := range rules {
		values, ok := rules[i].from.find(host, path)
		if !ok {
			continue
		}
		for _, s := range rules[i].sets {
			if s.unset {
				if s.name != "Vary" {
					h.Del(s.name)
				}
				mine = slices.DeleteFunc(mine, func(n string) bool { return n == s.name })
				continue
			}
			value := s.value
			if len(values) > 0 {
				value = placeholder.ReplaceAllStringFunc(value, func(name string) string {
					if v, ok := values[name[1:]]; ok {
						return EscapePath(v)
					}
					return name
				})
			}
			switch {
			case s.name == "Vary", s.name == "Set-Cookie" && slices.Contains(mine, s.name):
				h.Add(s.name, value)
			case slices.Contains(mine, s.name):
				h.Set(s.name, h.Get(s.name)+", "+value)
			default:
				h.Set(s.name, value)
				mine = append(mine, s.name)
			}
		}
	}
}
