package config

import (
	"fmt"
	"math"
	"net/mail"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte/internal/pathtemplate"
)

// A parser turns a YAML node into the value that goes into the compiled object,
// or says what is wrong with it, and what to do.
type parser func(n *yaml.Node) (value any, fault, hint string)

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	if n.Tag == "!!null" {
		return "empty"
	}
	return strconv.Quote(n.Value)
}

// text is a string. A number or a truth value that was not quoted is taken as it
// was written.
func text(n *yaml.Node) (any, string, string) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return nil, "must be text, not " + kindName(n), ""
	}
	return n.Value, "", ""
}

// some is text that says something.
func some(n *yaml.Node) (any, string, string) {
	v, fault, hint := text(n)
	if fault == "" && strings.TrimSpace(n.Value) == "" {
		return nil, "is empty", ""
	}
	return v, fault, hint
}

func boolean(n *yaml.Node) (any, string, string) {
	if n.Kind == yaml.ScalarNode {
		switch n.Value {
		case "true", "True", "TRUE":
			return true, "", ""
		case "false", "False", "FALSE":
			return false, "", ""
		}
	}
	return nil, "must be true or false, not " + kindName(n), ""
}

func list(n *yaml.Node) (any, string, string) {
	if n.Kind != yaml.SequenceNode {
		return nil, "must be a list, not " + kindName(n), "write [a, b], or one item to a line after \"- \""
	}
	out := make([]string, 0, len(n.Content))
	for _, item := range n.Content {
		item = resolve(item)
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return nil, fmt.Sprintf("has %s as an item (line %d), which must be text", kindName(item), item.Line), ""
		}
		out = append(out, item.Value)
	}
	return out, "", ""
}

// items is a list with something in it.
func items(n *yaml.Node) (any, string, string) {
	v, fault, hint := list(n)
	if fault == "" && len(v.([]string)) == 0 {
		return nil, "is an empty list", ""
	}
	return v, fault, hint
}

func oneOf(values ...string) parser {
	return func(n *yaml.Node) (any, string, string) {
		if n.Kind == yaml.ScalarNode && slices.Contains(values, n.Value) {
			return n.Value, "", ""
		}
		return nil, "must not be " + kindName(n), "one of " + strings.Join(values, ", ")
	}
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// method keeps the case that its author chose.
func method(n *yaml.Node) (any, string, string) {
	if n.Kind != yaml.ScalarNode || !slices.Contains(methods, strings.ToUpper(n.Value)) {
		return nil, "must be an HTTP method, not " + kindName(n), "one of " + strings.Join(methods, ", ")
	}
	return n.Value, "", ""
}

// methodList is a list of them.
func methodList(n *yaml.Node) (any, string, string) {
	v, fault, hint := items(n)
	if fault != "" {
		return nil, fault, hint
	}
	for _, item := range n.Content {
		if _, fault, hint := method(resolve(item)); fault != "" {
			return nil, "has " + kindName(resolve(item)) + ", which is no HTTP method", hint
		}
	}
	return v, "", ""
}

func id(n *yaml.Node) (any, string, string) {
	const hint = "ids look like Qm… and are made once for each resource"
	v, fault, _ := some(n)
	if fault != "" {
		return nil, fault, hint
	}
	c, err := cid.Decode(n.Value)
	if err != nil || c.String() != n.Value {
		return nil, fmt.Sprintf("is %q, which is no CID", n.Value), hint
	}
	return v, "", ""
}

var variableName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

func variable(n *yaml.Node) (any, string, string) {
	if n.Kind != yaml.ScalarNode || !variableName.MatchString(n.Value) {
		return nil, "must be a name, not " + kindName(n), "letters, digits and _, not beginning with a digit"
	}
	return n.Value, "", ""
}

var fqdnLabel = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$`)

// fqdn is a host name. It is kept in lower case, as host names are compared.
func fqdn(n *yaml.Node) (any, string, string) {
	if n.Kind != yaml.ScalarNode {
		return nil, "must be a host name, not " + kindName(n), ""
	}
	name := strings.TrimSuffix(strings.ToLower(n.Value), ".")
	labels := strings.Split(strings.TrimPrefix(name, "*."), ".")
	if len(name) > 253 || len(labels) < 2 {
		return nil, fmt.Sprintf("is %q, which is no host name", n.Value), "write it in full, as in www.example.com"
	}
	for _, l := range labels {
		if len(l) > 63 || !fqdnLabel.MatchString(l) {
			return nil, fmt.Sprintf("is %q, which is no host name", n.Value), fmt.Sprintf("%q is no label: letters, digits and dashes, 63 at most", l)
		}
	}
	return name, "", ""
}

func email(n *yaml.Node) (any, string, string) {
	if n.Kind == yaml.ScalarNode {
		if a, err := mail.ParseAddress(n.Value); err == nil && a.Address == n.Value {
			return n.Value, "", ""
		}
	}
	return nil, "must be an e-mail address, not " + kindName(n), ""
}

func duration(n *yaml.Node) (any, string, string) {
	const hint = "as in 10s, 1m30s or 500ms"
	if n.Kind != yaml.ScalarNode {
		return nil, "must be a duration, not " + kindName(n), hint
	}
	d, err := time.ParseDuration(n.Value)
	if err != nil {
		return nil, fmt.Sprintf("is %q, which is no duration", n.Value), hint
	}
	if d < 0 {
		return nil, fmt.Sprintf("is %q, which is negative", n.Value), hint
	}
	return int64(d), "", ""
}

var units = map[string]float64{
	"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15, "EB": 1e18,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50, "EiB": 1 << 60,
}

var sizeTerm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)([A-Za-z]+)`)

