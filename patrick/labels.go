package patrick

import (
	"fmt"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
)

// Labels say what a worker has that not every worker has: an architecture, a toolchain, a
// GPU. A worker states its own when it claims, and gets the jobs that need no others.
const (
	// maxNeeds is how many labels a job needs at most, and maxLabels how many a worker
	// states.
	maxNeeds  = 16
	maxLabels = 128
	maxLabel  = 63
)

// ValidLabel reports whether a text is a label: up to 63 of a to z, 0 to 9 and, after the
// first, '.', '_' and '-'.
func ValidLabel(label string) bool {
	if label == "" || len(label) > maxLabel {
		return false
	}
	for i, c := range []byte(label) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

func checkLabels(labels []string, most int) error {
	if len(labels) > most {
		return fmt.Errorf("%w: %d labels (the most are %d)", taubyte.ErrTooLarge, len(labels), most)
	}
	for _, l := range labels {
		if !ValidLabel(l) {
			return fmt.Errorf("%w label %.100q", taubyte.ErrInvalid, l)
		}
	}
	return nil
}

// A worker is who claims: a node and its labels.
type worker struct {
	id     peer.ID
	labels []string
}

// has reports whether a worker states all that a job needs.
func (w worker) has(needs []string) bool {
	for _, n := range needs {
		if !slices.Contains(w.labels, n) {
			return false
		}
	}
	return true
}

// joinLabels and splitLabels write labels as one word and read it.
func joinLabels(labels []string) string { return strings.Join(labels, ",") }

func splitLabels(word string) ([]string, error) {
	if word == "" {
		return nil, nil
	}
	labels := strings.SplitN(word, ",", maxLabels+1)
	return labels, checkLabels(labels, maxLabels)
}
