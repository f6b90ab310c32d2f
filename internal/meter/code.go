package meter

// A short run of code at a function's entry is charged with the loop that
// follows it, and a few bytes of code after that loop as well.
const (
	entryMost = 32
	tailMost  = 8
)

// plan is what a first walk over a function found out for the second.
type plan struct {
	charges []charge // in the order in which their checks stand in the code
	leaf    bool     // some loop is a leaf
	bulk    bool     // some instruction is charged by its operand
}

// charge is a place where fuel is taken.
type charge struct {
	cost int64
	// none: the function starts with a loop, which has this charge too.
	none bool
	// leaf: a loop from which nothing is called. Fuel stays in a local there.
	leaf bool
}

// function rewrites one body into m.code.
func (m *rewriter) function(body []byte, typ uint32) error {
	d := decoder{rewriter: m, reader: reader{b: body}, open: m.open[:0]}
	groups := d.count(2)
	declared := uint64(m.types[typ].params)
	first := d.pos
	for range groups {
		declared += uint64(d.u32())
		valueType(&d.reader)
		if d.err != nil {
			return d.err
		}
		if declared > uint64(m.limits.Locals) {
			return beyond("locals", declared, m.limits.Locals)
		}
	}
	d.locals = uint32(declared)
	localTypes := body[first:d.pos]
	outermost := block{void: m.types[typ].results == 0}

	start := d.pos
	d.open = append(d.open, outermost)
	if err := d.survey(); err != nil {
		return err
	}
	d.pos = start
	d.open = append(d.open, outermost)

	var room [4]byte
	added := room[:0]
	w := writer{decoder: &d, done: start, region: -1, frames: m.frames[:0]}
	if m.plan.leaf {
		w.fuel = d.locals
		added = append(added, 1, typeI64)
	}
	if m.plan.bulk {
		w.operand = d.locals + uint32(len(added)/2)
		added = append(added, 1, typeI32)
	}
	m.code = appendU32(m.code[:0], groups+uint32(len(added)/2))
	m.code = append(m.code, localTypes...)
	m.code = append(m.code, added...)
	w.write()
	m.open, m.frames = d.open, w.frames
	return nil
}

// effort is what the engine's work to compile a function depends on.
type effort struct{ branches, loops, calls, locals uint64 }

// A loop, with the blocks that a check adds, is as much work as several
// branches; the targets of a table are less, since most are the same.
const (
	loopWeight   = 5
	tableShift   = 3
	reloadWeight = 16
	localWeight  = 16
	// reloadsMost bounds what the engine has in memory at once: after every
	// call, it reads each mutable global again.
	reloadsMost = 1 << 18
)

func (e *effort) add(in instruction) {
	switch in.op {
	case opLoop:
		e.loops++
	case opBlock, opIf, opElse, opBr, opBrIf, opReturn:
		e.branches++
	case opBrTable:
		e.branches += 1 + uint64(in.index)>>tableShift
	}
	if in.calls() {
		e.calls++
	}
}

// spend takes a function's effort from what the module may take.
func (m *rewriter) spend(e effort) error {
	paths := e.branches + loopWeight*e.loops
	reloads := e.calls * uint64(m.mutable+1)
	if reloads > reloadsMost {
		return beyond("reads of globals after calls in a function", reloads, reloadsMost)
	}
	m.complexity += paths*paths + reloadWeight*reloads + localWeight*e.locals
	if m.complexity > uint64(m.limits.Complexity) {
		return beyond("units of complexity", m.complexity, m.limits.Complexity)
	}
	return nil
}

// survey walks to the end of the function and makes the plan.
func (d *decoder) survey() error {
	p := &d.plan
	*p = plan{charges: p.charges[:0]}
	p.charges = append(p.charges, charge{none: d.startsWithLoop()})
	loops := d.loops[:0] // the charge of each open loop
	work := effort{locals: uint64(d.locals)}
	base, current := 0, 0 // the function's charge, and that of the innermost loop
	for len(d.open) > 0 {
		ended := d.open[len(d.open)-1]
		in, err := d.next()
		if err != nil {
			return err
		}
		work.add(in)
		if in.calls() {
			d.noLeaf(loops)
		}
		if _, ok := in.bulk(); ok {
			p.bulk = true
			d.noLeaf(loops)
		}
		p.charges[current].cost += d.weight(in)
		switch {
		case in.op == opLoop:
			inner := charge{leaf: true}
			if p.charges[current].none {
				inner.cost = p.charges[current].cost + tailMost
			}
			p.charges = append(p.charges, inner)
			current = len(p.charges) - 1
			loops = append(loops, current)
			d.loops = loops
			if d.open[len(d.open)-1].params {
				d.noLeaf(loops)
			}
		case in.op == opEnd && ended.loop:
			p.leaf = p.leaf || p.charges[current].leaf
			loops = loops[:len(loops)-1]
			if len(loops) > 0 {
				current = loops[len(loops)-1]
				continue
			}
			if p.charges[base].none && d.left() > tailMost {
				// What follows the loop that has the entry's charge.
				p.charges = append(p.charges, charge{})
				base = len(p.charges) - 1
			}
			current = base
		}
	}
	return d.spend(work)
}

func (d *decoder) noLeaf(loops []int) {
	for _, i := range loops {
		d.plan.charges[i].leaf = false
	}
}

// startsWithLoop tells whether the function starts with a few instructions that
// neither branch nor call, and then a loop.
func (d *decoder) startsWithLoop() bool {
	saved := d.reader
	defer func() { d.reader = saved }()
	for range entryMost {
		op := d.byte()
		if op == opLoop && d.err == nil {
			return true
		}
		if !d.plain(op) || d.err != nil {
			return false
		}
	}
	return false
}
