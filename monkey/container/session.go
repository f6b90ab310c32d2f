package container

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/monkey/internal/confine"
)

var _ monkey.Environment = (*Engine)(nil)

// session implements monkey.Session.
type session struct {
	*confine.Turn
	e      *Engine
	spec   monkey.Spec
	image  image
	user   string
	places map[string]string
	mounts []mount.Mount
	path   string
	write  []string // folders that may be written
	done   func()   // with the image
}

// Open implements monkey.Environment. The image is pulled if the policy says so.
func (e *Engine) Open(ctx context.Context, spec monkey.Spec) (monkey.Session, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	log := spec.Log
	if log == nil {
		log = io.Discard
	}
	s := &session{Turn: confine.NewTurn(), e: e, spec: spec, places: map[string]string{}, user: e.user}
	if err := s.find(ctx, log); err != nil {
		return nil, err
	}
	opened := false
	defer func() {
		if !opened {
			s.done()
		}
	}()
	own := confine.User(spec.Owner)
	if s.user == "" {
		s.user = fmt.Sprintf("%d:%d", own, own)
	}
	taken := map[string]bool{}
	bind := func(dir, at string, write bool) {
		if !taken[at] {
			taken[at] = true
			s.mounts = append(s.mounts, mount.Mount{Type: mount.TypeBind, Source: dir, Target: at, ReadOnly: !write})
		}
	}
	for _, m := range spec.Mounts {
		at := m.Place
		if at == "" {
			at = "/" + strings.ToLower(m.Name)
		}
		if m.Name != "" {
			s.places[m.Name] = at
		}
		bind(m.Dir, at, m.Write)
		if m.Name == "TMP" {
			bind(m.Dir, "/dev/shm", m.Write)
			bind(m.Dir, "/tmp", m.Write)
		}
		if !m.Write {
			continue
		}
		s.write = append(s.write, m.Dir)
		if e.user == "" {
			if err := confine.Give(m.Dir, own); err != nil {
				return nil, fmt.Errorf("%w container: giving the build its folders: %w", taubyte.ErrUnavailable, err)
			}
		}
	}
	// The engine would make volumes that may be written without bound.
	for _, at := range s.image.volumes {
		if at = path.Clean(at); !taken[at] {
			taken[at] = true
			s.mounts = append(s.mounts, mount.Mount{Type: mount.TypeTmpfs, Target: at, ReadOnly: true})
		}
	}
	var dirs []string
	for _, dir := range spec.Path {
		for _, m := range spec.Mounts {
			if m.Place == m.Dir && (dir == m.Dir || strings.HasPrefix(dir, m.Dir+"/")) {
				dirs = append(dirs, dir)
				break
			}
		}
	}
	s.path = strings.Join(append(dirs, s.image.path), ":")
	opened = true
	return s, nil
}

// find finds the session's image, or builds it.
func (s *session) find(ctx context.Context, log io.Writer) (err error) {
	s.done = func() {}
	if s.spec.Dockerfile == nil {
		s.image, err = s.e.image(ctx, s.spec.Owner, s.spec.Image, log)
		return err
	}
	id, done, err := s.e.build(ctx, s.spec)
	if err != nil {
		return err
	}
	found, err := s.e.api.ImageInspect(ctx, id)
	if err != nil {
		done()
		return outage(ctx, "looking for the image that was built", err)
	}
	s.image, s.done = inspected(found), done
	return nil
}

// Close implements monkey.Session.
func (s *session) Close() error {
	defer s.done()
	return s.Turn.Close()
}

// Place implements monkey.Session.
func (s *session) Place(mount string) string { return s.places[mount] }

// A command is started by a shell of the image, so that what it says comes in one stream, as
// it says it. What the shell itself says, on the other one, is that there is no such program.
const (
	shell  = "/bin/sh"
	start  = `command -v "$1" >/dev/null 2>&1 || { echo "` + absent + `" >&2; exit 127; }; exec "$@" 2>&1`
	absent = "taubyte: no such program"
)

