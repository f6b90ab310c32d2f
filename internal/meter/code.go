package meter

import "fmt"

const (
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opReturnCall   = 0x12
	opReturnCallIn = 0x13
	opDrop         = 0x1a
	opSelectT      = 0x1c
	opLocalGet     = 0x20
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableGet     = 0x25
	opTableSet     = 0x26
	opFirstLoad    = 0x28
	opLastStore    = 0x3e
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI64LtS       = 0x53
	opI64Sub       = 0x7d
	opI64ShrU      = 0x88
	opI64ExtendU   = 0xad
	opFirstNumeric = 0x45
	opLastNumeric  = 0xc4
	opRefNull      = 0xd0
	opRefIsNull    = 0xd1
	opRefFunc      = 0xd2
	opMisc         = 0xfc
	opVector       = 0xfd
	blockEmpty     = 0x40
	typeI32        = 0x7f
)

// What an instruction costs, where it is not 1.
const (
	costImport = 50      // leaves compiled code
	costGrow   = 1 << 14 // takes memory; its sum is bounded by the maximum size
	costMost   = 1<<27 - 1
	// Bytes moved by memory.copy, fill and init for a unit of fuel, as a shift.
	bytesShift = 3
)

// A short run of code at a function's entry is charged with the loop that
// follows it, and a few instructions after that loop as well.
const (
	entryMost = 32
	tailMost  = 8
)

// charge is a place where fuel is taken: where in the output its cost stands
// (-1: none yet), and what it has come to so far.
type charge struct {
	at   int
	cost int64
}

// function is one run over a function's body. It appends to m.code.
type function struct {
	*rewriter
	r       reader
	done    int // the body is copied up to here
	locals  uint32
	scratch bool     // the added local is used
	charges []charge // that of the function, and of each open loop
	loops   []bool   // for each open block: whether it is a loop
}

// function rewrites one body into m.code.
func (m *rewriter) function(body []byte, typ uint32) error {
	f := function{rewriter: m, r: reader{b: body}}
	r := &f.r
	groups := r.count(2)
	declared := uint64(m.params[typ])
	first := r.pos
	for range groups {
		declared += uint64(r.u32())
		valueType(r)
		if r.err != nil {
			return r.err
		}
		if declared > uint64(m.limits.Locals) {
			return beyond("locals", declared, m.limits.Locals)
		}
	}
	f.locals = uint32(declared)
	localTypes := body[first:r.pos]
	f.done = r.pos

	m.code = m.code[:0]
	if err := f.instructions(); err != nil {
		return err
	}

	// The locals stand before the code, and whether one is added is known now.
	var head []byte
	if f.scratch {
		head = append(append(appendU32(nil, groups+1), localTypes...), 1, typeI32)
	} else {
		head = append(appendU32(nil, groups), localTypes...)
	}
	n := len(m.code)
	m.code = append(m.code, head...)
	copy(m.code[len(head):], m.code[:n])
	copy(m.code, head)
	return nil
}

func (f *function) instructions() error {
	r := &f.r
	f.charges = append(f.charges, charge{at: -1})
	if !f.leadsToLoop() {
		f.openCharge()
	}
	for {
		at := r.pos
		op := r.byte()
		cost := int64(1)
		switch op {
		case opBlock, opIf:
			f.blockType()
			f.loops = append(f.loops, false)
		case opLoop:
			f.blockType()
			f.spend(cost)
			f.loops = append(f.loops, true)
			entry := f.charges[len(f.charges)-1]
			f.charges = append(f.charges, charge{at: -1})
			if entry.at < 0 { // the entry is charged here
				f.charges[len(f.charges)-1].cost = entry.cost + tailMost
				f.charges[len(f.charges)-2].cost = 0
			}
			f.openCharge()
			continue
		case opElse:
		case opEnd:
			f.spend(cost)
			n := len(f.loops)
			if n == 0 {
				return f.finish()
			}
			if f.loops[n-1] {
				f.closeCharge()
				if f.charges[len(f.charges)-1].at < 0 && r.left() > tailMost {
					f.openCharge() // what follows a loop that was charged for the entry
				}
			}
			f.loops = f.loops[:n-1]
			if r.err == nil {
				continue
			}
		case opBr, opBrIf:
			f.label()
		case opBrTable:
			for range r.count(1) {
				f.label()
			}
			f.label()
		case opReturn:
		case opCall, opReturnCall:
			f.copyTo(at)
			i := checkIndex(r, "function", uint32(len(f.funcs)))
			if i < f.importedFuncs {
				cost = costImport
			}
			f.code = appendU32(append(f.code, op), f.shifted(i))
			f.done = r.pos
		case opCallIndirect, opReturnCallIn:
			f.typeIndex(r)
			checkIndex(r, "table", f.tables)
		case opRefFunc:
			f.copyTo(at)
			f.code = append(f.code, op)
			f.code = appendU32(f.code, f.shifted(checkIndex(r, "function", uint32(len(f.funcs)))))
			f.done = r.pos
		case opMemoryGrow:
			f.zero()
			cost = costGrow
		case opMisc:
			var err error
			if cost, err = f.misc(at); err != nil {
				return err
			}
		default:
			if !f.plain(op) && r.err == nil {
				return fmt.Errorf("%w: instruction %#x is not supported", ErrRefused, op)
			}
		}
		if r.err != nil {
			return r.err
		}
		f.spend(cost)
	}
}