// size is an amount of bytes: a sum of numbers with units.
func size(n *yaml.Node) (any, string, string) {
	const hint = "a number and a unit without a space, as in 64MiB, 1.5GB or 512KB"
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		return nil, "must be a size, not " + kindName(n), hint
	}
	if strings.HasPrefix(n.Value, "-") {
		return nil, fmt.Sprintf("is %q, which is negative", n.Value), hint
	}
	total := 0.0
	for rest := n.Value; rest != ""; {
		m := sizeTerm.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Sprintf("is %q, which is no size", n.Value), hint
		}
		unit, ok := units[m[2]]
		number, err := strconv.ParseFloat(m[1], 64)
		if !ok || err != nil {
			return nil, fmt.Sprintf("is %q, which has the unknown unit %q", n.Value, m[2]), hint
		}
		total += number * unit
		rest = rest[len(m[0]):]
	}
	if total >= math.MaxInt64 {
		return nil, fmt.Sprintf("is %q, which is too large", n.Value), hint
	}
	return int64(total), "", ""
}

// paths are absolute paths of URLs.
func paths(n *yaml.Node) (any, string, string) {
	v, fault, hint := items(n)
	if fault != "" {
		return nil, fault, hint
	}
	for _, p := range v.([]string) {
		if !strings.HasPrefix(p, "/") {
			return nil, fmt.Sprintf("has the path %q", p), "paths begin with /"
		}
	}
	return v, "", ""
}

// templates are paths that may have wildcards.
func templates(n *yaml.Node) (any, string, string) {
	v, fault, hint := paths(n)
	if fault != "" {
		return nil, fault, hint
	}
	for _, p := range v.([]string) {
		if _, err := pathtemplate.Parse(p); err != nil {
			return nil, fmt.Sprintf("has the path %q, which %v", p, err), "as in /items/{id}, /files/{rest...} or /{$}"
		}
	}
	return v, "", ""
}

func source(n *yaml.Node) (any, string, string) {
	if n.Kind == yaml.ScalarNode {
		if name, ok := strings.CutPrefix(n.Value, "libraries/"); n.Value == "." || ok && name != "" {
			return n.Value, "", ""
		}
	}
	return nil, "must not be " + kindName(n), "\".\" for the function's own code, or libraries/<name>"
}

var protocolName = regexp.MustCompile(`^/.+`)

func protocol(n *yaml.Node) (any, string, string) {
	if n.Kind != yaml.ScalarNode || !protocolName.MatchString(n.Value) {
		return nil, "must be a protocol, not " + kindName(n), "as in /name/v1"
	}
	return n.Value, "", ""
}
