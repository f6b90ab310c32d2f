package meter

import "fmt"

// Each function here reads the content of a section from r and appends its new
// content to m.out. They return refusals; r keeps faults of the format.

func (m *rewriter) typeSection(r *reader) error {
	n := r.count(3)
	if int(n) > m.limits.Types {
		return beyond("types", uint64(n), m.limits.Types)
	}
	m.types = make([]signature, 0, n)
	m.out = appendU32(m.out, n+1)
	start := r.pos
	for range n {
		if form := r.byte(); r.err == nil && form != 0x60 {
			return fmt.Errorf("%w: type %#x is no function", ErrRefused, form)
		}
		for i := range 2 {
			arity := r.count(1)
			if int(arity) > m.limits.Arity {
				return beyond("parameters or results", uint64(arity), m.limits.Arity)
			}
			if i == 0 {
				m.types = append(m.types, signature{params: arity})
			} else {
				m.types[len(m.types)-1].results = arity
			}
			for range arity {
				valueType(r)
			}
		}
		if r.err != nil {
			return r.err
		}
	}
	m.out = append(m.out, r.b[start:r.pos]...)
	m.out = append(m.out, 0x60, 1, 0x7e, 1, 0x7e) // refuel: (i64) -> (i64)
	return nil
}

func (m *rewriter) importSection(r *reader) error {
	n := r.count(4)
	if int(n) > m.limits.Imports {
		return beyond("imports", uint64(n), m.limits.Imports)
	}
	m.out = appendU32(m.out, n+1)
	start := r.pos
	for range n {
		module, name := r.name(), r.name()
		if module == Module || reserved(name) {
			return fmt.Errorf("%w: import of the reserved %q %q", ErrRefused, module, name)
		}
		switch kind := r.byte(); kind {
		case 0:
			m.funcs = append(m.funcs, m.typeIndex(r))
			m.importedFuncs++
		case 1:
			refType(r)
			if _, _, _, err := sizes(r); err != nil {
				return err
			}
			if m.tables++; int(m.tables) > m.limits.Tables {
				return beyond("tables", uint64(m.tables), m.limits.Tables)
			}
		case 2:
			if _, _, _, err := sizes(r); err != nil {
				return err
			}
			m.memories++
		case 3:
			valueType(r)
			m.mutable += uint32(mutability(r))
			m.globals++
		default:
			return fmt.Errorf("%w: import of kind %d", ErrRefused, kind)
		}
		if r.err != nil {
			return r.err
		}
	}
	m.out = append(m.out, r.b[start:r.pos]...)
	m.out = appendName(m.out, Module)
	m.out = appendName(m.out, Refuel)
	m.out = append(m.out, 0)
	m.out = appendU32(m.out, uint32(len(m.types)))
	return nil
}

