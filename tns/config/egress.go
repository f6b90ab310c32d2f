package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// egressOf takes what the project's functions may reach. A project without
// "egress" may reach everything public; one with an empty list nothing. Anything in
// between must be said, so that a slip of the pen opens nothing.
func (c *compiler) egressOf(f *file, object map[string]any) {
	n, _ := f.find("egress")
	if n == nil {
		return
	}
	const hint = "list what functions may reach, as in [api.example.com, \"*.example.org\", 192.0.2.0/24]; [] is nothing"
	if n.Kind != yaml.MappingNode {
		f.fault(n, "egress must be a map, not "+kindName(n), hint)
		return
	}
	list, _ := f.find("egress.allow")
	switch {
	case list == nil:
		f.fault(n, "egress.allow is missing", hint)
		return
	case list.Kind != yaml.SequenceNode:
		f.fault(list, "egress.allow must be a list, not "+kindName(list), hint)
		return
	}
	allow := []string{}
	for _, item := range list.Content {
		item = resolve(item)
		to, fault, hint := destination(item)
		if fault != "" {
			f.fault(item, "egress.allow "+fault, hint)
			continue
		}
		if !slices.Contains(allow, to) {
			allow = append(allow, to)
		}
	}
	object["egress"] = map[string][]string{"allow": allow}
}

// destination is a host name, all names below one ("*.example.com"), an address or
// a range of addresses. An address is written as the range of itself.
func destination(n *yaml.Node) (to, fault, hint string) {
	const how = "a host name, *.<host name>, or a range of addresses as in 192.0.2.0/24"
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", "has " + kindName(n) + " as an item, which must be text", how
	}
	if a, err := netip.ParseAddr(n.Value); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()).String(), "", ""
	}
	if strings.Contains(n.Value, "/") {
		p, err := netip.ParsePrefix(n.Value)
		switch {
		case err != nil || p.Addr().Is4In6():
			return "", fmt.Sprintf("has %q, which is no range of addresses", n.Value), how + "; no scheme and no path"
		case p != p.Masked():
			return "", fmt.Sprintf("has %q, which is within a range", n.Value), "the range is " + p.Masked().String()
		}
		return p.String(), "", ""
	}
	v, fault, _ := fqdn(n)
	if fault != "" {
		return "", fmt.Sprintf("has %q, which is no destination", n.Value), how + "; no port"
	}
	return v.(string), "", ""
}
