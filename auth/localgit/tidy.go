package localgit

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/taubyte/taubyte/auth/internal/gitcmd"
)

// tidyTime bounds one repository's collection.
const tidyTime = 30 * time.Minute

// tidy has a repository's packs put together, soon.
func (s *Server) tidy(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.untidy[name] = struct{}{}
	select {
	case s.tidying <- struct{}{}:
	default:
	}
}

// keepTidy runs git's own collection, which looks by itself whether there is something
// to do, on one repository at a time. What is not referenced stays for git's two weeks,
// so that it harms no push under way.
func (s *Server) keepTidy() {
	for {
		select {
		case <-s.tidying:
		case <-s.life.Done():
			return
		}
		s.mu.Lock()
		names := s.untidy
		s.untidy = map[string]struct{}{}
		s.mu.Unlock()
		for name := range names {
			if s.life.Err() != nil {
				return
			}
			if err := s.collect(s.life, s.path(name)); err != nil && s.life.Err() == nil {
				s.log.Warn("git gc", "name", name, "err", err)
			}
		}
	}
}

func (s *Server) collect(ctx context.Context, dir string) error {
	if packs, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "*.pack")); err != nil || len(packs) < tidyPacks {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tidyTime)
	defer cancel()
	var errOut bytes.Buffer
	cmd := gitcmd.New(ctx, dir, "gc", "--auto", "--quiet")
	cmd.Stderr = &errOut
	if err := cmd.Start(); err != nil {
		return err
	}
	gitcmd.Yield(cmd)
	if err := cmd.Wait(); err != nil {
		return &gcError{err, strings.TrimSpace(errOut.String())}
	}
	return nil
}

// tidyPacks is how many packs a repository has before git is asked: it is slow to start
// where pushes are many.
const tidyPacks = 30

type gcError struct {
	error
	said string
}

func (e *gcError) Error() string { return e.error.Error() + ": " + e.said }
func (e *gcError) Unwrap() error { return e.error }

// localNames lists the repositories on the disk, and removes what a crash has left of
// pushes.
func (s *Server) localNames() (all []string, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".git")
		if ok && checkName(name) == nil {
			if there, err := s.onDisk(name); err == nil && there {
				all = append(all, name)
			}
		}
	}
	return all, nil
}

// clean removes what a crash has left of pushes and of new repositories.
func clean(dir string) error {
	for _, pattern := range []string{incoming + "*", ".new-*"} {
		left, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, l := range left {
			if err := os.RemoveAll(l); err != nil {
				return err
			}
		}
	}
	return nil
}
