package meter

// writer walks over a function that was surveyed and appends its new code to
// m.code.
//
// Most checks work on the global itself. A leaf loop, with its inner loops the
// tightest code there is, keeps the fuel in a local instead, and the call of
// refuel outside of the loop: with both, what the loop computes stays in
// registers. The outermost of nested leaf loops becomes
//
//	fuel = global
//	block $done
//	  loop $again
//	    block $slow
//	      loop              ;; the loop of the module
//	        fuel -= cost
//	        br_if $slow (fuel < 0)
//	        …
//	      end
//	      br $done
//	    end
//	    fuel = refuel(fuel) + cost
//	    br $again
//	  end
//	end
//	global = fuel
//
// and those within it likewise, without the first and the last line. A branch
// that leaves all of them writes the global first.
type writer struct {
	*decoder
	done    int     // the body is copied up to here
	frames  []frame // for each open block of the decoder
	depth   uint32  // number of blocks open in the new code
	used    int     // charges that have been written
	region  int     // index of the outermost leaf loop that is open, or -1
	fuel    uint32  // the local that has the fuel in leaf loops
	operand uint32  // the local that has an operand
}

type frame struct {
	depth  uint32 // number of blocks in the new code that stand around its label
	charge charge // of a loop
}

func (w *writer) write() {
	w.frames = append(w.frames, frame{})
	base := w.charge()
	w.check(base)
	for len(w.open) > 0 && w.err == nil {
		in, _ := w.next() // without fault, since the survey had none
		switch in.op {
		case opBlock, opIf:
			w.depth++
			w.frames = append(w.frames, frame{depth: w.depth})
		case opLoop:
			w.loop(in)
		case opEnd:
			last := len(w.frames) - 1
			ended := w.frames[last]
			w.frames = w.frames[:last]
			w.depth-- // below zero at the function's end, and then unused
			if ended.charge.leaf {
				w.endLeaf(ended.charge.cost, w.region == last)
			}
			if ended.charge.cost > 0 && last == 1 && base.none && w.left() > tailMost {
				base = w.charge()
				w.check(base)
			}
		case opBr, opBrIf, opBrTable:
			if w.plan.leaf {
				w.branch(in)
			}
		case opReturn:
			if w.region >= 0 {
				w.copyTo(in.at)
				w.flush()
			}
		case opCall, opReturnCall, opRefFunc:
			w.copyTo(in.at)
			w.emit(in.op)
			w.number(w.shifted(in.index))
			w.done = w.pos
		case opMisc:
			if shift, ok := in.bulk(); ok {
				w.chargeOperand(in, shift)
			}
		}
	}
	w.copyTo(w.pos)
}

// charge is the next one of the plan.
func (w *writer) charge() charge {
	w.used++
	return w.plan.charges[w.used-1]
}

func (w *writer) loop(in instruction) {
	c := w.charge()
	w.depth++
	if !c.leaf {
		w.frames = append(w.frames, frame{w.depth, c})
		w.check(c)
		return
	}
	w.copyTo(in.at)
	if w.region < 0 {
		w.region = len(w.frames)
		w.get()
		w.indexed(opLocalSet, w.fuel)
	}
	typ := w.b[in.at+1 : w.pos]
	w.emit(opBlock)
	w.emit(typ...)
	w.emit(opLoop)
	w.emit(typ...)
	w.emit(opBlock, blockEmpty, opLoop)
	w.emit(typ...)
	w.done = w.pos
	w.depth += 3
	w.frames = append(w.frames, frame{w.depth, c})
	w.indexed(opLocalGet, w.fuel)
	w.constant64(c.cost)
	w.emit(opI64Sub)
	w.indexed(opLocalTee, w.fuel)
	w.emit(opI64Const, 0, opI64LtS, opBrIf, 1)
}

