package abi

import "net/http"

// A guest finds the path template that its request was routed by ("/items/{id}") and the
// values of the wildcards among the headers, as it does with the path: no client can send
// fields of these names, and hosts that don't know them say nothing.
const (
	pathPattern = ":pattern"
	pathValue   = ":path/" // before the name of a wildcard
)

// routed is what a request has by one of these names.
func routed(r *http.Request, name string) string {
	if name == pathPattern {
		return r.Pattern
	}
	return r.PathValue(name[len(pathValue):])
}
