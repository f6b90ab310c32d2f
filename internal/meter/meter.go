package meter

import (
	"bytes"
	"errors"
	"fmt"
)

// Version changes whenever Instrument makes other code of the same module. Who
// keeps metered or compiled modules makes it part of the key.
const Version = 4

// The names that are added to a module, and that it must not use itself.
const (
	Module = "taubyte/meter"      // the module that the host provides
	Refuel = "refuel"             // its function, (i64) -> (i64)
	Fuel   = "taubyte/meter fuel" // the exported global, a mutable i64
	// Start is the export of what was the module's start function, if it has one.
	// The host calls it first of all: nothing of the guest runs while it is being
	// instantiated, where the host would have no hold on it.
	Start = "taubyte/meter start"
)

func reserved(name string) bool { return name == Fuel || name == Start }

var (
	// ErrMalformed is what is no WebAssembly binary, or breaks the format's rules.
	ErrMalformed = errors.New("malformed WebAssembly module")
	// ErrRefused is a module that is beyond the limits, or uses what is not
	// supported (threads, exceptions, garbage collection, 64-bit or several
	// memories) or reserved.
	ErrRefused = errors.New("WebAssembly module refused")
)

var header = []byte{0, 'a', 's', 'm', 1, 0, 0, 0}

const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
	sections
)

// order is that in which the sections stand in a module.
var order = [...]byte{secType, secImport, secFunction, secTable, secMemory, secGlobal, secExport, secStart, secElement, secDataCount, secCode, secData}

// Instrument returns the module with the gauge built in, as the package's text
// describes. It does not change its argument. The error is an ErrMalformed or
// an ErrRefused; a nil one does not mean that the module is valid: types are
// checked by the engine that compiles the result.
func Instrument(module []byte, limits Limits) ([]byte, error) {
	m := &rewriter{limits: limits.withDefaults()}
	if len(module) > m.limits.ModuleBytes {
		return nil, beyond("bytes", uint64(len(module)), m.limits.ModuleBytes)
	}
	if !bytes.HasPrefix(module, header) {
		return nil, fmt.Errorf("%w: no header of version 1", ErrMalformed)
	}
	if err := m.split(module[len(header):]); err != nil {
		return nil, err
	}
	m.start = -1
	if content := m.in[secStart]; content != nil {
		r := reader{b: content}
		m.start = int64(r.u32())
		if r.err != nil || r.left() > 0 {
			return nil, fmt.Errorf("start section: %w", ErrMalformed)
		}
	}
	m.out = append(make([]byte, 0, len(module)+len(module)/3+256), header...)
	for _, id := range order {
		if err := m.section(id); err != nil {
			return nil, fmt.Errorf("%s section: %w", sectionNames[id], err)
		}
	}
	m.appendNames()
	return m.out, nil
}

var sectionNames = [sections]string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data", "data count"}

// rewriter is one run of Instrument.
type rewriter struct {
	limits Limits
	in     [sections][]byte // contents of the sections, nil where there is none
	names  []byte           // content of the name section
	out    []byte
	code   []byte // the function being rewritten
	plan   plan   // and how

	// Room that is used again for each function.
	open   []block
	frames []frame
	loops  []int

	types         []signature
	funcs         []uint32 // type of each function, imported ones first
	importedFuncs uint32
	globals       uint32 // numbers in the original module
	tables        uint32
	memories      uint32
	mutable       uint32 // globals that can change
	segments      bool   // data segments are named by instructions
	countAt       int    // where the number of data segments stands, if it does
	start         int64  // the start function, or -1
	declared      bool   // it may be referred to: something else than code names it
	complexity    uint64 // so far
}

// split finds the sections and checks their order.
func (m *rewriter) split(b []byte) error {
	r := reader{b: b}
	place := 0
	for r.left() > 0 {
		id := r.byte()
		content := r.bytes(r.u32())
		if r.err != nil {
			return r.err
		}
		if id == secCustom {
			c := reader{b: content}
			name := c.name()
			if c.err != nil {
				return c.err
			}
			if name == "name" && m.names == nil {
				m.names = content[c.pos:]
			}
			continue
		}
		for place < len(order) && order[place] != id {
			place++
		}
		if place == len(order) {
			if id == 13 {
				return fmt.Errorf("%w: exceptions are not supported", ErrRefused)
			}
			return fmt.Errorf("%w: section %d unknown, twice or out of order", ErrMalformed, id)
		}
		place++
		m.in[id] = content
	}
	return nil
}

// section rewrites one section. Absent ones are read as empty, since the
// gauge adds to some of them.
func (m *rewriter) section(id byte) error {
	content := m.in[id]
	if content == nil {
		switch id {
		case secType, secImport, secGlobal, secExport:
			content = []byte{0}
		case secFunction, secCode:
			if m.in[secFunction] == nil && m.in[secCode] == nil {
				return nil
			}
			content = []byte{0}
		default:
			return nil
		}
	}
	if id == secStart {
		return nil // it is an export by now
	}
	start := len(m.out)
	m.out = append(m.out, id)
	r := &reader{b: content}
	var err error
	switch id {
	case secType:
		err = m.typeSection(r)
	case secImport:
		err = m.importSection(r)
	case secFunction:
		err = m.functionSection(r)
	case secTable:
		err = m.tableSection(r)
	case secMemory:
		err = m.memorySection(r)
	case secGlobal:
		err = m.globalSection(r)
	case secExport:
		err = m.exportSection(r)
	case secElement:
		err = m.elementSection(r)
	case secDataCount:
		m.dataCount(r)
	case secCode:
		err = m.codeSection(r)
	case secData:
		err = m.dataSection(r)
	}
	switch {
	case r.err != nil:
		return r.err
	case err != nil:
		return err
	case r.left() > 0:
		return fmt.Errorf("%w: %d bytes too many", ErrMalformed, r.left())
	}
	m.measure(start + 1)
	return nil
}

// measure puts the length of what was written since start before it.
func (m *rewriter) measure(start int) {
	var size [5]byte
	n := len(appendU32(size[:0], uint32(len(m.out)-start)))
	m.out = append(m.out, size[:n]...) // make room
	copy(m.out[start+n:], m.out[start:len(m.out)-n])
	copy(m.out[start:], size[:n])
}

// signature has the numbers of a function type's parameters and results.
type signature struct{ params, results uint32 }

func (s signature) arity() uint32 { return s.params + s.results }
