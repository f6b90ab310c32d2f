package tns

import (
	"strings"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// A HostClaim is a project's claim to serve a host name.
type HostClaim struct {
	Host string `json:"host"`
	// Domain is the domain of the configuration that the name stands for.
	Domain taubyte.ResourceID `json:"domain"`
	// Verified: the name was generated for the project, or its ownership shown.
	Verified bool `json:"verified,omitempty"`
	// Since is when the project first claimed the name.
	Since time.Time `json:"since"`
	// Rank orders the branches of one project that claim the name: the smallest has
	// it.
	Rank int `json:"rank,omitempty"`
}

// stronger orders the claims of two projects to one name: verified ones first,
// then the older, then by the project's id. Every node orders them alike.
func stronger(a HostClaim, pa taubyte.ProjectID, b HostClaim, pb taubyte.ProjectID) bool {
	if a.Verified != b.Verified {
		return a.Verified
	}
	if !a.Since.Equal(b.Since) {
		return a.Since.Before(b.Since)
	}
	return pa < pb
}

// generated reports whether a name is of the zone and made for the project: one
// label that is "<end><digits>" or "<name>-<end>", where end is the last eight
// characters of the project's id. The place decides: a name that merely holds
// those characters somewhere may be made for another.
func generated(fqdn, zone string, project taubyte.ProjectID) bool {
	label, ok := strings.CutSuffix(fqdn, "."+zone)
	if !ok || zone == "" || strings.Contains(label, ".") || len(project) < 8 {
		return false
	}
	end := strings.ToLower(string(project[len(project)-8:]))
	if rest, ok := strings.CutPrefix(label, end); ok && strings.Trim(rest, "0123456789") == "" {
		return true
	}
	name, ok := strings.CutSuffix(label, "-"+end)
	return ok && name != ""
}

// previewHost is the name of a domain on a branch that is not the production one:
// "<branch>--<label>.<zone>". It is "" without a zone.
func previewHost(branch taubyte.Branch, fqdn, zone string) string {
	if zone == "" {
		return ""
	}
	label := strings.TrimSuffix(fqdn, "."+zone)
	return hostLabel(string(branch)) + "--" + hostLabel(label) + "." + zone
}

// hostLabel makes a text part of a DNS label.
func hostLabel(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s)
	s = strings.Trim(s, "-")
	if len(s) > 30 { // two of them and the dashes fit a label of 63
		s = strings.Trim(s[:30], "-")
	}
	return s
}

// domains lists all domains of a configuration.
func domains(c *config.Project) []config.Domain {
	all := append([]config.Domain(nil), c.Domains...)
	for _, a := range c.Applications {
		all = append(all, a.Domains...)
	}
	return all
}
