package meter

import "fmt"

// Limits bound what a module may declare. A zero field means its default. A
// module beyond a limit is refused with ErrRefused.
type Limits struct {
	// ModuleBytes is the size of the module, before and after. Default 64 MiB.
	ModuleBytes int
	// Types is the number of function types. Default 10,000.
	Types int
	// Arity is the number of parameters, and that of results, of a function or
	// a block. Compiling a jump takes memory for each. Default 128.
	Arity int
	// Imports and Exports are their numbers. Default 1,000 and 10,000.
	Imports, Exports int
	// Functions is the number of functions that the module defines. Stock Go
	// makes about 2,000 for each MB. Default 100,000.
	Functions int
	// FunctionBytes is the size of one function's code: the time to compile a
	// function grows faster than its size. Default 1 MiB.
	FunctionBytes int
	// Complexity bounds the work of compiling the module, for which its size is
	// no measure: it grows with the square of the branches in a function, and
	// 30 KB can take minutes. 40 million units are about a second; a module of
	// stock Go has about 6 million for each MB. Default 400,000,000.
	Complexity int
	// Locals is the number of locals of one function, parameters included. A
	// declaration of billions takes ten bytes of module. Default 50,000.
	Locals int
	// Globals is the number of globals, imported ones included. Default 1,000.
	Globals int
	// Tables is the number of tables, imported ones included. Default 16.
	Tables int
	// TableEntries is the size of one table: a larger minimum is refused, and a
	// larger maximum lowered to it. Stock Go has one entry for each function.
	// Default 100,000. TableGrowth is by how many entries it may grow, and lowers
	// its maximum likewise. Default 4,096.
	TableEntries, TableGrowth uint32
	// MemoryPages is the size of the memory in pages of 64 KiB: a larger
	// minimum is refused, and a larger maximum lowered to it, so that growing
	// beyond it fails as the specification has it. Default 65,536 (4 GiB).
	MemoryPages uint32
	// Elements is the number of entries of all element segments, Data that of
	// data segments. Default 200,000 and 100,000.
	Elements, Data int
}

func (l Limits) withDefaults() Limits {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	set(&l.ModuleBytes, 64<<20)
	set(&l.Types, 10_000)
	set(&l.Arity, 128)
	set(&l.Imports, 1_000)
	set(&l.Exports, 10_000)
	set(&l.Functions, 100_000)
	set(&l.FunctionBytes, 1<<20)
	set(&l.Complexity, 400_000_000)
	set(&l.Locals, 50_000)
	set(&l.Globals, 1_000)
	set(&l.Tables, 16)
	set(&l.Elements, 200_000)
	set(&l.Data, 100_000)
	if l.TableEntries == 0 {
		l.TableEntries = 100_000
	}
	if l.TableGrowth == 0 {
		l.TableGrowth = 4096
	}
	if l.MemoryPages == 0 || l.MemoryPages > 65_536 {
		l.MemoryPages = 65_536
	}
	return l
}

func beyond(what string, got uint64, limit int) error {
	return fmt.Errorf("%w: %d %s, the limit is %d", ErrRefused, got, what, limit)
}