// finish ends the function after its last instruction.
func (f *function) finish() error {
	if f.r.err == nil && f.r.left() > 0 {
		f.r.fail("%d bytes after the end of a function", f.r.left())
	}
	if f.r.err != nil {
		return f.r.err
	}
	f.copyTo(f.r.pos)
	f.closeCharge()
	return nil
}

// leadsToLoop tells whether the function starts with a few instructions that
// neither branch nor call, and then a loop.
func (f *function) leadsToLoop() bool {
	saved := f.r
	defer func() { f.r = saved }()
	for range entryMost {
		op := f.r.byte()
		if op == opLoop && f.r.err == nil {
			return true
		}
		if !f.plain(op) || f.r.err != nil {
			return false
		}
	}
	return false
}

// plain reads the operands of an instruction that is copied as it is, does not
// change the flow of control and takes its time whatever its operands are. It
// returns false for all others.
func (f *function) plain(op byte) bool {
	r := &f.r
	switch {
	case op >= opFirstNumeric && op <= opLastNumeric:
	case op >= opLocalGet && op <= opLocalTee:
		checkIndex(r, "local", f.locals)
	case op == opGlobalGet, op == opGlobalSet:
		checkIndex(r, "global", f.globals)
	case op == opI32Const:
		r.signed(32)
	case op == opI64Const:
		r.signed(64)
	case op == opF32Const:
		r.bytes(4)
	case op == opF64Const:
		r.bytes(8)
	case op >= opFirstLoad && op <= opLastStore:
		f.address()
	case op == opMemorySize:
		f.zero()
	case op == 0x00, op == 0x01, op == opDrop, op == 0x1b, op == opRefIsNull:
		// unreachable, nop, drop, select, ref.is_null
	case op == opSelectT:
		for range r.count(1) {
			valueType(r)
		}
	case op == opTableGet, op == opTableSet:
		checkIndex(r, "table", f.tables)
	case op == opRefNull:
		refType(r)
	case op == opVector:
		return f.vector()
	default:
		return false
	}
	return true
}

// vector reads the rest of a SIMD instruction.
func (f *function) vector() bool {
	r := &f.r
	op := r.u32()
	switch {
	case op <= 11, op == 92, op == 93: // loads and a store
		f.address()
	case op == 12, op == 13: // v128.const, shuffle
		r.bytes(16)
	case op >= 21 && op <= 34: // extract and replace lane
		r.byte()
	case op >= 84 && op <= 91: // load and store lane
		f.address()
		r.byte()
	case op > 255:
		return false // relaxed SIMD and later
	}
	return true
}

