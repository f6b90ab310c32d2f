//go:build unix

package confine

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// taken is what a file takes of the disk.
func taken(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(st.Blocks) * 512
	}
	return info.Size()
}

// Give makes a user the owner of all in a folder.
func Give(dir string, user int) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if info, err := root.Stat("."); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == user {
			return nil // the folder itself is given last
		}
	}
	err = fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err == nil && name != "." {
			err = root.Lchown(name, user, user)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // another target of the same project took it away
		}
		return err
	})
	if err != nil {
		return err
	}
	return root.Lchown(".", user, user)
}
