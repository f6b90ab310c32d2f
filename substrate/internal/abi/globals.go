package abi

// globals are values that all functions of a project share. There are none.
var globals = []decl{
	{"getGlobalValueSize", "iiiii", fail(ErrDatabaseKeyNotFound)},
	{"getGlobalValue", "iiiii", fail(ErrDatabaseKeyNotFound)},
	{"getOrCreateGlobalValueSize", "iiiii", fail(ErrDatabaseCreateFailed)},
	{"putGlobalValue", "iiiiiii", fail(ErrDatabasePutFailed)},
}
