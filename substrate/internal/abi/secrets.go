package abi

import (
	"maps"
	"slices"

	"github.com/taubyte/taubyte/internal/mask"
)

// An Environment is what a function is given to know beside its code. It is immutable.
type Environment struct {
	variables map[string]string
	secrets   map[string][]byte
	masked    *mask.Mask
}

// NewEnvironment makes an environment: all variables are in the guest's environment, and
// those that are secret are masked in its output as well. It is nil where there are none.
func NewEnvironment(variables map[string]string, secret map[string]bool) *Environment {
	if len(variables) == 0 {
		return nil
	}
	e := &Environment{variables: variables, secrets: map[string][]byte{}}
	var hide []string
	for name := range secret {
		if value, ok := variables[name]; ok {
			e.secrets[name] = []byte(value)
			hide = append(hide, value)
		}
	}
	e.masked = mask.New(hide...)
	return e
}

// all gives the variables by name.
func (e *Environment) all() func(func(string, string) bool) {
	return func(yield func(string, string) bool) {
		if e == nil {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(e.variables)) {
			if !yield(name, e.variables[name]) {
				return
			}
		}
	}
}

func (e *Environment) mask() *mask.Mask {
	if e == nil {
		return nil
	}
	return e.masked
}

// secrets are the function's secrets, by name.
var secrets = []decl{
	{"secretValueSize", "iii", errno(func(g *Guest, m module, a []uint64) Errno {
		value, e := g.secret(m, a)
		if e != ErrNone {
			return e
		}
		return m.size(a[2], len(value))
	})},
	{"secretValue", "iii", errno(func(g *Guest, m module, a []uint64) Errno {
		value, e := g.secret(m, a)
		if e != ErrNone {
			return e
		}
		return m.bytes(a[2], value)
	})},
}

// secret is the secret whose name is in the first two parameters. It does not change
// while the instance lives.
func (g *Guest) secret(m module, a []uint64) ([]byte, Errno) {
	name, ok := m.text(a[0], a[1])
	if !ok {
		return nil, ErrAddressOutOfMemory
	}
	if g.self.Environment != nil {
		if value, ok := g.self.Environment.secrets[name]; ok {
			return value, ErrNone
		}
	}
	return nil, ErrKeystoreNotFound
}
