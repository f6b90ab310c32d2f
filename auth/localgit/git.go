package localgit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
)

// command prepares git on a repository, with none of the caller's configuration.
func command(ctx context.Context, repository string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", args...)
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "PATH", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "LANG":
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env,
		"GIT_DIR="+repository, "HOME="+repository,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
	)
	cmd.Dir = repository
	cmd.WaitDelay = 5 * time.Second
	endGroup(cmd)
	return cmd
}

// run runs git and returns what it printed.
func run(ctx context.Context, repository string, args ...string) (string, error) {
	var out, errOut bytes.Buffer
	cmd := command(ctx, repository, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("git %s: %s: %w", args[0], strings.TrimSpace(errOut.String()), err)
	}
	return out.String(), nil
}

// Name implements auth.Provider.
func (s *Server) Name() string { return "local" }

// Heads implements auth.Provider.
func (s *Server) Heads(ctx context.Context, name string) (map[taubyte.Branch]taubyte.Commit, error) {
	repository, err := s.existing(name)
	if err != nil {
		return nil, err
	}
	out, err := run(ctx, repository, "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads")
	if err != nil {
		return nil, err
	}
	heads := map[taubyte.Branch]taubyte.Commit{}
	for line := range strings.Lines(out) {
		if commit, branch, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
			heads[taubyte.Branch(branch)] = taubyte.Commit(commit)
		}
	}
	return heads, nil
}

// Source implements auth.Provider.
func (s *Server) Source(ctx context.Context, name string, commit taubyte.Commit, w io.Writer) error {
	repository, err := s.existing(name)
	if err != nil {
		return err
	}
	if !isHash(string(commit)) {
		return fmt.Errorf("%w commit %q", taubyte.ErrInvalid, commit)
	}
	if _, err := run(ctx, repository, "cat-file", "-e", string(commit)+"^{commit}"); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: commit %s of %s", taubyte.ErrNotFound, commit, name)
	}
	var errOut bytes.Buffer
	cmd := command(ctx, repository, "archive", "--format=tar", string(commit))
	cmd.Stdout, cmd.Stderr = w, &errOut
	if err := cmd.Run(); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("reading commit %s of %s: %s: %w", commit, name, strings.TrimSpace(errOut.String()), err))
	}
	return nil
}

// File returns a file of a commit, of at most limit bytes.
func (s *Server) File(ctx context.Context, name string, commit taubyte.Commit, path string, limit int64) ([]byte, error) {
	repository, err := s.existing(name)
	if err != nil {
		return nil, err
	}
	if !isHash(string(commit)) {
		return nil, fmt.Errorf("%w commit %q", taubyte.ErrInvalid, commit)
	}
	object := string(commit) + ":" + path
	size, err := run(ctx, repository, "cat-file", "-s", object)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %s in commit %s of %s", taubyte.ErrNotFound, path, commit, name)
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(size), 10, 64); err != nil || n > limit {
		return nil, fmt.Errorf("%w: %s in commit %s of %s", taubyte.ErrTooLarge, path, commit, name)
	}
	out, err := run(ctx, repository, "cat-file", "blob", object)
	return []byte(out), err
}

func isHash(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
