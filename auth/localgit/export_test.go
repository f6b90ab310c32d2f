package localgit

import "io"

// ReadCommands is what reads the commands of a push, for fuzzing.
func ReadCommands(r io.Reader) (refs []string, err error) {
	updates, _, err := readCommands(r)
	for _, u := range updates {
		refs = append(refs, u.Ref)
	}
	return refs, err
}

// ParseEntry is what reads a replicated reference, for fuzzing.
func ParseEntry(key string, value []byte) (again string, ok bool) {
	e, ok := parseEntry(key, value)
	if !ok {
		return "", false
	}
	return entryKey("shop", e.ref, e.order, e.by).String(), true
}

// CheckRef is the rule of the names of references.
var CheckRef = checkRef
