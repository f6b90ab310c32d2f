package config

import (
	"cmp"
	"fmt"
	"slices"
)

// Severity says whether a diagnostic is in the way of compiling.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// A Diagnostic is one fault of a configuration and where it is.
type Diagnostic struct {
	File     string   `json:"file"` // with slashes, relative to the configuration's root
	Line     int      `json:"line"` // from 1; 0 where the fault is the whole file's
	Column   int      `json:"column"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"` // what to do about it
}

// String is the form that editors and terminals know how to follow.
func (d Diagnostic) String() string {
	s := d.File
	if d.Line > 0 {
		s += fmt.Sprintf(":%d:%d", d.Line, d.Column)
	}
	s += fmt.Sprintf(": %s: %s", d.Severity, d.Message)
	if d.Hint != "" {
		s += " (" + d.Hint + ")"
	}
	return s
}

// Diagnostics are all faults of a configuration, by file and line.
type Diagnostics []Diagnostic

// HasErrors reports whether any of them is in the way of compiling.
func (d Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(d, func(x Diagnostic) bool { return x.Severity == Error })
}

func (d Diagnostics) sort() {
	slices.SortStableFunc(d, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
