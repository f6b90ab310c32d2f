package monkey

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/guestabi"
	"github.com/taubyte/taubyte/internal/meter"
)

// The parts of the WebAssembly binary format (core specification, chapter 5) that tell what
// a module imports and exports.
const (
	wasmMagic       = "\x00asm"
	wasmVersion     = 1
	typeSection     = 1
	importSection   = 2
	functionSection = 3
	exportSection   = 7

	kindFunction = 0
	kindTable    = 1
	kindMemory   = 2
	kindGlobal   = 3
)

var errNotWasm = fmt.Errorf("%w module: it is not WebAssembly", taubyte.ErrInvalid)

// An outline is what can be seen of a module without running it. A type is written as in
// package guestabi.
type outline struct {
	imports   []imported
	functions map[string]string // exported, with their types
	memory    bool              // one is exported as "memory"
}

type imported struct {
	module, name string
	kind         byte
	typ          string // of a function
}

// checkModule says whether a module can be served: whether all that it imports is there, it
// exports the function that is called, and the node's meter takes it. What it says of a
// module that can't is for its author.
func checkModule(module []byte, call string) (err error) {
	defer func() { // the module is a stranger's, and all services of the node would end
		if p := recover(); p != nil {
			err = fmt.Errorf("%w module: it can't be checked: %v", taubyte.ErrInvalid, p)
		}
	}()
	o, err := outlineOf(module)
	if err != nil {
		return err
	}
	if err := o.check(call); err != nil {
		return err
	}
	// Substrate meters it anew: a node trusts no other's work on what it runs.
	if _, err := meter.Instrument(module, meter.Limits{}); err != nil {
		return fmt.Errorf("%w module: %w", taubyte.ErrInvalid, err)
	}
	return nil
}

func (o *outline) check(call string) error {
	usesHost := false
	for _, i := range o.imports {
		functions := guestabi.Functions(i.module)
		switch {
		case functions == nil && guestabi.Linked(i.module):
			continue
		case i.kind == kindMemory:
			return fmt.Errorf("%w module: it imports its memory, and has to have its own", taubyte.ErrInvalid)
		case functions == nil:
			return fmt.Errorf("%w module: it imports %q from %q; a module imports from taubyte/sdk, taubyte/smartops, env, wasi_snapshot_preview1 and modules of its project (libraries/…, functions/…, smartops/…)",
				taubyte.ErrInvalid, i.name, i.module)
		case i.kind != kindFunction || functions[i.name] == "":
			return fmt.Errorf("%w module: it imports %q from %s, which has no such function", taubyte.ErrInvalid, i.name, i.module)
		case functions[i.name] != i.typ:
			return fmt.Errorf("%w module: it imports %q from %s as a function %s, and it is one %s", taubyte.ErrInvalid, i.name, i.module, signature(i.typ), signature(functions[i.name]))
		}
		usesHost = true
	}
	if usesHost && !o.memory {
		return fmt.Errorf("%w module: it exports no memory of the name %q", taubyte.ErrInvalid, "memory")
	}
	if call == "" {
		return nil
	}
	typ, ok := o.functions[call]
	if !ok {
		return fmt.Errorf("%w module: it exports no function %q, which the configuration calls (it exports %s)", taubyte.ErrInvalid, call, names(o.functions))
	}
	if params, results, _ := strings.Cut(typ, ":"); len(params) != 1 || len(results) > 1 {
		return fmt.Errorf("%w module: its function %q is one %s; what is called takes one parameter, the event, and has at most one result", taubyte.ErrInvalid, call, signature(typ))
	}
	return nil
}

// signature is a type for a person: "(i32, i64) → i32".
func signature(typ string) string {
	words := map[rune]string{'i': "i32", 'I': "i64", 'f': "f32", 'F': "f64"}
	list := func(letters string) string {
		var all []string
		for _, l := range letters {
			word, ok := words[l]
			if !ok {
				word = "?"
			}
			all = append(all, word)
		}
		return strings.Join(all, ", ")
	}
	params, results, _ := strings.Cut(typ, ":")
	if results == "" {
		return "(" + list(params) + ")"
	}
	return "(" + list(params) + ") → " + list(results)
}

