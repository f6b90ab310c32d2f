//go:build !unix

package confine

import "io/fs"

func taken(info fs.FileInfo) int64 { return info.Size() }

// Give does nothing where files have no user's number.
func Give(string, int) error { return nil }