func (m *rewriter) functionSection(r *reader) error {
	n := r.count(1)
	if int(n) > m.limits.Functions {
		return beyond("functions", uint64(n), m.limits.Functions)
	}
	m.out = appendU32(m.out, n)
	for range n {
		t := m.typeIndex(r)
		m.funcs = append(m.funcs, t)
		m.out = appendU32(m.out, t)
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

func (m *rewriter) tableSection(r *reader) error {
	n := r.count(3)
	m.tables += n
	if int(m.tables) > m.limits.Tables {
		return beyond("tables", uint64(m.tables), m.limits.Tables)
	}
	m.out = appendU32(m.out, n)
	for range n {
		m.out = append(m.out, refType(r))
		if err := m.bounded(r, "entries of a table", m.limits.TableEntries, m.limits.TableGrowth, 1<<32-1); err != nil {
			return err
		}
	}
	return nil
}

func (m *rewriter) memorySection(r *reader) error {
	n := r.count(2)
	m.memories += n
	if m.memories > 1 {
		return beyond("memories", uint64(m.memories), 1)
	}
	m.out = appendU32(m.out, n)
	for range n {
		if err := m.bounded(r, "pages of memory", m.limits.MemoryPages, m.limits.MemoryPages, 1<<16); err != nil {
			return err
		}
	}
	return nil
}

// bounded copies the size of a table or a memory and lowers its maximum to limit
// and to what growth allows. most is what the format allows.
func (m *rewriter) bounded(r *reader, what string, limit, growth, most uint32) error {
	low, high, hasHigh, err := sizes(r)
	switch {
	case err != nil:
		return err
	case low > limit:
		return beyond(what, uint64(low), int(limit))
	case hasHigh && high < low:
		r.fail("a maximum of %d below the minimum of %d", high, low)
	case high > most:
		r.fail("a maximum of %d %s", high, what)
	case !hasHigh:
		high = limit
	}
	high = min(high, limit, low+min(growth, limit-low))
	m.out = append(m.out, 1)
	m.out = appendU32(m.out, low)
	m.out = appendU32(m.out, high)
	return nil
}

func (m *rewriter) globalSection(r *reader) error {
	n := r.count(4)
	if all := uint64(m.globals) + uint64(n); all > uint64(m.limits.Globals) {
		return beyond("globals", all, m.limits.Globals)
	}
	m.out = appendU32(m.out, n+1)
	for range n {
		typ, mutable := valueType(r), mutability(r)
		m.mutable += uint32(mutable)
		m.out = append(m.out, typ, mutable)
		if err := m.constant(r); err != nil {
			return err
		}
		m.globals++ // a constant may read the globals before it only
	}
	m.out = append(m.out, 0x7e, 1, 0x42, 0, 0x0b) // fuel: mutable i64, 0
	return nil
}

func (m *rewriter) exportSection(r *reader) error {
	n := r.count(3)
	if int(n) > m.limits.Exports {
		return beyond("exports", uint64(n), m.limits.Exports)
	}
	added := uint32(1)
	if m.start >= 0 {
		added++
	}
	m.out = appendU32(m.out, n+added)
	for range n {
		name := r.name()
		if reserved(name) {
			return fmt.Errorf("%w: export of the reserved %q", ErrRefused, name)
		}
		m.out = appendName(m.out, name)
		kind := r.byte()
		m.out = append(m.out, kind)
		switch kind {
		case 0:
			m.funcIndex(r)
		case 1:
			m.index(r, "table", m.tables)
		case 2:
			m.index(r, "memory", m.memories)
		case 3:
			m.index(r, "global", m.globals)
		default:
			return fmt.Errorf("%w: export of kind %d", ErrRefused, kind)
		}
		if r.err != nil {
			return r.err
		}
	}
	m.out = appendName(m.out, Fuel)
	m.out = append(m.out, 3)
	m.out = appendU32(m.out, m.globals)
	if m.start < 0 {
		return nil
	}
	if m.start >= int64(len(m.funcs)) || m.types[m.funcs[m.start]].arity() > 0 {
		return fmt.Errorf("%w: start function %d", ErrMalformed, m.start)
	}
	m.out = appendName(m.out, Start)
	m.out = append(m.out, 0)
	m.out = appendU32(m.out, m.shifted(uint32(m.start)))
	return nil
}

func (m *rewriter) elementSection(r *reader) error {
	n := r.count(3)
	m.out = appendU32(m.out, n)
	var all uint64
	for range n {
		// Bit 0: passive or declarative. Bit 1: a table is named, or
		// declarative. Bit 2: constants instead of function indices.
		flags := r.u32()
		if flags > 7 {
			r.fail("element segment of form %d", flags)
		}
		if r.err != nil {
			return r.err
		}
		m.out = appendU32(m.out, flags)
		if flags&1 == 0 {
			if flags&2 != 0 {
				m.index(r, "table", m.tables)
			}
			if err := m.constant(r); err != nil {
				return err
			}
		}
		if flags&3 != 0 {
			if flags&4 != 0 {
				m.out = append(m.out, refType(r))
			} else {
				kind := r.byte()
				if kind != 0 {
					r.fail("elements of kind %d", kind)
				}
				m.out = append(m.out, kind)
			}
		}
		entries := r.count(1)
		if all += uint64(entries) + 1; all > uint64(m.limits.Elements) {
			return beyond("elements", all, m.limits.Elements)
		}
		m.out = appendU32(m.out, entries)
		for range entries {
			if flags&4 == 0 {
				m.funcIndex(r)
			} else if err := m.constant(r); err != nil {
				return err
			}
			if r.err != nil {
				return r.err
			}
		}
	}
	return nil
}

func (m *rewriter) codeSection(r *reader) error {
	n := r.count(2)
	if defined := uint32(len(m.funcs)) - m.importedFuncs; n != defined {
		r.fail("code of %d functions, %d are declared", n, defined)
		return nil
	}
	m.out = appendU32(m.out, n)
	for i := range n {
		body := r.bytes(r.u32())
		if r.err != nil {
			return r.err
		}
		if len(body) > m.limits.FunctionBytes {
			return beyond("bytes of a function", uint64(len(body)), m.limits.FunctionBytes)
		}
		if err := m.function(body, m.funcs[m.importedFuncs+i]); err != nil {
			return fmt.Errorf("function %d: %w", m.importedFuncs+i, err)
		}
		m.out = appendU32(m.out, uint32(len(m.code)))
		m.out = append(m.out, m.code...)
		if len(m.out) > m.limits.ModuleBytes {
			return beyond("bytes with the checks", uint64(len(m.out)), m.limits.ModuleBytes)
		}
	}
	return nil
}

// constant copies a constant expression.
func (m *rewriter) constant(r *reader) error {
	for {
		start := r.pos
		op := r.byte()
		switch op {
		case opEnd, 0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e: // end; add, sub, mul of i32 and i64
		case opI32Const:
			r.signed(32)
		case opI64Const:
			r.signed(64)
		case opF32Const:
			r.bytes(4)
		case opF64Const:
			r.bytes(8)
		case opVector:
			if r.u32() != 12 {
				r.fail("a vector instruction in a constant")
			}
			r.bytes(16)
		case opGlobalGet:
			checkIndex(r, "global", m.globals)
		case opRefNull:
			refType(r)
		case opRefFunc:
			m.out = append(m.out, op)
			m.funcIndex(r)
			start = r.pos
		default:
			if r.err == nil {
				return fmt.Errorf("%w: instruction %#x in a constant", ErrRefused, op)
			}
		}
		if r.err != nil {
			return r.err
		}
		m.out = append(m.out, r.b[start:r.pos]...)
		if op == opEnd {
			return nil
		}
	}
}

// shifted is the new index of function i: the import that is added comes
// before all functions that the module defines.
func (m *rewriter) shifted(i uint32) uint32 {
	if i >= m.importedFuncs {
		return i + 1
	}
	return i
}

func (m *rewriter) funcIndex(r *reader) {
	i := checkIndex(r, "function", uint32(len(m.funcs)))
	m.declared = m.declared || int64(i) == m.start
	m.out = appendU32(m.out, m.shifted(i))
}

func (m *rewriter) typeIndex(r *reader) uint32 {
	return checkIndex(r, "type", uint32(len(m.types)))
}

func (m *rewriter) index(r *reader, what string, n uint32) {
	m.out = appendU32(m.out, checkIndex(r, what, n))
}

func checkIndex(r *reader, what string, n uint32) uint32 {
	i := r.u32()
	if i >= n {
		r.fail("%s %d of %d", what, i, n)
		return 0
	}
	return i
}

func valueType(r *reader) byte {
	t := r.byte()
	if (t < 0x7b || t > 0x7f) && t != 0x70 && t != 0x6f {
		r.fail("value of type %#x", t)
	}
	return t
}

func refType(r *reader) byte {
	t := r.byte()
	if t != 0x70 && t != 0x6f {
		r.fail("reference of type %#x", t)
	}
	return t
}

func mutability(r *reader) byte {
	t := r.byte()
	if t > 1 {
		r.fail("mutability %d", t)
	}
	return t
}

// sizes reads the minimum and the maximum of a table or a memory.
func sizes(r *reader) (low, high uint32, hasHigh bool, err error) {
	flags := r.byte()
	if flags > 1 {
		return 0, 0, false, fmt.Errorf("%w: shared or 64-bit memory or table", ErrRefused)
	}
	low = r.u32()
	if flags == 1 {
		high = r.u32()
	}
	return low, high, flags == 1, r.err
}
