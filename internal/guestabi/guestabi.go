// Package guestabi lists what a guest may import of its host: for those who check a module
// without running it. The host's functions are in substrate, whose tests compare.
package guestabi

import (
	_ "embed"
	"strings"
	"sync"
)

//go:embed imports.txt
var text string

var modules = sync.OnceValue(func() map[string]map[string]string {
	all := map[string]map[string]string{}
	var functions map[string]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, typ, function := strings.Cut(line, " ")
		switch {
		case line == "" || name == "#":
		case strings.HasPrefix(line, "["):
			functions = map[string]string{}
			all[strings.Trim(line, "[]")] = functions
		case function:
			functions[name] = typ
		}
	}
	return all
})

// Functions are the functions of a host module with their types, nil where there is no such
// module: a letter for each parameter, a colon, and one for each result, of i for an i32, I
// for an i64, f and F for floats. The map is not to be changed.
func Functions(module string) map[string]string { return modules()[module] }

// Modules are the names of the host's modules.
func Modules() (names []string) {
	for name := range modules() {
		names = append(names, name)
	}
	return names
}

// Linked reports whether a module's name stands for one of the guest's own project.
func Linked(module string) bool {
	kind, rest, _ := strings.Cut(module, "/")
	return rest != "" && (kind == "libraries" || kind == "functions" || kind == "smartops")
}