// Exec implements monkey.Session.
func (s *session) Exec(ctx context.Context, c monkey.Command) (err error) {
	ctx, done, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if len(c.Words) == 0 {
		return errors.New("a command without words")
	}
	config, name := s.config(c)
	id := fmt.Sprintf("taubyte-build-%s-%d", s.e.boot, s.e.n.Add(1))
	// Whatever happens, the container is gone in the end. Its name is known before it is.
	lasting := context.WithoutCancel(ctx)
	gone := false
	remove := func() error {
		if gone {
			return nil
		}
		ctx, cancel := context.WithTimeout(lasting, tidyTime)
		defer cancel()
		err := s.e.remove(ctx, id)
		gone = err == nil
		return err
	}
	defer func() {
		if e := remove(); e != nil {
			err = errors.Join(err, e)
		}
	}()
	if _, err := s.e.api.ContainerCreate(ctx, client.ContainerCreateOptions{Name: id, Config: config, HostConfig: s.hostConfig()}); err != nil {
		return outage(ctx, "making a container", err)
	}
	attached, err := s.e.api.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		return outage(ctx, "attaching to a container", err)
	}
	defer attached.Close()
	waitCtx, end := context.WithCancel(lasting)
	waiting := s.e.api.ContainerWait(waitCtx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	wait := func() (container.WaitResponse, error) {
		select {
		case r := <-waiting.Result:
			return r, nil
		case err := <-waiting.Error:
			return container.WaitResponse{}, err
		}
	}
	kills := s.kills(waitCtx, id)
	if _, err := s.e.api.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
		end()
		_, _ = wait()
		kills.wait()
		return outage(ctx, "starting a container", err)
	}
	defer kills.wait()
	defer end()
	shellSaid := &complaint{w: c.Log}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = stdcopy.StdCopy(c.Log, shellSaid, attached.Reader)
	}()
	ctx, over := context.WithCancelCause(ctx)
	defer over(nil)
	ended, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		if limit := s.watch(ctx, id, kills, ended); limit != "" {
			over(&monkey.LimitError{Command: name, Limit: limit})
		}
		if ctx.Err() != nil {
			_ = remove() // which ends it
		}
	}()
	status, err := wait()
	close(ended)
	<-watched
	if ctx.Err() == nil && err == nil && s.spec.Limits.Memory > 0 && s.memory(ctx, id) {
		over(&monkey.LimitError{Command: name, Limit: s.tooMuchMemory()})
	}
	removed := remove()
	if ctx.Err() != nil || removed != nil || err != nil {
		_ = attached.Conn.SetReadDeadline(time.Now().Add(lateOutput))
	}
	<-copied
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return outage(ctx, "waiting for a container", err)
	case status.StatusCode == 0:
		return nil
	}
	return s.failed(name, c, status.StatusCode, shellSaid.text)
}

// lateOutput is how long output is read of a container that was ended.
const lateOutput = time.Second

// failed says how a command has failed.
func (s *session) failed(name string, c monkey.Command, status int64, said []byte) error {
	in := "the image " + s.spec.Image
	switch {
	case s.spec.Dockerfile != nil:
		in = "the image of " + s.spec.Dockerfile.Name
	case s.spec.Image == "":
		in = "the image " + s.e.c.Image
	}
	switch {
	case status == 127 && bytes.HasPrefix(said, []byte(absent)):
		return &monkey.MissingError{What: fmt.Sprintf("%s (%s does not have it)", c.Words[0], in), Hint: "have the project name an image with it"}
	case status == 127 && bytes.Contains(said, []byte("exec "+shell+" failed")):
		return &monkey.MissingError{What: fmt.Sprintf("%s (%s does not have it)", shell, in), Hint: "have the project name an image with a shell"}
	}
	return &monkey.ExitError{Command: name, Status: fmt.Sprintf("exit status %d", status)}
}

// config is what a command's container runs. name is the command's for people.
func (s *session) config(c monkey.Command) (_ *container.Config, name string) {
	var pairs []string
	for name, at := range s.places {
		pairs = append(pairs, "${"+name+"}", at)
	}
	expand := strings.NewReplacer(pairs...)
	words := []string{shell, "-c", start, "build"}
	for _, w := range c.Words {
		words = append(words, expand.Replace(w))
	}
	dir := expand.Replace(c.Dir)
	env := []string{"PATH=" + s.path, "LANG=C.UTF-8"}
	if tmp, ok := s.places["TMP"]; ok {
		env = append(env, "HOME="+tmp, "TMPDIR="+tmp)
	}
	for _, kv := range c.Env {
		env = append(env, expand.Replace(kv))
	}
	for name, at := range s.places {
		env = append(env, name+"="+at)
	}
	return &container.Config{
		Hostname: "build", User: s.user, Image: s.image.id, Entrypoint: words, Cmd: []string{}, Env: append(env, "PWD="+dir), WorkingDir: dir,
		Labels:      map[string]string{labelNode: s.e.node, labelBoot: s.e.boot},
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}, path.Base(filepath.ToSlash(words[4]))
}

const (
	shares    = 512 // of CPU time; the node has 1024
	oomScore  = 500 // builds go first when the machine has no memory left
	overheads = 2   // of processes: the container's first, and the one beyond the limit
	fewest    = 32  // processes that an engine needs to start a container
)

