// Package mask takes secrets out of lines of text before they reach a log.
package mask

import (
	"bytes"
	"slices"
	"strings"
)

// Shortest is the length of the shortest text that is masked: shorter ones are in every
// other word.
const Shortest = 4

// Text stands in the place of a secret.
const Text = "[secret]"

// A Mask replaces secrets. A nil Mask replaces nothing. It is safe for concurrent use.
type Mask struct {
	hide [][]byte // the longest first
}

// New returns a mask of secrets; nil where nothing is to be masked. Of a secret of several
// lines each line is masked by itself, since logs are made of lines.
func New(secrets ...string) *Mask {
	m := &Mask{}
	seen := map[string]bool{}
	for _, s := range secrets {
		for line := range strings.Lines(s) {
			line = strings.TrimSpace(line)
			if len(line) >= Shortest && !seen[line] {
				seen[line] = true
				m.hide = append(m.hide, []byte(line))
			}
		}
	}
	if len(m.hide) == 0 {
		return nil
	}
	slices.SortFunc(m.hide, func(a, b []byte) int { return len(b) - len(a) })
	return m
}

// Tail returns how many bytes at the end of a part of a line may be the beginning of a
// secret, or one: where a line is broken they go with what follows.
func (m *Mask) Tail(part []byte) (n int) {
	if m == nil {
		return 0
	}
	for _, s := range m.hide {
		for k := min(len(s), len(part)); k > n; k-- {
			if bytes.HasSuffix(part, s[:k]) {
				n = k
			}
		}
	}
	return n
}

// Apply returns a line without the secrets, and without the beginning of one at its end:
// the rest may have been cut off, or be on its way. It does not alter the line.
func (m *Mask) Apply(line []byte) []byte {
	if m == nil || len(line) < Shortest {
		return line
	}
	cut := 0
	for _, s := range m.hide {
		for n := min(len(s), len(line)); n >= Shortest && n > cut; n-- {
			if bytes.HasSuffix(line, s[:n]) {
				cut = n
			}
		}
	}
	end := line[len(line)-cut:]
	line = line[:len(line)-cut]
	for _, s := range m.hide {
		if bytes.Contains(line, s) {
			line = bytes.ReplaceAll(line, s, []byte(Text))
		}
	}
	if len(end) > 0 {
		line = append(bytes.Clone(line), Text...)
	}
	return line
}