// endLeaf follows the end of a leaf loop.
func (w *writer) endLeaf(cost int64, outermost bool) {
	w.copyTo(w.pos)
	w.emit(opBr, 2, opEnd)
	w.indexed(opLocalGet, w.fuel)
	w.refuel()
	w.constant64(cost) // the loop's head takes it again
	w.emit(opI64Add)
	w.indexed(opLocalSet, w.fuel)
	w.emit(opBr, 0, opEnd, opEnd)
	w.depth -= 3
	if outermost {
		w.flush()
		w.region = -1
	}
}

// branch writes a branch with the labels of the new code.
func (w *writer) branch(in instruction) {
	w.copyTo(in.at)
	target := len(w.open) - 1 - int(in.index)
	leaves := w.region >= 0 && target < w.region
	switch {
	case in.op == opBrTable:
		w.branchTable(in)
	case leaves && in.op == opBrIf && w.open[target].void:
		// Writes the global only when it leaves.
		w.emit(opIf, blockEmpty)
		w.flush()
		w.emit(opBr)
		w.number(w.label(target) + 1)
		w.emit(opEnd)
	default:
		if leaves {
			w.flush()
		}
		w.emit(in.op)
		w.number(w.label(target))
	}
	w.done = w.pos
}

func (w *writer) branchTable(in instruction) {
	r := reader{b: w.b, pos: in.at + 1}
	n := r.u32()
	labels := r.pos
	if w.region >= 0 {
		for range n + 1 {
			if len(w.open)-1-int(r.u32()) < w.region {
				w.flush()
				break
			}
		}
	}
	w.emit(opBrTable)
	w.number(n)
	r.pos = labels
	for range n + 1 {
		w.number(w.label(len(w.open) - 1 - int(r.u32())))
	}
}

// label is that of an open block, seen from here in the new code.
func (w *writer) label(target int) uint32 { return w.depth - w.frames[target].depth }

// check takes the cost of a charge from the global.
func (w *writer) check(c charge) {
	if c.none {
		return
	}
	w.copyTo(w.pos)
	w.get()
	w.constant64(c.cost)
	w.take()
}

// chargeOperand takes the i32 on the stack, divided by 1<<shift, from the
// global before the instruction that has it as its last operand.
func (w *writer) chargeOperand(in instruction, shift byte) {
	w.copyTo(in.at)
	w.indexed(opLocalTee, w.operand)
	w.get()
	w.indexed(opLocalGet, w.operand)
	w.emit(opI64ExtendU)
	if shift > 0 {
		w.emit(opI64Const, shift, opI64ShrU)
	}
	w.take()
}

// take emits the rest of a check, with the fuel and the cost on the stack.
func (w *writer) take() {
	w.emit(opI64Sub)
	w.set()
	w.get()
	w.emit(opI64Const, 0, opI64LtS, opIf, blockEmpty)
	w.get()
	w.refuel()
	w.set()
	w.emit(opEnd)
}

func (w *writer) flush() {
	w.indexed(opLocalGet, w.fuel)
	w.set()
}

func (w *writer) get() { w.indexed(opGlobalGet, w.globals) }
func (w *writer) set() { w.indexed(opGlobalSet, w.globals) }

func (w *writer) refuel() { w.indexed(opCall, w.importedFuncs) }

// indexed emits an instruction with an index.
func (w *writer) indexed(op byte, index uint32) {
	w.emit(op)
	w.number(index)
}

func (w *writer) constant64(v int64) {
	w.emit(opI64Const)
	for ; v >= 0x40; v >>= 7 {
		w.emit(byte(v) | 0x80)
	}
	w.emit(byte(v))
}

func (w *writer) emit(b ...byte)  { w.code = append(w.code, b...) }
func (w *writer) number(v uint32) { w.code = appendU32(w.code, v) }

// copyTo copies the body up to pos.
func (w *writer) copyTo(pos int) {
	w.emit(w.b[w.done:pos]...)
	w.done = pos
}