// hostConfig is how a container is confined.
func (s *session) hostConfig() *container.HostConfig {
	l := s.spec.Limits
	yes := true
	host := &container.HostConfig{
		Mounts: s.mounts, ReadonlyRootfs: true, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
		NetworkMode: "none", IpcMode: "private", CgroupnsMode: "private",
		LogConfig: container.LogConfig{Type: "none"}, // the engine keeps no output
		Init:      &yes,                              // which reaps, and keeps signals from being ignored
		Resources: container.Resources{
			CPUShares: shares, NanoCPUs: int64(s.e.c.CPUs * 1e9),
			Memory: l.Memory, MemorySwap: l.Memory, // none of it swap
		},
		OomScoreAdj: oomScore,
	}
	if s.spec.Network {
		host.NetworkMode = container.NetworkMode(s.e.c.Network)
	}
	if s.e.host {
		host.UsernsMode = "host"
	}
	if l.Processes > 0 {
		most := int64(max(l.Processes+overheads, fewest))
		host.PidsLimit = &most
	}
	host.Ulimits = ulimits(l)
	return host
}

// ulimits are the limits that are of each process.
func ulimits(l monkey.Limits) (all []*container.Ulimit) {
	limit := func(name string, most int64) {
		all = append(all, &container.Ulimit{Name: name, Soft: most, Hard: most})
	}
	limit("core", 0)
	if l.CPU > 0 {
		limit("cpu", max(int64(l.CPU/time.Second), 1))
	}
	if l.File > 0 {
		limit("fsize", l.File)
	}
	return all
}

const watchEvery = 200 * time.Millisecond

// kills are the kernel's, of processes of a container for want of memory.
type kills struct{ client.EventsResult }

// kills are told from now on, until ctx ends.
func (s *session) kills(ctx context.Context, id string) kills {
	if s.spec.Limits.Memory == 0 {
		return kills{}
	}
	return kills{s.e.api.Events(ctx, client.EventsListOptions{
		Filters: make(client.Filters).Add("container", id).Add("event", string(events.ActionOOM)),
	})}
}

// wait waits until nothing is told any more.
func (k kills) wait() {
	if k.Err != nil {
		for range k.Err {
		}
	}
}

// watch returns the limit that was passed, "" when the command has ended.
func (s *session) watch(ctx context.Context, id string, k kills, ended <-chan struct{}) string {
	l := s.spec.Limits
	disk := confine.Disk{Dirs: s.write, Bytes: confine.Room(l.Disk, s.write)}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	init := 0
	for {
		select {
		case <-ended:
			return ""
		case <-ctx.Done():
			return ""
		case <-k.Messages:
			return s.tooMuchMemory()
		case <-tick.C:
		}
		if init == 0 && disk.Bytes > 0 {
			init = s.e.process(ctx, id)
		}
		var held int64
		if init > 0 {
			_, held, _ = confine.Processes(init, l.Processes)
		}
		if limit := disk.Over(ctx, held); limit != "" {
			return limit
		}
		if l.Processes > 0 && s.e.processes(ctx, id) > uint64(l.Processes+overheads-1) {
			return fmt.Sprintf("more than %d processes", l.Processes)
		}
	}
}

// memory says whether the kernel has ended a process of a container that has ended.
func (s *session) memory(ctx context.Context, id string) bool {
	got, err := s.e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	return err == nil && got.Container.State != nil && got.Container.State.OOMKilled
}

func (s *session) tooMuchMemory() string {
	return fmt.Sprintf("more than %d bytes of memory", s.spec.Limits.Memory)
}

// processes is how many the container has, threads too.
func (e *Engine) processes(ctx context.Context, id string) uint64 {
	got, err := e.api.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	if err != nil {
		return 0
	}
	defer got.Body.Close()
	var stats container.StatsResponse
	if json.NewDecoder(got.Body).Decode(&stats) != nil {
		return 0
	}
	return stats.PidsStats.Current
}

// process is the number of the container's first process on this machine, 0 where that is
// not known: the engine may be in a machine of its own.
func (e *Engine) process(ctx context.Context, id string) int {
	got, err := e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil || got.Container.State == nil || got.Container.State.Pid <= 0 {
		return 0
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(got.Container.State.Pid) + "/cgroup")
	if err != nil || !strings.Contains(string(text), got.Container.ID) {
		return 0
	}
	return got.Container.State.Pid
}

// complaint keeps the beginning of what is said where only the shell speaks, and passes on
// what is not its own word.
type complaint struct {
	w    io.Writer
	text []byte
}

func (c *complaint) Write(p []byte) (int, error) {
	if room := 1024 - len(c.text); room > 0 {
		c.text = append(c.text, p[:min(room, len(p))]...)
	}
	if bytes.HasPrefix(c.text, []byte(absent)) {
		return len(p), nil
	}
	return c.w.Write(p)
}
