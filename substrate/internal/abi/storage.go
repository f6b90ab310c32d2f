package abi

// storages are stores of files. None can be opened, and an unknown storage is
// error 1, as guests of this interface expect.
var storages = []decl{
	{"storageNew", "iii", fail(ErrDatabaseCreateFailed)},
	{"storageGet", "iii", fail(ErrStorageNotFound)},
	{"storageAddFile", "iiiiiii", fail(ErrEventNotFound)},
	{"storageGetFile", "iiiii", fail(ErrEventNotFound)},
	{"storageReadFile", "iiiii", fail(ErrEventNotFound)},
	{"storageCloseFile", "ii", fail(ErrEventNotFound)},
	{"storageDeleteFile", "iiiii", fail(ErrEventNotFound)},
	{"storageListVersionsSize", "iiii", fail(ErrEventNotFound)},
	{"storageListVersions", "iiii", fail(ErrEventNotFound)},
	{"storageUsedSize", "ii", fail(ErrEventNotFound)},
	{"storageUsed", "ii", fail(ErrEventNotFound)},
	{"storageCapacitySize", "ii", fail(ErrEventNotFound)},
	{"storageCapacity", "ii", fail(ErrEventNotFound)},
	{"storageCid", "iiii", fail(ErrEventNotFound)},
	{"storageCurrentVersionSize", "iiii", fail(ErrEventNotFound)},
	{"storageCurrentVersion", "iii", fail(ErrEventNotFound)},
	{"storageListFilesSize", "ii", fail(ErrEventNotFound)},
	{"storageListFiles", "ii", fail(ErrEventNotFound)},
	{"storageNewContent", "i", fail(ErrCreatingNewFile)},
	{"storageOpenCid", "ii", fail(ErrCidNotFound)},
	{"contentCloseFile", "i", fail(ErrContentNotFound)},
	{"contentFileCid", "ii", fail(ErrContentNotFound)},
	{"contentReadFile", "iiii", fail(ErrContentNotFound)},
	{"contentWriteFile", "iiii", fail(ErrContentNotFound)},
	{"contentPushFile", "ii", fail(ErrContentNotFound)},
	{"contentSeekFile", "iIii", fail(ErrContentNotFound)},
}
