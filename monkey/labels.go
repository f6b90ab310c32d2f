package monkey

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/patrick"
)

// maxOwnLabels bounds the labels of a target, and those that an operator gives a worker.
const maxOwnLabels = 16

// programs are what a toolchain's label says that a worker has, by label, with the toolchain
// whose row in the table of images says where they may be.
var programs = map[string]struct {
	tool  string
	names []string
}{
	"go":     {toolGo, []string{"go"}},
	"tinygo": {toolGo, []string{"tinygo"}},
	"rust":   {toolRust, []string{"rustc", "cargo"}},
	"node":   {toolNode, []string{"node"}},
}

// toolLabels are the labels of workers that have a toolchain.
var toolLabels = map[string]string{toolGo: "go", toolRust: "rust", toolNode: "node", toolAssemblyScript: "node"}

// readLabels returns labels that people wrote, sorted.
func readLabels(labels []string) ([]string, error) {
	labels = slices.Clone(labels)
	slices.Sort(labels)
	if labels = slices.Compact(labels); len(labels) > maxOwnLabels {
		return nil, fmt.Errorf("%w: more than %d labels", taubyte.ErrInvalid, maxOwnLabels)
	}
	for _, l := range labels {
		if !patrick.ValidLabel(l) {
			return nil, fmt.Errorf("%w: %.100q is no label: up to 63 of a to z, 0 to 9, '.', '_' and '-'", taubyte.ErrInvalid, l)
		}
	}
	return labels, nil
}

// labels are what the worker states when it claims: it looks each time, since a toolchain
// may have been installed meanwhile.
func (s *Service) labels() []string {
	all := append(slices.Clone(s.o.labels), runtime.GOOS, runtime.GOARCH)
	if _, native := s.native(); !native {
		all = append(all, "container")
	}
	for label, p := range programs {
		if s.brings(p.tool, p.names) {
			all = append(all, label)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// brings reports whether builds of a toolchain find programs: the machine's, or those of an
// image.
func (s *Service) brings(tool string, names []string) bool {
	if _, native := s.native(); !native && tool != toolGo { // for Go see kit
		return true
	}
	k := &kit{Image: s.o.image(standIn[tool])}
	return !slices.ContainsFunc(names, func(name string) bool { _, err := k.find(name); return err != nil })
}

// A misfit is a job that another worker is needed for: one with these labels.
type misfit struct {
	labels []string
	err    error
}

func (m *misfit) Error() string { return m.err.Error() }
func (m *misfit) Unwrap() error { return m.err }

// needs are the labels that a job needs and its worker has not.
func needs(err error) (labels []string) {
	switch e := err.(type) {
	case *misfit:
		return e.labels
	case interface{ Unwrap() error }:
		return needs(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			labels = append(labels, needs(one)...)
		}
	}
	slices.Sort(labels)
	labels = slices.Compact(labels)
	return labels[:min(len(labels), maxOwnLabels)]
}

// suits returns a misfit where a target asks for a label that the worker has not stated. It
// looks at all before the first is built.
func (b *build) suits(all []target) error {
	asked := map[string][]string{} // the targets, by label
	for _, t := range all {
		dir := b.folder(t)
		if dir == "" {
			continue
		}
		w, err := readWorkflow(b.src.sub(dir))
		if err != nil || w == nil {
			continue // the target's own build tells it
		}
		for _, l := range w.labels {
			if !slices.Contains(b.labels, l) {
				asked[l] = append(asked[l], t.String())
			}
		}
	}
	if len(asked) == 0 {
		return nil
	}
	m := &misfit{}
	var texts []string
	for l, targets := range asked {
		m.labels = append(m.labels, l)
		more := ""
		if n := len(targets); n > 1 {
			more = fmt.Sprintf(" and %d more", n-1)
		}
		texts = append(texts, fmt.Sprintf("%s (for the %s%s)", l, targets[0], more))
	}
	slices.Sort(m.labels)
	slices.Sort(texts)
	m.labels = m.labels[:min(len(m.labels), maxOwnLabels)]
	m.err = ours(fmt.Errorf("it waits for a worker with the label %s; this one has %s", strings.Join(texts, ", "), cmp.Or(strings.Join(b.labels, ", "), "none")))
	return m
}

// lacksTool makes a misfit of a toolchain that the worker does not have.
func (b *build) lacksTool(tool string, err error) error {
	var missing *MissingError
	label := toolLabels[tool]
	if !errors.As(err, &missing) || label == "" || slices.Contains(b.labels, label) {
		return err
	}
	return &misfit{labels: []string{label}, err: err}
}