// misc reads the rest of an instruction with the prefix 0xfc and puts a charge
// before those whose work is their last operand.
func (f *function) misc(at int) (cost int64, err error) {
	r := &f.r
	switch op := r.u32(); op {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating truncation
	case 8: // memory.init
		r.u32()
		f.zero()
		f.chargeOperand(at, bytesShift)
	case 9, 13: // data.drop, elem.drop
		r.u32()
	case 10: // memory.copy
		f.zero()
		f.zero()
		f.chargeOperand(at, bytesShift)
	case 11: // memory.fill
		f.zero()
		f.chargeOperand(at, bytesShift)
	case 12: // table.init
		r.u32()
		checkIndex(r, "table", f.tables)
		f.chargeOperand(at, 0)
	case 14: // table.copy
		checkIndex(r, "table", f.tables)
		checkIndex(r, "table", f.tables)
		f.chargeOperand(at, 0)
	case 15: // table.grow
		checkIndex(r, "table", f.tables)
		return costGrow, nil
	case 16: // table.size
		checkIndex(r, "table", f.tables)
	case 17: // table.fill
		checkIndex(r, "table", f.tables)
		f.chargeOperand(at, 0)
	default:
		if r.err == nil {
			return 0, fmt.Errorf("%w: instruction 0xfc %d is not supported", ErrRefused, op)
		}
	}
	return 1, nil
}

// blockType reads the type of a block.
func (f *function) blockType() {
	r := &f.r
	switch t := r.signed(33); {
	case t == -64, t >= -5 && t <= -1, t == -16, t == -17: // empty, a number, a reference
	case t < 0 || t >= int64(len(f.params)):
		r.fail("block of type %d", t)
	}
}

// label reads the target of a branch.
func (f *function) label() { checkIndex(&f.r, "label", uint32(len(f.loops))+1) }

// zero reads a byte that is reserved.
func (f *function) zero() {
	if f.r.byte() != 0 {
		f.r.fail("a memory other than the first")
	}
}

// address reads the alignment and the offset of a load or a store.
func (f *function) address() {
	if f.r.u32() >= 32 {
		f.r.fail("alignment out of range, or a memory other than the first")
	}
	f.r.u32()
}

// copyTo copies the body up to pos.
func (f *function) copyTo(pos int) {
	f.code = append(f.code, f.r.b[f.done:pos]...)
	f.done = pos
}

func (f *function) spend(cost int64) { f.charges[len(f.charges)-1].cost += cost }

// openCharge emits the check of the innermost charge here. Its cost is
// written, in four bytes, when it is known.
func (f *function) openCharge() {
	f.copyTo(f.r.pos)
	f.code = appendU32(append(f.code, opGlobalGet), f.globals)
	f.code = append(f.code, opI64Const)
	f.charges[len(f.charges)-1].at = len(f.code)
	f.code = append(f.code, 0x80, 0x80, 0x80, 0x00)
	f.take()
}

// take emits the rest of a check: with the fuel and the cost on the stack, it
// takes the cost and asks for more when too little is left.
func (f *function) take() {
	f.code = append(f.code, opI64Sub, opGlobalSet)
	f.code = appendU32(f.code, f.globals)
	f.code = appendU32(append(f.code, opGlobalGet), f.globals)
	f.code = append(f.code, opI64Const, 0, opI64LtS, opIf, blockEmpty, opGlobalGet)
	f.code = appendU32(f.code, f.globals)
	f.code = appendU32(append(f.code, opCall), f.importedFuncs)
	f.code = appendU32(append(f.code, opGlobalSet), f.globals)
	f.code = append(f.code, opEnd)
}

// closeCharge writes the cost of the innermost charge, which is complete.
func (f *function) closeCharge() {
	c := f.charges[len(f.charges)-1]
	f.charges = f.charges[:len(f.charges)-1]
	if c.at < 0 {
		return
	}
	cost := min(c.cost, costMost)
	for i := range 3 {
		f.code[c.at+i] = byte(cost>>(7*i))&0x7f | 0x80
	}
	f.code[c.at+3] = byte(cost >> 21)
}

// chargeOperand emits, before the instruction at at, a charge of the i32 on the
// stack, which stays there, divided by 1<<shift.
func (f *function) chargeOperand(at int, shift byte) {
	if f.r.err != nil {
		return
	}
	f.scratch = true
	f.copyTo(at)
	f.code = appendU32(append(f.code, opLocalTee), f.locals)
	f.code = appendU32(append(f.code, opGlobalGet), f.globals)
	f.code = appendU32(append(f.code, opLocalGet), f.locals)
	f.code = append(f.code, opI64ExtendU)
	if shift > 0 {
		f.code = append(f.code, opI64Const, shift, opI64ShrU)
	}
	f.take()
}
