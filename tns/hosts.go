package tns

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// idEnd is what generated names have of a project's id: its last eight characters, in
// lower case. It is "" of one that is shorter.
func idEnd(project taubyte.ProjectID) string {
	if len(project) < 8 {
		return ""
	}
	return strings.ToLower(string(project[len(project)-8:]))
}

// generated reports whether a name is of the zone and made for the project whose id
// has the end: one label that is "<end><digits>" or "<name>-<end>". The place decides: a
// name that merely holds those characters somewhere may be made for another.
func generated(fqdn, zone, end string) bool {
	label, ok := strings.CutSuffix(fqdn, "."+zone)
	if !ok || zone == "" || strings.Contains(label, ".") || end == "" {
		return false
	}
	if rest, ok := strings.CutPrefix(label, end); ok && strings.Trim(rest, "0123456789") == "" {
		return true
	}
	name, ok := strings.CutSuffix(label, "-"+end)
	return ok && name != "" && !strings.Contains(name, "--")
}

// maxLabel is the length of a DNS label.
const maxLabel = 63

// plainPreview is "<branch>--<label>.<zone>" for a domain "<label>.<zone>", where
// that is a name as it stands and can be read in one way only; else "".
func plainPreview(branch taubyte.Branch, fqdn, zone string) string {
	label, ok := strings.CutSuffix(fqdn, "."+zone)
	b := string(branch)
	if !ok || hostLabel(b) != b || hostLabel(label) != label || strings.Contains(b+"."+label, "--") || len(b)+len("--")+len(label) > maxLabel {
		return ""
	}
	return b + "--" + label + "." + zone
}

// previewHost is "<branch>--<label>--<hash>.<zone>": branch and domain as far as they
// can be written in a label, and a hash of project, branch and domain as they are. No
// other branch or project has it, and plain names are of another form.
func previewHost(project taubyte.ProjectID, branch taubyte.Branch, fqdn, zone string) string {
	sum := sha256.Sum256([]byte(string(project) + "\x00" + string(branch) + "\x00" + fqdn))
	hash := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:12]
	short := func(s string) string { // two of them, dashes and hash fit a label
		s = hostLabel(s)
		if len(s) > 23 {
			s = strings.Trim(s[:23], "-")
		}
		if s == "" {
			s = "x"
		}
		return s
	}
	return short(string(branch)) + "--" + short(strings.TrimSuffix(fqdn, "."+zone)) + "--" + hash + "." + zone
}

// hostLabel makes a text part of a DNS label.
func hostLabel(s string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, s), "-")
}

// domains lists all domains of a configuration.
func domains(c *config.Project) []config.Domain {
	all := append([]config.Domain(nil), c.Domains...)
	for _, a := range c.Applications {
		all = append(all, a.Domains...)
	}
	return all
}
