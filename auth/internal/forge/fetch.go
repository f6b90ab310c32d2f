package forge

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/internal/gitcmd"
)

// Limits of fetching a commit.
const (
	fetchTime  = 15 * time.Minute
	fetchBytes = 4 << 30
	fetches    = 4 // at a time
)

// A Fetcher reads commits of remote repositories with git. The zero Fetcher is not usable:
// see NewFetcher.
type Fetcher struct {
	slots chan struct{}
}

// NewFetcher returns a Fetcher, which keeps nothing between fetches.
func NewFetcher() *Fetcher { return &Fetcher{slots: make(chan struct{}, fetches)} }

// A Source is one commit of a repository, and by what right it is read: a deploy key
// over ssh, or a user and password over https. Those reach git in files that only this
// user may read, never in arguments or the environment.
type Source struct {
	URL    string
	Commit taubyte.Commit

	Key        []byte   // OpenSSH, PEM
	KnownHosts []string // public keys of the host ("ssh-ed25519 AAAA…"): another is refused

	User, Password string
}

// remoteRule is what a URL is that git is given: nothing that it takes for an option or a
// command.
var remoteRule = regexp.MustCompile(`^(ssh://|https?://|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:)[^\s]+$`)

// Tar writes the tree of exactly that commit to w as a tar stream. When it fails before
// the commit was read whole, nothing was written.
func (f *Fetcher) Tar(ctx context.Context, s Source, w io.Writer) error {
	if raw, err := hex.DecodeString(string(s.Commit)); err != nil || len(raw) != 20 && len(raw) != 32 {
		return fmt.Errorf("%w commit %q", taubyte.ErrInvalid, s.Commit)
	}
	if !remoteRule.MatchString(s.URL) {
		return fmt.Errorf("%w URL of a git repository %q", taubyte.ErrInvalid, s.URL)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return fmt.Errorf("%w: too many fetches: %w", taubyte.ErrUnavailable, ctx.Err())
	}
	dir, err := os.MkdirTemp("", "taubyte-fetch-*") // of mode 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := s.fetch(ctx, dir); err != nil {
		return fmt.Errorf("fetching commit %s of %s: %w", s.Commit, s.URL, err)
	}
	if err := gitcmd.Measure(ctx, dir, s.Commit); err != nil {
		return fmt.Errorf("commit %s of %s: %w", s.Commit, s.URL, err)
	}
	var said bytes.Buffer
	cmd := gitcmd.New(ctx, dir, "archive", "--format=tar", string(s.Commit))
	cmd.Stdout, cmd.Stderr = w, &said
	if err := cmd.Run(); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("reading commit %s of %s: %s: %w", s.Commit, s.URL, strings.TrimSpace(said.String()), err))
	}
	return nil
}

// fetch brings the commit into a new repository in dir.
func (s Source) fetch(ctx context.Context, dir string) error {
	if _, err := git(ctx, dir, "init", "--quiet", "--bare", "--template="); err != nil {
		return err
	}
	files := map[string]string{
		// What a repository leaves out of releases is part of what is built.
		"info/attributes": "* -export-ignore -export-subst\n",
	}
	config := "[protocol]\n\tallow = never\n[protocol \"https\"]\n\tallow = always\n[protocol \"ssh\"]\n\tallow = always\n"
	switch {
	case len(s.Key) > 0:
		var known strings.Builder
		for _, key := range s.KnownHosts {
			fmt.Fprintf(&known, "forge %s\n", strings.TrimSpace(key))
		}
		files["key"], files["known_hosts"] = string(s.Key), known.String()
		files["ssh_config"] = sshConfig
		config += "[core]\n\tsshCommand = ssh -F ssh_config\n[ssh]\n\tvariant = ssh\n"
	case s.Password != "":
		u, err := url.Parse(s.URL)
		if err != nil {
			return fmt.Errorf("%w: %w", taubyte.ErrInvalid, err)
		}
		if u.Scheme == "http" {
			config += "[protocol \"http\"]\n\tallow = always\n"
		}
		entry := url.URL{Scheme: u.Scheme, Host: u.Host, User: url.UserPassword(s.User, s.Password)}
		files["credentials"] = entry.String() + "\n"
		config += "[credential]\n\thelper = store --file=credentials\n"
	}
	old, err := os.ReadFile(filepath.Join(dir, "config"))
	if err != nil {
		return err
	}
	files["config"] = string(old) + config
	if err := os.MkdirAll(filepath.Join(dir, "info"), 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	bounded, stop := limitSize(ctx, dir, fetchBytes)
	said, err := git(bounded, dir, "fetch", "--quiet", "--no-tags", "--depth=1", "--no-auto-gc", s.URL, string(s.Commit))
	if over := stop(); over {
		return fmt.Errorf("%w: it is more than %d bytes", taubyte.ErrTooLarge, int64(fetchBytes))
	}
	if err != nil {
		return errors.Join(ctx.Err(), meaning(said, err))
	}
	if _, err := git(ctx, dir, "cat-file", "-e", string(s.Commit)+"^{commit}"); err != nil {
		return errors.Join(ctx.Err(), fmt.Errorf("%w: no such commit", taubyte.ErrNotFound))
	}
	for _, name := range []string{"key", "credentials"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sshConfig lets ssh use the deploy key alone, with a host that shows a key it knows.
const sshConfig = `HostKeyAlias forge
UserKnownHostsFile known_hosts
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
UpdateHostKeys no
IdentityFile key
IdentitiesOnly yes
IdentityAgent none
PreferredAuthentications publickey
BatchMode yes
ForwardAgent no
PermitLocalCommand no
ControlMaster no
ConnectTimeout 30
ServerAliveInterval 15
LogLevel ERROR
`

// meaning finds the error in git's words.
func meaning(said string, err error) error {
	err = fmt.Errorf("%s: %w", strings.TrimSpace(said), err)
	for _, m := range []struct {
		words string
		is    error
	}{
		{"not our ref", taubyte.ErrNotFound},
		{"unadvertised object", taubyte.ErrNotFound},
		{"couldn't find remote ref", taubyte.ErrNotFound},
		{"epository not found", taubyte.ErrNotFound},
		{"does not exist", taubyte.ErrNotFound},
		{"The requested URL returned error: 404", taubyte.ErrNotFound},
		{"Permission denied", taubyte.ErrForbidden},
		{"Authentication failed", taubyte.ErrForbidden},
		{"could not read Username", taubyte.ErrForbidden},
		{"The requested URL returned error: 403", taubyte.ErrForbidden},
		{"Host key verification failed", taubyte.ErrForbidden},
	} {
		if strings.Contains(said, m.words) {
			return fmt.Errorf("%w: %w", m.is, err)
		}
	}
	return fmt.Errorf("%w: %w", taubyte.ErrUnavailable, err)
}

// git runs a command and returns what it said.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := gitcmd.New(ctx, dir, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("git %s: %w", args[0], err)
	}
	return string(out), nil
}

// limitSize ends the returned context when a folder holds more bytes than max. stop ends
// the watch and reports whether that was so.
func limitSize(ctx context.Context, dir string, max int64) (_ context.Context, stop func() (over bool)) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	over := false
	wg.Go(func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var size int64
			_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					if info, err := d.Info(); err == nil {
						size += info.Size()
					}
				}
				return nil
			})
			if size > max {
				over = true
				cancel()
				return
			}
		}
	})
	return ctx, func() bool {
		cancel()
		wg.Wait()
		return over
	}
}
