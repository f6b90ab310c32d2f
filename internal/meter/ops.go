package meter

const (
	opUnreachable  = 0x00
	opNop          = 0x01
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
	opSelect       = 0x1b
	opSelectT      = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
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
	opI64Add       = 0x7c
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
	typeI64        = 0x7e
)

// What an instruction costs, where it is not 1.
const (
	costImport = 50      // leaves compiled code
	costGrow   = 1 << 14 // takes memory; its sum is bounded by the maximum size
	// Bytes moved by memory.copy, fill and init for a unit of fuel, as a shift.
	bytesShift = 3
	// Values that a call or a block takes and gives for another unit.
	arityShift = 3
)

// Instructions with the prefix 0xfc.
const (
	memoryInit = 8
	dataDrop   = 9
	memoryCopy = 10
	memoryFill = 11
	tableInit  = 12
	elemDrop   = 13
	tableCopy  = 14
	tableGrow  = 15
	tableSize  = 16
	tableFill  = 17
)
