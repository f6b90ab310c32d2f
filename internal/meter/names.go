package meter

// appendNames writes a name section with the module's and the functions' names,
// so that traces of traps keep them. What can't be read is left out: names have
// no meaning to the engine.
func (m *rewriter) appendNames() {
	if m.names == nil {
		return
	}
	start := len(m.out)
	m.out = append(m.out, secCustom)
	body := len(m.out)
	m.out = appendName(m.out, "name")
	r := reader{b: m.names}
	last, written := -1, false
	for r.left() > 0 && r.err == nil {
		id := int(r.byte())
		content := reader{b: r.bytes(r.u32())}
		if r.err != nil || id <= last {
			break
		}
		last = id
		at := len(m.out)
		m.out = append(m.out, byte(id))
		switch id {
		case 0:
			m.out = appendName(m.out, content.name())
		case 1:
			m.functionNames(&content)
		default:
			content.fail("not kept")
		}
		if content.err != nil || content.left() > 0 {
			m.out = m.out[:at]
			continue
		}
		m.measure(at + 1)
		written = true
	}
	if !written {
		m.out = m.out[:start]
		return
	}
	m.measure(body)
}

func (m *rewriter) functionNames(r *reader) {
	n := r.count(2)
	m.out = appendU32(m.out, n)
	next := uint32(0) // indices ascend
	for range n {
		i := checkIndex(r, "function", uint32(len(m.funcs)))
		if i < next {
			r.fail("names out of order")
		}
		next = i + 1
		m.out = appendU32(m.out, m.shifted(i))
		m.out = appendName(m.out, r.name())
		if r.err != nil {
			return
		}
	}
}
