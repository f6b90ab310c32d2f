package abi

// globals are values that all functions of a project share: for all of it, for an
// application or for a function.
var globals = []decl{
	{"getGlobalValueSize", "iiiii", onGlobal(func(g *Guest, db Database, m module, a []uint64, key string) Errno {
		return g.measure(m, question{"getGlobalValue", 0, key}, a[4], g.value(db, key))
	})},
	{"getGlobalValue", "iiiii", onGlobal(func(g *Guest, db Database, m module, a []uint64, key string) Errno {
		return g.fetch(m, question{"getGlobalValue", 0, key}, a[4], g.value(db, key))
	})},
	{"getOrCreateGlobalValueSize", "iiiii", onGlobal(func(g *Guest, db Database, m module, a []uint64, key string) Errno {
		return g.measure(m, question{"getGlobalValue", 0, key}, a[4], func() ([]byte, Errno) {
			value, e := g.value(db, key)()
			if e == ErrDatabaseKeyNotFound {
				return nil, g.set(db, key, nil)
			}
			return value, e
		})
	})},
	// The last parameter is the capacity of a slice, which is nobody's business.
	{"putGlobalValue", "iiiiiii", onGlobal(func(g *Guest, db Database, m module, a []uint64, key string) Errno {
		value, ok := m.view(a[4], a[5])
		if !ok {
			return ErrAddressOutOfMemory
		}
		return g.set(db, key, value)
	})},
}

// onGlobal is a function whose first parameters are the name of a value and whether it
// is the application's and the function's own. The key has all three apart, so that no
// name leads from one to another's.
func onGlobal(do func(*Guest, Database, module, []uint64, string) Errno) errno {
	return func(g *Guest, m module, a []uint64) Errno {
		name, ok := m.text(a[0], a[1])
		if !ok {
			return ErrAddressOutOfMemory
		}
		if uint32(a[2]) > 1 || uint32(a[3]) > 1 {
			return ErrInvalidBool
		}
		if g.self.Stores == nil {
			return ErrDatabaseCreateFailed
		}
		db, err := g.self.Stores.Globals(g.waiting())
		if err != nil {
			return g.wrong(ErrDatabaseCreateFailed, "globals not opened", err)
		}
		key := "/project"
		if uint32(a[2]) == 1 {
			key = "/application/" + string(g.self.Application)
		}
		if uint32(a[3]) == 1 {
			key += "/function/" + string(g.self.Function)
		}
		return do(g, db, m, a, key+"/value/"+name)
	}
}
