package meter

import "fmt"

// decoder walks over the instructions of a function.
type decoder struct {
	*rewriter
	reader
	locals uint32
	open   []block
}

// block is an open block; the first is the function itself.
type block struct {
	loop, params, void bool // void: a branch to it takes no values along
}

// instruction is one that was read: its bytes are at to pos.
type instruction struct {
	at    int
	op    byte
	sub   uint32 // of one with the prefix 0xfc
	index uint32 // of a function, the label of a branch, or the size of a table of labels
	arity uint32 // values that a call or a block takes and gives
}

// next reads an instruction and checks its indices. It keeps open up to date:
// at the end of a block, the block is gone.
func (d *decoder) next() (instruction, error) {
	in := instruction{at: d.pos}
	in.op = d.byte()
	switch in.op {
	case opBlock, opIf, opLoop:
		b, arity := d.block(in.op == opLoop)
		d.open = append(d.open, b)
		in.arity = arity
	case opElse, opReturn:
	case opEnd:
		d.open = d.open[:len(d.open)-1]
		if len(d.open) == 0 && d.left() > 0 {
			d.fail("%d bytes after the end of a function", d.left())
		}
	case opBr, opBrIf:
		in.index = d.label()
	case opBrTable:
		in.index = d.count(1)
		for range in.index {
			d.label()
		}
		d.label()
	case opCall, opReturnCall, opRefFunc:
		in.index = checkIndex(&d.reader, "function", uint32(len(d.funcs)))
		switch {
		case d.err != nil:
		case in.op != opRefFunc:
			in.arity = d.types[d.funcs[in.index]].arity()
		case int64(in.index) == d.start && !d.declared: // only its new export would allow it
			d.fail("reference to function %d, which nothing declares", in.index)
		}
	case opCallIndirect, opReturnCallIn:
		if t := d.typeIndex(&d.reader); d.err == nil {
			in.arity = d.types[t].arity()
		}
		checkIndex(&d.reader, "table", d.tables)
	case opMemoryGrow:
		d.zero()
	case opMisc:
		in.sub = d.u32()
		if !d.misc(in.sub) && d.err == nil {
			return in, fmt.Errorf("%w: instruction 0xfc %d is not supported", ErrRefused, in.sub)
		}
	default:
		if !d.plain(in.op) && d.err == nil {
			return in, fmt.Errorf("%w: instruction %#x is not supported", ErrRefused, in.op)
		}
	}
	return in, d.err
}

// block reads the type of a block.
func (d *decoder) block(loop bool) (b block, arity uint32) {
	b.loop = loop
	switch t := d.signed(33); {
	case t == -64:
		b.void = true
	case t >= -5 && t <= -1, t == -16, t == -17: // a number or a reference
		b.void = loop
	case t < 0 || t >= int64(len(d.types)):
		d.fail("block of type %d", t)
	default:
		b.params = d.types[t].params > 0
		b.void = loop && !b.params || !loop && d.types[t].results == 0
		arity = d.types[t].arity()
	}
	return b, arity
}

// label reads the target of a branch.
func (d *decoder) label() uint32 { return checkIndex(&d.reader, "label", uint32(len(d.open))) }

// zero reads a byte that is reserved.
func (d *decoder) zero() {
	if d.byte() != 0 {
		d.fail("a memory other than the first")
	}
}

// address reads the alignment and the offset of a load or a store.
func (d *decoder) address() {
	if d.u32() >= 32 {
		d.fail("alignment out of range, or a memory other than the first")
	}
	d.u32()
}

func (d *decoder) table() { checkIndex(&d.reader, "table", d.tables) }

// plain reads the operands of an instruction that is copied as it is, does not
// change the flow of control and takes its time whatever its operands are. It
// returns false for all others.
func (d *decoder) plain(op byte) bool {
	switch {
	case op >= opFirstNumeric && op <= opLastNumeric:
	case op >= opLocalGet && op <= opLocalTee:
		checkIndex(&d.reader, "local", d.locals)
	case op == opGlobalGet, op == opGlobalSet:
		checkIndex(&d.reader, "global", d.globals)
	case op == opI32Const:
		d.signed(32)
	case op == opI64Const:
		d.signed(64)
	case op == opF32Const:
		d.bytes(4)
	case op == opF64Const:
		d.bytes(8)
	case op >= opFirstLoad && op <= opLastStore:
		d.address()
	case op == opMemorySize:
		d.zero()
	case op == opUnreachable, op == opNop, op == opDrop, op == opSelect, op == opRefIsNull:
	case op == opSelectT:
		for range d.count(1) {
			valueType(&d.reader)
		}
	case op == opTableGet, op == opTableSet:
		d.table()
	case op == opRefNull:
		refType(&d.reader)
	case op == opVector:
		return d.vector()
	default:
		return false
	}
	return true
}

// vector reads the rest of a SIMD instruction.
func (d *decoder) vector() bool {
	op := d.u32()
	switch {
	case op <= 11, op == 92, op == 93: // loads and a store
		d.address()
	case op == 12, op == 13: // v128.const, shuffle
		d.bytes(16)
	case op >= 21 && op <= 34: // extract and replace lane
		d.byte()
	case op >= 84 && op <= 91: // load and store lane
		d.address()
		d.byte()
	case op > 255:
		return false // relaxed SIMD and later
	}
	return true
}

// misc reads the rest of an instruction with the prefix 0xfc.
func (d *decoder) misc(sub uint32) bool {
	switch sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating truncation
	case memoryInit:
		d.segments = true
		d.u32()
		d.zero()
	case dataDrop:
		d.segments = true
		d.u32()
	case elemDrop:
		d.u32()
	case memoryCopy:
		d.zero()
		d.zero()
	case memoryFill:
		d.zero()
	case tableInit:
		d.u32()
		d.table()
	case tableCopy:
		d.table()
		d.table()
	case tableGrow, tableSize, tableFill:
		d.table()
	default:
		return false
	}
	return true
}

// weight is what the instruction costs, apart from its operands. Many values
// cost more, so that the stack grows by no more than some bytes for a unit.
func (d *decoder) weight(in instruction) int64 {
	values := int64(in.arity >> arityShift)
	switch {
	case in.op == opCall && in.index < d.importedFuncs, in.op == opReturnCall && in.index < d.importedFuncs:
		return costImport + values
	case in.op == opMemoryGrow, in.op == opMisc && in.sub == tableGrow:
		return costGrow
	}
	return 1 + values
}

// calls tells whether the instruction may run other functions.
func (in instruction) calls() bool {
	return in.op >= opCall && in.op <= opReturnCallIn
}

// bulk tells whether the work of the instruction is its last operand, and how
// far that is shifted to be a cost.
func (in instruction) bulk() (shift byte, ok bool) {
	if in.op != opMisc {
		return 0, false
	}
	switch in.sub {
	case memoryInit, memoryCopy, memoryFill:
		return bytesShift, true
	case tableInit, tableCopy, tableFill:
		return 0, true
	}
	return 0, false
}
