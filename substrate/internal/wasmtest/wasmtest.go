// Package wasmtest assembles small guests for the tests.
package wasmtest

import "strings"

// A Module is being assembled. Imports come before functions.
type Module struct {
	types   []string
	imports [][]byte
	funcs   [][]byte // type index
	codes   [][]byte
	exports [][]byte
	data    [][]byte
	memory  []byte
	start   []byte
	n       uint32 // functions so far
}

// New returns a module with a memory of that many pages, exported as "memory".
func New(pages uint32) *Module {
	m := &Module{}
	if pages > 0 {
		m.memory = append([]byte{0}, U32(pages)...)
		m.exports = append(m.exports, append(name("memory"), 2, 0))
	}
	return m
}

// Import imports a function and returns its index. A type is its parameters, a
// letter each (i: i32, I: i64), a colon and its results.
func (m *Module) Import(module, field, typ string) uint32 {
	b := append(name(module), name(field)...)
	b = append(b, 0)
	m.imports = append(m.imports, append(b, U32(m.typ(typ))...))
	m.n++
	return m.n - 1
}

// SDK imports a function of taubyte/sdk.
func (m *Module) SDK(field, typ string) uint32 { return m.Import("taubyte/sdk", field, typ) }

// Func adds a function with locals (letters, as in a type) and returns its
// index; it is exported where export is not empty.
func (m *Module) Func(export, typ, locals string, code ...[]byte) uint32 {
	m.funcs = append(m.funcs, U32(m.typ(typ)))
	body := U32(uint32(len(locals)))
	for _, l := range locals {
		body = append(body, 1, valueType(l))
	}
	for _, c := range code {
		body = append(body, c...)
	}
	body = append(body, 0x0b)
	m.codes = append(m.codes, append(U32(uint32(len(body))), body...))
	if export != "" {
		b := append(name(export), 0)
		m.exports = append(m.exports, append(b, U32(m.n)...))
	}
	m.n++
	return m.n - 1
}

// Start makes a function the module's start function.
func (m *Module) Start(f uint32) { m.start = U32(f) }

// Data puts text into the memory.
func (m *Module) Data(at uint32, text string) {
	b := append([]byte{0}, I32(int32(at))...)
	b = append(b, 0x0b)
	m.data = append(m.data, append(b, name(text)...))
}

// Bytes returns the module's binary form.
func (m *Module) Bytes() []byte {
	out := []byte{0, 'a', 's', 'm', 1, 0, 0, 0}
	section := func(id byte, content []byte) {
		out = append(append(append(out, id), U32(uint32(len(content)))...), content...)
	}
	vector := func(id byte, items [][]byte) {
		if len(items) == 0 {
			return
		}
		b := U32(uint32(len(items)))
		for _, i := range items {
			b = append(b, i...)
		}
		section(id, b)
	}
	var types [][]byte
	for _, t := range m.types {
		params, results, _ := strings.Cut(t, ":")
		b := append([]byte{0x60}, valueTypes(params)...)
		types = append(types, append(b, valueTypes(results)...))
	}
	vector(1, types)
	vector(2, m.imports)
	vector(3, m.funcs)
	if m.memory != nil {
		vector(5, [][]byte{m.memory})
	}
	vector(7, m.exports)
	if m.start != nil {
		section(8, m.start)
	}
	vector(10, m.codes)
	vector(11, m.data)
	return out
}

func (m *Module) typ(t string) uint32 {
	for i, have := range m.types {
		if have == t {
			return uint32(i)
		}
	}
	m.types = append(m.types, t)
	return uint32(len(m.types) - 1)
}

func valueType(l rune) byte {
	if l == 'I' {
		return 0x7e
	}
	return 0x7f
}

func valueTypes(letters string) []byte {
	b := U32(uint32(len(letters)))
	for _, l := range letters {
		b = append(b, valueType(l))
	}
	return b
}

func name(s string) []byte { return append(U32(uint32(len(s))), s...) }

// U32 is an unsigned LEB128 number.
func U32(n uint32) []byte {
	var b []byte
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func signed(n int64) []byte {
	var b []byte
	for {
		c := byte(n) & 0x7f
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// Instructions.
var (
	Drop        = []byte{0x1a}
	Unreachable = []byte{0x00}
	Return      = []byte{0x0f}
	End         = []byte{0x0b}
	Loop        = []byte{0x03, 0x40}
	Block       = []byte{0x02, 0x40}
	If          = []byte{0x04, 0x40}
	Else        = []byte{0x05}
	Add         = []byte{0x6a}
	Mul         = []byte{0x6c}
	Eqz         = []byte{0x45}
	Eq          = []byte{0x46}
	Load        = []byte{0x28, 2, 0} // i32, alignment 4, offset 0
	Store       = []byte{0x36, 2, 0}
	Grow        = []byte{0x40, 0}
	Fill        = []byte{0xfc, 11, 0} // memory
)

// I32 is a constant.
func I32(n int32) []byte { return append([]byte{0x41}, signed(int64(n))...) }

// I64 is a constant.
func I64(n int64) []byte { return append([]byte{0x42}, signed(n)...) }

// Get reads a local, Set writes it.
func Get(local uint32) []byte { return append([]byte{0x20}, U32(local)...) }
func Set(local uint32) []byte { return append([]byte{0x21}, U32(local)...) }

// Call calls a function, Br and BrIf branch outwards.
func Call(f uint32) []byte     { return append([]byte{0x10}, U32(f)...) }
func Br(depth uint32) []byte   { return append([]byte{0x0c}, U32(depth)...) }
func BrIf(depth uint32) []byte { return append([]byte{0x0d}, U32(depth)...) }

// Pong is a guest whose export "ping" answers an HTTP event with PONG.
func Pong() []byte { return Say("ping", "PONG") }

// Say is a guest whose export answers an HTTP event with a text.
func Say(export, text string) []byte {
	m := New(1)
	write := m.SDK("eventHttpWrite", "iiii:i")
	m.Data(16, text)
	m.Func(export, "i:", "", Get(0), I32(16), I32(int32(len(text))), I32(0), Call(write), Drop)
	return m.Bytes()
}
