package monkey

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/taubyte/taubyte/monkey/internal/confine"
)

// settings are the parts of /etc without which programs do not find libraries, names of
// hosts, certificates or the time of day.
var settings = []string{
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives",
	"/etc/ssl", "/etc/ca-certificates", "/etc/pki", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf",
	"/etc/localtime", "/etc/mime.types",
}

const installBubblewrap = "install the package bubblewrap, of 0.8 or later"

func newConfined(ctx context.Context) (*Confined, error) {
	c := &Confined{}
	var err error
	if c.bwrap, err = exec.LookPath("bwrap"); err != nil {
		return nil, &MissingError{What: "bubblewrap (bwrap), which confines builds,", Hint: installBubblewrap}
	}
	if os.Geteuid() == 0 {
		if c.setpriv, err = exec.LookPath("setpriv"); err != nil {
			return nil, &MissingError{What: "setpriv, with which a node that runs as root confines builds,", Hint: "install the package util-linux, or run the node as another user"}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := c.Open(ctx, Spec{Owner: "probe"})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := s.Exec(ctx, Command{Words: []string{shell, "-c", "true"}, Dir: "/", Log: io.Discard}); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		hint := installBubblewrap
		if c.setpriv == "" {
			hint += ", and allow namespaces to users (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces; " +
				"with AppArmor a profile for bwrap that has userns)"
		} else {
			hint += ", and let the node make namespaces (in a container: CAP_SYS_ADMIN, or run it as another user)"
		}
		return nil, &MissingError{What: fmt.Sprintf("a way to confine builds (%v)", err), Hint: hint}
	}
	return c, nil
}

// Open implements Environment. An image is not used, which the log says.
func (c *Confined) Open(ctx context.Context, spec Spec) (Session, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if c.bwrap == "" {
		return nil, errors.New("a Confined that NewConfined has not made")
	}
	s := &confinedSession{Turn: confine.NewTurn(), c: c, spec: spec, places: places{}, path: spec.searchPath(c.Path), user: confine.User(spec.Owner)}
	for _, m := range spec.Mounts {
		if m.Name != "" {
			s.places[m.Name] = m.place()
		}
		if !m.Write {
			continue
		}
		if c.setpriv != "" {
			if err := confine.Give(m.Dir, s.user); err != nil {
				return nil, ours(fmt.Errorf("giving the build its folders: %w", err))
			}
		}
		s.write = append(s.write, m.Dir)
	}
	noteImage(spec, "with the machine's own programs")
	return s, nil
}

type confinedSession struct {
	*confine.Turn
	c      *Confined
	spec   Spec
	places places
	path   string
	user   int
	write  []string // folders that may be written
}

func (s *confinedSession) Place(mount string) string { return s.places[mount] }

// arguments are those of bwrap, without the command.
func (s *confinedSession) arguments(c Command) []string {
	args := []string{"--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try", "--hostname", "build",
		"--die-with-parent", "--new-session", "--cap-drop", "ALL"}
	if s.c.setpriv != "" {
		args = append(args, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
	} else {
		args = append(args, "--unshare-user")
	}
	if !s.spec.Network {
		args = append(args, "--unshare-net")
	}
	for _, dir := range systemFolders {
		if to, err := os.Readlink(dir); err == nil {
			args = append(args, "--symlink", to, dir)
		} else {
			args = append(args, "--ro-bind-try", dir, dir)
		}
	}
	// The folders on the way to a mount are made for everybody: bwrap makes them its own.
	made := map[string]bool{"/": true, ".": true}
	for _, dir := range systemFolders {
		made[dir] = true
	}
	var way func(dir string)
	way = func(dir string) {
		for _, system := range systemFolders {
			if made[dir] || strings.HasPrefix(dir, system+"/") {
				return
			}
		}
		way(filepath.Dir(dir))
		made[dir] = true
		args = append(args, "--perms", "0755", "--dir", dir)
	}
	mount := func(how, dir, at string) {
		way(filepath.Dir(at))
		args = append(args, how, dir, at)
	}
	for _, at := range settings {
		mount("--ro-bind-try", at, at)
	}
	for _, dir := range s.c.ReadOnly {
		mount("--ro-bind", dir, dir)
	}
	args = append(args, "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev")
	made["/dev"] = true
	for _, m := range s.spec.Mounts {
		how := "--ro-bind"
		if m.Write {
			how = "--bind"
		}
		mount(how, m.Dir, m.place())
		if m.Name == "TMP" {
			mount(how, m.Dir, "/dev/shm")
			if m.place() != "/tmp" {
				mount(how, m.Dir, "/tmp")
			}
		}
	}
	dir := s.places.dir(c)
	if s.c.setpriv != "" {
		dir = "/" // the folders are the command's user's, and root has no more right to them
	}
	args = append(args, "--remount-ro", "/", "--chdir", dir, "--clearenv")
	for _, kv := range s.places.env(s.path, c) {
		name, value, _ := strings.Cut(kv, "=")
		args = append(args, "--setenv", name, value)
	}
	return args
}

// visible is the part of PATH that a command sees.
func (s *confinedSession) visible() string {
	var dirs []string
	roots := append(append([]string{}, systemFolders...), s.c.ReadOnly...)
	for _, m := range s.spec.Mounts {
		if m.place() == m.Dir {
			roots = append(roots, m.Dir)
		}
	}
	for _, dir := range filepath.SplitList(s.path) {
		for _, root := range roots {
			if dir == root || strings.HasPrefix(dir, root+"/") {
				dirs = append(dirs, dir)
				break
			}
		}
	}
	return strings.Join(dirs, string(filepath.ListSeparator))
}

func (s *confinedSession) Exec(ctx context.Context, c Command) error {
	ctx, done, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	words, err := s.places.words(c)
	if err != nil {
		return err
	}
	program, err := lookPath(words[0], s.visible())
	if err != nil {
		return err
	}
	line := append([]string{program}, words[1:]...)
	if s.c.setpriv != "" {
		user := strconv.Itoa(s.user)
		line = append([]string{s.c.setpriv, "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=-all", "--ambient-caps=-all", "--",
			shell, "-c", `cd "$1" && shift && exec "$@"`, "confined", s.places.dir(c)}, line...)
	}
	box, err := s.start(c, line)
	if err != nil {
		return ours(fmt.Errorf("confining %s: %w", base(words[0]), err))
	}
	return box.run(ctx, s, c, base(words[0]))
}

// A sandbox is a bwrap that has begun.
type sandbox struct {
	cmd    *exec.Cmd
	output *os.File
	status *json.Decoder // what bwrap says
	about  *os.File      // of that
	init   int           // its process 1, as the node sees it
	pidfd  int           // of that
}

// start starts bwrap, sets the limits of what it will run, and lets it go on.
func (s *confinedSession) start(c Command, line []string) (_ *sandbox, err error) {
	program, err := filter()
	if err != nil {
		return nil, err
	}
	var pipes []*os.File
	defer func() {
		for _, f := range pipes {
			if f != nil {
				_ = f.Close()
			}
		}
	}()
	pipe := func() (r, w *os.File) {
		if err == nil {
			if r, w, err = os.Pipe(); err == nil {
				pipes = append(pipes, r, w)
			}
		}
		return r, w
	}
	argsR, argsW := pipe()
	filterR, filterW := pipe()
	goR, goW := pipe()
	infoR, infoW := pipe()
	outR, outW := pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(s.c.bwrap, append([]string{"--args", "3", "--seccomp", "4", "--block-fd", "5", "--json-status-fd", "6", "--"}, line...)...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{argsR, filterR, goR, infoW}
	cmd.Stdout, cmd.Stderr = outW, outW
	group(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	_ = argsR.Close()
	_ = filterR.Close()
	_ = goR.Close()
	_ = infoW.Close()
	_ = outW.Close()
	// What is written fits into a pipe, or bwrap reads it, or it has ended.
	var text bytes.Buffer
	for _, a := range s.arguments(c) {
		text.WriteString(a)
		text.WriteByte(0)
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		_, _ = argsW.Write(text.Bytes())
		_ = argsW.Close()
		_, _ = filterW.Write(program)
		_ = filterW.Close()
	})
	fail := func(err error) (*sandbox, error) {
		_ = cmd.Process.Kill()
		writing.Wait()
		said, _ := io.ReadAll(io.LimitReader(outR, 4<<10))
		_ = cmd.Wait()
		if len(said) > 0 {
			err = errors.New(strings.TrimSpace(string(said)))
		}
		return nil, err
	}
	var info struct {
		Init int `json:"child-pid"`
	}
	status := json.NewDecoder(infoR)
	if err := status.Decode(&info); err != nil || info.Init <= 0 {
		_ = outR.SetReadDeadline(time.Now().Add(lateOutput))
		return fail(fmt.Errorf("bwrap says nothing of its process: %w", err))
	}
	writing.Wait()
	box := &sandbox{cmd: cmd, init: info.Init, status: status, about: infoR, output: outR}
	if box.pidfd, err = unix.PidfdOpen(info.Init, 0); err != nil {
		return fail(fmt.Errorf("holding its process: %w", err))
	}
	if err := s.spec.Limits.set(info.Init); err != nil {
		_ = unix.Close(box.pidfd)
		return fail(fmt.Errorf("limiting it: %w", err))
	}
	if _, err := goW.Write([]byte{1}); err != nil {
		_ = unix.Close(box.pidfd)
		return fail(fmt.Errorf("letting it go on: %w", err))
	}
	for i, f := range pipes { // what the sandbox keeps
		if f == outR || f == infoR {
			pipes[i] = nil
		}
	}
	return box, nil
}

// set sets the limits of a process and of what it starts.
func (l Limits) set(pid int) error {
	limits := map[int]uint64{unix.RLIMIT_CORE: 0}
	if l.CPU > 0 {
		limits[unix.RLIMIT_CPU] = uint64(max(l.CPU/time.Second, 1))
	}
	if l.File > 0 {
		limits[unix.RLIMIT_FSIZE] = uint64(l.File)
	}
	if l.Memory > 0 {
		limits[unix.RLIMIT_DATA] = uint64(l.Memory)
	}
	if l.Processes > 0 {
		limits[unix.RLIMIT_NPROC] = uint64(l.Processes)
	}
	for what, most := range limits {
		var now unix.Rlimit
		if err := unix.Prlimit(pid, what, nil, &now); err != nil {
			return err
		}
		most = min(most, now.Max)
		if err := unix.Prlimit(pid, what, &unix.Rlimit{Cur: most, Max: most}, nil); err != nil {
			return err
		}
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, pid, buildNice) // the node comes first
	return nil
}

// buildNice is the priority of builds, below that of the node.
const buildNice = 5

// run waits for the end of the command, and sees to it.
func (b *sandbox) run(ctx context.Context, s *confinedSession, c Command, name string) error {
	defer b.output.Close()
	defer b.about.Close()
	defer unix.Close(b.pidfd)
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(c.Log, b.output)
	}()
	ctx, over := context.WithCancelCause(ctx)
	defer over(nil)
	ended, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		w := watch{init: b.init, limits: s.spec.Limits, disk: confine.Disk{Dirs: s.write, Bytes: confine.Room(s.spec.Limits.Disk, s.write)}}
		if limit := w.until(ctx, ended); limit != "" {
			over(&LimitError{Command: name, Limit: limit})
		}
		if ctx.Err() != nil {
			b.kill()
		}
	}()
	err := b.cmd.Wait()
	close(ended)
	<-watched
	// With its process 1 a namespace of processes ends: daemons too.
	b.kill()
	b.gone()
	_ = b.output.SetReadDeadline(time.Now().Add(lateOutput))
	<-copied
	var how struct {
		Code *int `json:"exit-code"`
	}
	if e := b.status.Decode(&how); (e != nil || how.Code == nil) && ctx.Err() == nil {
		return ours(fmt.Errorf("confining %s: bwrap has failed (%w), see the log", name, err))
	}
	return exited(ctx, name, err)
}

func (b *sandbox) kill() { _ = unix.PidfdSendSignal(b.pidfd, unix.SIGKILL, nil, 0) }

// gone waits until the last process has ended.
func (b *sandbox) gone() {
	for {
		fds := []unix.PollFd{{Fd: int32(b.pidfd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, -1); n > 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}
