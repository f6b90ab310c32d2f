package monkey

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/taubyte/taubyte"
)

// unpack writes an archive of a commit below root. Nothing that the archive says
// can lead out of it.
func unpack(root *os.Root, r io.Reader, limit int64) error {
	archive := tar.NewReader(r)
	left := limit
	for files := 0; ; files++ {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unpacking the source: %w", err)
		}
		name := path.Clean(h.Name)
		switch {
		case h.Typeflag == tar.TypeXGlobalHeader, name == ".":
			continue // git's note of the commit
		case !fs.ValidPath(name):
			return fmt.Errorf("%w source: it holds the name %q", taubyte.ErrInvalid, h.Name)
		case files > maxFiles || h.Size > left:
			return fmt.Errorf("%w source: more than %d bytes or %d files", taubyte.ErrTooLarge, limit, maxFiles)
		}
		left -= h.Size
		if err := unpackOne(root, archive, h, filepath.FromSlash(name)); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
	}
}

func unpackOne(root *os.Root, r io.Reader, h *tar.Header, name string) (err error) {
	if h.Typeflag == tar.TypeDir {
		return root.MkdirAll(name, 0o700)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		mode := fs.FileMode(0o600)
		if h.FileInfo().Mode()&0o100 != 0 {
			mode = 0o700
		}
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		_, err = io.Copy(f, r)
		return err
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	}
	return fmt.Errorf("%w source: an entry of type %q", taubyte.ErrInvalid, h.Typeflag)
}

// clone brings the exact commit from a git remote, and leaves no trace of git or
// of the key behind.
func (s *Service) clone(ctx context.Context, dir, scratch string, src Source, commit taubyte.Commit, log io.Writer) error {
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return fmt.Errorf("fetching the source: %w", err)
	}
	defer os.RemoveAll(scratch)
	env := []string{"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=ssh:https:http:git:file"}
	if len(src.Key) > 0 {
		ssh, err := sshCommand(scratch, src)
		if err != nil {
			return fmt.Errorf("fetching the source: %w", err)
		}
		env = append(env, "GIT_SSH_COMMAND="+ssh)
	}
	run := Process{}
	for _, args := range [][]string{
		{"git", "init", "-q", "."},
		{"git", "fetch", "-q", "--depth=1", "--no-tags", src.Remote, string(commit)},
		{"git", "checkout", "-q", "--detach", string(commit)},
	} {
		if strings.HasPrefix(src.Remote, "-") {
			return fmt.Errorf("%w remote %q", taubyte.ErrInvalid, src.Remote)
		}
		if err := run.Run(ctx, Task{Command: args, Env: env, Dir: dir, Out: dir, Scratch: scratch, Log: log}); err != nil {
			return fmt.Errorf("fetching commit %s: %w", commit, err)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, ".git", "HEAD"))
	if err != nil || strings.TrimSpace(string(got)) != string(commit) {
		return fmt.Errorf("%w source: the remote gave %q for commit %s", taubyte.ErrInvalid, strings.TrimSpace(string(got)), commit)
	}
	return removeAll(filepath.Join(dir, ".git"))
}

// sshCommand: the deploy key alone, and hosts by the keys that are known; an unknown
// host is refused.
func sshCommand(scratch string, src Source) (string, error) {
	key := filepath.Join(scratch, "key")
	if err := os.WriteFile(key, src.Key, 0o600); err != nil {
		return "", err
	}
	cmd := "ssh -F none -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -i " + quote(key)
	if len(src.KnownHosts) > 0 {
		known := filepath.Join(scratch, "known_hosts")
		if err := os.WriteFile(known, src.KnownHosts, 0o600); err != nil {
			return "", err
		}
		cmd += " -o UserKnownHostsFile=" + quote(known)
	}
	return cmd, nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// removeAll removes a folder in which a build may have taken its own permissions
// away.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(name, 0o700) // before it is read
		}
		return nil
	})
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing a build's folder: %w", err)
	}
	return nil
}