// outlineOf reads a module's outline. It takes nothing on trust but the bytes that are there.
func outlineOf(module []byte) (*outline, error) {
	if len(module) < 8 || string(module[:4]) != wasmMagic {
		return nil, errNotWasm
	}
	if v := binary.LittleEndian.Uint32(module[4:]); v != wasmVersion {
		return nil, fmt.Errorf("%w module: version %#x of WebAssembly, not a core module of version 1", taubyte.ErrInvalid, v)
	}
	o := &outline{functions: map[string]string{}}
	var types []string
	var functions []string // types, the imported ones first
	for rest := (bytesOf{module[8:]}); len(rest.b) > 0; {
		id, err := rest.byte()
		if err != nil {
			return nil, err
		}
		content, err := rest.vector()
		if err != nil {
			return nil, fmt.Errorf("%w module: it ends within section %d", taubyte.ErrInvalid, id)
		}
		section := bytesOf{content}
		switch id {
		case typeSection:
			err = section.each(func() error {
				t, err := section.functionType()
				types = append(types, t)
				return err
			})
		case importSection:
			err = section.each(func() error {
				i, err := section.imported(types)
				if i.kind == kindFunction {
					functions = append(functions, i.typ)
				}
				o.imports = append(o.imports, i)
				return err
			})
		case functionSection:
			err = section.each(func() error {
				t, err := section.typeOf(types)
				functions = append(functions, t)
				return err
			})
		case exportSection:
			err = section.each(func() error { return section.export(o, functions) })
		}
		if err != nil {
			return nil, err
		}
	}
	return o, nil
}

// bytesOf are bytes that are still to be read.
type bytesOf struct{ b []byte }

var errTruncated = fmt.Errorf("%w module: it ends in the middle", taubyte.ErrInvalid)

func (r *bytesOf) byte() (byte, error) {
	if len(r.b) == 0 {
		return 0, errTruncated
	}
	b := r.b[0]
	r.b = r.b[1:]
	return b, nil
}

func (r *bytesOf) u32() (uint32, error) {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		return 0, errTruncated
	}
	if v > math.MaxUint32 {
		return 0, fmt.Errorf("%w module: a number beyond 32 bits", taubyte.ErrInvalid)
	}
	r.b = r.b[n:]
	return uint32(v), nil
}

// vector is bytes after their number.
func (r *bytesOf) vector() ([]byte, error) {
	n, err := r.u32()
	if err != nil {
		return nil, err
	}
	if uint64(n) > uint64(len(r.b)) {
		return nil, errTruncated
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v, nil
}

// each calls do as often as a number says that comes first. Each time takes a byte or more.
func (r *bytesOf) each(do func() error) error {
	n, err := r.u32()
	for ; n > 0 && err == nil; n-- {
		err = do()
	}
	return err
}

// limits are those of a table or a memory.
func (r *bytesOf) limits() error {
	flags, err := r.byte()
	numbers := 1
	if flags&1 != 0 {
		numbers = 2
	}
	for range numbers {
		if err == nil {
			_, err = r.u32()
		}
	}
	return err
}

// functionType reads a type.
func (r *bytesOf) functionType() (string, error) {
	if form, err := r.byte(); err != nil || form != 0x60 {
		return "", errors.Join(err, fmt.Errorf("%w module: a type that is not one of a function", taubyte.ErrInvalid))
	}
	var text strings.Builder
	for i := range 2 {
		values, err := r.vector()
		if err != nil {
			return "", err
		}
		for _, v := range values {
			letter, ok := map[byte]byte{0x7f: 'i', 0x7e: 'I', 0x7d: 'f', 0x7c: 'F'}[v]
			if !ok {
				letter = '?'
			}
			text.WriteByte(letter)
		}
		if i == 0 {
			text.WriteByte(':')
		}
	}
	return text.String(), nil
}

func (r *bytesOf) typeOf(types []string) (string, error) {
	n, err := r.u32()
	if err == nil && uint64(n) >= uint64(len(types)) {
		err = fmt.Errorf("%w module: it has no type %d", taubyte.ErrInvalid, n)
	}
	if err != nil {
		return "", err
	}
	return types[n], nil
}

func (r *bytesOf) imported(types []string) (i imported, err error) {
	module, err := r.vector()
	if err != nil {
		return i, err
	}
	name, err := r.vector()
	if err != nil {
		return i, err
	}
	i.module, i.name = string(module), string(name)
	if i.kind, err = r.byte(); err != nil {
		return i, err
	}
	switch i.kind {
	case kindFunction:
		i.typ, err = r.typeOf(types)
	case kindTable:
		if _, err = r.byte(); err == nil {
			err = r.limits()
		}
	case kindMemory:
		err = r.limits()
	case kindGlobal:
		if _, err = r.byte(); err == nil {
			_, err = r.byte()
		}
	default:
		err = fmt.Errorf("%w module: an import of kind %d", taubyte.ErrInvalid, i.kind)
	}
	return i, err
}

func (r *bytesOf) export(o *outline, functions []string) error {
	name, err := r.vector()
	if err != nil {
		return err
	}
	kind, err := r.byte()
	if err != nil {
		return err
	}
	index, err := r.u32()
	switch {
	case err != nil:
		return err
	case kind == kindFunction && uint64(index) >= uint64(len(functions)):
		return fmt.Errorf("%w module: it exports a function %d, which it has not", taubyte.ErrInvalid, index)
	case kind == kindFunction:
		o.functions[string(name)] = functions[index]
	case kind == kindMemory && string(name) == "memory":
		o.memory = true
	}
	return nil
}
