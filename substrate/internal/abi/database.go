package abi

// databases are key-value stores. None can be opened.
var databases = []decl{
	{"newDatabase", "iii", fail(ErrDatabaseCreateFailed)},
	{"databaseGet", "iiii", fail(ErrDatabaseNotFound)},
	{"databaseGetSize", "iiii", fail(ErrDatabaseNotFound)},
	{"databasePut", "iiiii", fail(ErrDatabaseNotFound)},
	{"databaseClose", "i", fail(ErrDatabaseNotFound)},
	{"databaseDelete", "iii", fail(ErrDatabaseNotFound)},
	{"databaseList", "iiii", fail(ErrDatabaseNotFound)},
	{"databaseListSize", "iiii", fail(ErrDatabaseNotFound)},
}
