package container

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	imagetypes "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/monkey/internal/confine"
)

var _ monkey.ImageBuilder = (*Engine)(nil)

// Labels of images that were built.
const (
	labelOwner  = "taubyte.owner"  // whose Dockerfile, as a hash
	labelTarget = "taubyte.target" // for which of the owner's targets
)

const (
	maxContext = 2 << 30 // bytes of files
	maxFiles   = 200_000
	// dockerfileName is that of the Dockerfile in what the engine is sent. No build sees it.
	dockerfileName = ".taubyte.dockerfile"
	ignoreName     = ".dockerignore"
	shmSize        = 64 << 20 // as the engine's default

	// layersAge is how long a target's layers are kept after the last of them was made.
	layersAge = 30 * 24 * time.Hour
)

// builds are images that are built, or in use.
type builds struct {
	turns [64]chan struct{} // one build of a target at a time; several share one

	mu   sync.Mutex
	used map[string]int // by id
}

func newBuilds() *builds {
	b := &builds{used: map[string]int{}}
	for i := range b.turns {
		b.turns[i] = make(chan struct{}, 1)
	}
	return b
}

// turn waits for a target's turn.
func (b *builds) turn(ctx context.Context, target string) (done func(), _ error) {
	turn := b.place(target)
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// try is a target's turn if it is now.
func (b *builds) try(target string) (done func(), ok bool) {
	turn := b.place(target)
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, true
	default:
		return nil, false
	}
}

func (b *builds) place(target string) chan struct{} {
	sum := fnv.New32a()
	_, _ = io.WriteString(sum, target)
	return b.turns[sum.Sum32()%uint32(len(b.turns))]
}

// use keeps an image from being removed.
func (b *builds) use(id string) (done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used[id]++
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.used[id]--; b.used[id] == 0 {
			delete(b.used, id)
		}
	})
}

func (b *builds) uses(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used[id] > 0
}

func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s,", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// own reports whether an image that was built belongs to an owner: whatever was not built
// from a Dockerfile belongs to all.
func own(labels map[string]string, owner string) bool {
	whose, built := labels[labelOwner]
	return !built || whose == hash(owner)
}

// read reads a spec's Dockerfile.
func (e *Engine) read(d *monkey.Dockerfile) (*dockerfile, error) {
	if e.c.Dockerfiles == DockerfilesRefuse {
		return nil, &monkey.MissingError{What: "leave to build images of Dockerfiles", Hint: "have its operator give it (dockerfiles: build), or name an image"}
	}
	f, err := d.Context.Open(d.Name)
	if err != nil {
		return nil, fmt.Errorf("%w Dockerfile: %w", taubyte.ErrInvalid, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDockerfile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the Dockerfile: %w", err)
	}
	return parseDockerfile(text)
}

// Bases implements monkey.ImageBuilder. Images are pulled if the policy says so.
func (e *Engine) Bases(ctx context.Context, owner string, d *monkey.Dockerfile) (string, error) {
	file, err := e.read(d)
	if err != nil {
		return "", err
	}
	names, err := file.bases()
	if err != nil {
		return "", err
	}
	var all []string
	for _, name := range names {
		id, err := e.base(ctx, owner, name, io.Discard)
		if err != nil {
			return "", err
		}
		all = append(all, name+"="+id)
	}
	return strings.Join(all, " "), nil
}

// base is an image that another may begin with.
func (e *Engine) base(ctx context.Context, owner, name string, log io.Writer) (string, error) {
	i, err := e.image(ctx, owner, name, log)
	switch {
	case err != nil:
		return "", err
	case i.onBuild:
		return "", fmt.Errorf("%w Dockerfile: the image %s has instructions for what is built from it (ONBUILD): write them out, and begin with another", taubyte.ErrInvalid, name)
	case len(i.volumes) > 0:
		return "", fmt.Errorf("%w Dockerfile: the image %s declares volumes, in which nothing is kept or bounded: begin with another", taubyte.ErrInvalid, name)
	}
	return i.id, nil
}

// build builds a spec's Dockerfile. The image is not removed until done.
func (e *Engine) build(ctx context.Context, spec monkey.Spec) (id string, done func(), err error) {
	log := spec.Log
	if log == nil {
		log = io.Discard
	}
	file, err := e.read(spec.Dockerfile)
	if err != nil {
		return "", nil, err
	}
	b := &imageBuild{e: e, spec: spec, log: log, owner: hash(spec.Owner), target: hash(spec.Owner, spec.Dockerfile.Target), made: map[string]bool{}}
	label := fmt.Sprintf("%q=%q %q=%q %q=%q", labelNode, e.node, labelOwner, b.owner, labelTarget, b.target)
	text, err := file.text(spec.Dockerfile.Context, label, func(name string) (string, error) {
		return e.base(ctx, spec.Owner, name, log)
	})
	if err != nil {
		return "", nil, err
	}
	turn, err := e.builds.turn(ctx, b.target)
	if err != nil {
		return "", nil, err
	}
	defer turn()
	fmt.Fprintf(log, "building the image of %s\n", spec.Dockerfile.Name)
	err = b.run(ctx, text)
	lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	err = errors.Join(err, b.end(lasting))
	if err == nil {
		done = e.builds.use(b.id)
	}
	if e := e.tidyImages(lasting, b); e != nil {
		fmt.Fprintf(log, "note: %v\n", e)
	}
	return b.id, done, err
}

// An imageBuild is one under way.
type imageBuild struct {
	e             *Engine
	spec          monkey.Spec
	log           io.Writer
	owner, target string

	id   string          // of the image
	made map[string]bool // what the build has made or used, by the beginning of its id

	begins bool  // a stage does: what follows is what it begins with
	size   int64 // of the last step's image

	mu    sync.Mutex
	bytes int64 // that finished steps have added
}

// which are the containers of the build's steps.
func (b *imageBuild) which() client.Filters {
	return make(client.Filters).Add("label", labelNode+"="+b.e.node).Add("label", labelTarget+"="+b.target)
}

func (b *imageBuild) options() client.ImageBuildOptions {
	l, c := b.spec.Limits, b.e.c
	o := client.ImageBuildOptions{
		Version: build.BuilderV1, Dockerfile: dockerfileName, Remove: true, ForceRemove: true,
		NetworkMode: "none", Memory: l.Memory, MemorySwap: l.Memory, CPUShares: shares, ShmSize: shmSize, Ulimits: ulimits(l),
	}
	if b.spec.Network {
		o.NetworkMode = c.Network
	}
	if c.CPUs > 0 {
		o.CPUPeriod = 100_000
		o.CPUQuota = max(int64(c.CPUs*100_000), 1000)
	}
	return o
}

// run has the engine build, until ctx ends or a limit is passed.
func (b *imageBuild) run(ctx context.Context, dockerfile []byte) error {
	ctx, over := context.WithCancelCause(ctx)
	defer over(nil)
	r, w := io.Pipe()
	var working sync.WaitGroup
	defer working.Wait()
	defer over(nil)
	defer r.Close()
	var packed error
	working.Go(func() {
		packed = pack(ctx, w, b.spec.Dockerfile.Context, dockerfile, b.log)
		_ = w.CloseWithError(packed)
	})
	working.Go(func() {
		if limit := b.watch(ctx); limit != "" {
			over(&monkey.LimitError{Command: b.spec.Dockerfile.Name, Limit: limit})
		}
	})
	answer, err := b.e.api.ImageBuild(ctx, r, b.options())
	if err == nil {
		defer answer.Body.Close()
		err = b.follow(ctx, answer.Body)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_ = r.CloseWithError(errors.New("the engine has ended"))
	var exit *monkey.ExitError
	switch {
	case err == nil && b.id != "":
		return nil
	case err == nil:
		return fmt.Errorf("%w container engine: it names no image", taubyte.ErrUnavailable)
	case errors.As(err, &exit), errors.Is(err, taubyte.ErrInvalid):
		return err
	case errdefs.IsInvalidArgument(err):
		return fmt.Errorf("%w Dockerfile: %w", taubyte.ErrInvalid, err)
	}
	over(nil)
	working.Wait()
	if errors.Is(packed, taubyte.ErrTooLarge) || errors.Is(packed, taubyte.ErrInvalid) {
		return packed
	}
	return outage(ctx, "building an image", err)
}

var (
	stepRule = regexp.MustCompile(`^ ---> ([0-9a-f]{12,64})\n?$`)
	colours  = strings.NewReplacer("\x1b[91m", "", "\x1b[0m", "")
)

// follow reads what the engine says while it builds.
func (b *imageBuild) follow(ctx context.Context, r io.Reader) error {
	for dec := json.NewDecoder(r); ; {
		var m jsonstream.Message
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if m.Error != nil {
			if m.Error.Code > 0 {
				return &monkey.ExitError{Command: b.spec.Dockerfile.Name, Status: m.Error.Message}
			}
			return fmt.Errorf("%w Dockerfile: %s", taubyte.ErrInvalid, m.Error.Message)
		}
		if step := stepRule.FindStringSubmatch(m.Stream); step != nil {
			b.step(ctx, step[1])
		} else if m.Stream != "" && m.Stream != "\n" && !strings.HasPrefix(m.Stream, " ---> ") && !strings.HasPrefix(m.Stream, "Removing intermediate") {
			text := colours.Replace(m.Stream)
			if strings.HasPrefix(text, "Step ") && !strings.HasSuffix(text, "\n") {
				text += "\n"
				if strings.Contains(text, " : FROM ") {
					b.begins, b.size = !strings.HasPrefix(text[strings.Index(text, " : FROM "):], " : FROM scratch"), 0
				}
			}
			if !strings.Contains(text, " : LABEL \""+labelNode) {
				_, _ = io.WriteString(b.log, text)
			}
		}
		if m.Aux != nil {
			var made struct{ ID string }
			if json.Unmarshal(*m.Aux, &made) == nil && made.ID != "" {
				b.id = made.ID
			}
		}
	}
}

// step counts what a step has added.
func (b *imageBuild) step(ctx context.Context, id string) {
	b.made[id[:12]] = true
	found, err := b.e.api.ImageInspect(ctx, id)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.begins {
		b.bytes += max(found.Size-b.size, 0)
	}
	b.size, b.begins = found.Size, false
}

const sizeEvery = 5 // watchEvery

// watch returns the limit that was passed, "" when ctx has ended.
func (b *imageBuild) watch(ctx context.Context) string {
	ctx, stop := context.WithCancel(ctx)
	l := b.spec.Limits
	most := confine.Room(l.Disk, b.e.disk())
	var oom kills
	if l.Memory > 0 {
		oom = kills{b.e.api.Events(ctx, client.EventsListOptions{Filters: b.which().Add("event", string(events.ActionOOM))})}
	}
	defer oom.wait()
	defer stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return ""
		case m := <-oom.Messages:
			if m.Actor.Attributes[labelBoot] != "" {
				continue // a command's, in an image of the target
			}
			return fmt.Sprintf("more than %d bytes of memory", l.Memory)
		case <-tick.C:
		}
		list, err := b.e.api.ContainerList(ctx, client.ContainerListOptions{All: true, Size: most > 0 && n%sizeEvery == 0, Filters: b.which()})
		if err != nil {
			continue
		}
		b.mu.Lock()
		bytes := b.bytes
		b.mu.Unlock()
		for _, c := range list.Items {
			if c.Labels[labelBoot] != "" {
				continue // a command's, in the image
			}
			bytes += c.SizeRw
			if most > 0 {
				if pid := b.e.process(ctx, c.ID); pid > 0 {
					_, held, _ := confine.Processes(pid, l.Processes)
					bytes += held
				}
			}
			if l.Processes > 0 && b.e.processes(ctx, c.ID) > uint64(l.Processes) {
				return fmt.Sprintf("more than %d processes", l.Processes)
			}
		}
		if most > 0 && bytes > most {
			return fmt.Sprintf("more than %d bytes of disk", most)
		}
	}
}

// end ends what is left of a build's steps. The engine does so itself a moment after it was
// told to stop.
func (b *imageBuild) end(ctx context.Context) error {
	list, err := b.e.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: b.which()})
	if err != nil {
		return outage(ctx, "looking for a build's containers", err)
	}
	for _, c := range list.Items {
		if c.Labels[labelBoot] != "" {
			continue
		}
		if err := b.e.remove(ctx, c.ID); err != nil {
			return err
		}
	}
	return nil
}

// tidyImages removes layers that are kept for no next build: those of the target that this
// one has not used, those that are old, and the oldest while all together are too large. b
// is nil where none was built.
func (e *Engine) tidyImages(ctx context.Context, b *imageBuild) error {
	list, err := e.api.ImageList(ctx, client.ImageListOptions{All: true})
	if err != nil {
		return outage(ctx, "listing images", err)
	}
	size := map[string]int64{}
	for _, i := range list.Items {
		size[i.ID] = i.Size
	}
	all := slices.DeleteFunc(list.Items, func(i imagetypes.Summary) bool { return i.Labels[labelNode] != e.node || i.Labels[labelTarget] == "" })
	var total int64
	newest := map[string]int64{} // of a target: the time of its last layer
	for _, i := range all {
		total += i.Size - size[i.ParentID]
		newest[i.Labels[labelTarget]] = max(newest[i.Labels[labelTarget]], i.Created)
	}
	// The oldest target's go first.
	targets := make([]string, 0, len(newest))
	for t := range newest {
		targets = append(targets, t)
	}
	slices.SortFunc(targets, func(a, b string) int { return int(newest[a] - newest[b]) })
	drop := func(which func(imagetypes.Summary) bool) {
		for again := true; again; {
			again = false
			all = slices.DeleteFunc(all, func(i imagetypes.Summary) bool {
				if !which(i) || e.builds.uses(i.ID) {
					return false
				}
				// With a child it is refused, and tried again when that is gone.
				_, err := e.api.ImageRemove(ctx, i.ID, client.ImageRemoveOptions{})
				gone := err == nil || errdefs.IsNotFound(err)
				if gone {
					again = true
					total -= i.Size - size[i.ParentID]
				}
				return gone
			})
		}
	}
	if b != nil {
		drop(func(i imagetypes.Summary) bool {
			return i.Labels[labelTarget] == b.target && !b.made[strings.TrimPrefix(i.ID, "sha256:")[:12]]
		})
	}
	old := time.Now().Add(-layersAge).Unix()
	for _, t := range targets {
		if total <= e.c.Layers && newest[t] >= old {
			break
		}
		if done, ok := e.builds.try(t); ok { // else it is built now
			drop(func(i imagetypes.Summary) bool { return i.Labels[labelTarget] == t })
			done()
		}
	}
	return nil
}

// Files implements monkey.ImageBuilder.
func (e *Engine) Files(ctx context.Context, spec monkey.Spec, dir string) (io.ReadCloser, error) {
	id, done, err := e.build(ctx, spec)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("taubyte-build-%s-%d", e.boot, e.n.Add(1))
	end := sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
		defer cancel()
		defer done()
		return e.remove(ctx, name)
	})
	_, err = e.api.ContainerCreate(ctx, client.ContainerCreateOptions{Name: name, Config: &container.Config{
		Image: id, Entrypoint: []string{shell}, Cmd: []string{}, NetworkDisabled: true, Labels: map[string]string{labelNode: e.node, labelBoot: e.boot},
	}})
	if err != nil {
		return nil, errors.Join(outage(ctx, "making a container of an image", err), end())
	}
	got, err := e.api.CopyFromContainer(ctx, name, client.CopyFromContainerOptions{SourcePath: path.Join("/", dir)})
	switch {
	case errdefs.IsNotFound(err):
		return nil, errors.Join(fmt.Errorf("%w Dockerfile: the image has no folder %s, in which a build leaves its result", taubyte.ErrInvalid, path.Join("/", dir)), end())
	case err != nil:
		return nil, errors.Join(outage(ctx, "reading an image", err), end())
	case !got.Stat.Mode.IsDir():
		return nil, errors.Join(fmt.Errorf("%w Dockerfile: %s of the image is no folder", taubyte.ErrInvalid, path.Join("/", dir)), got.Content.Close(), end())
	}
	return &imageFiles{ReadCloser: got.Content, end: end}, nil
}

// imageFiles is a folder of an image, on its way.
type imageFiles struct {
	io.ReadCloser
	end func() error
}

func (f *imageFiles) Close() error { return errors.Join(f.ReadCloser.Close(), f.end()) }

// pack writes the context of a build as a tar, without what .dockerignore leaves out.
func pack(ctx context.Context, w io.Writer, from fs.FS, dockerfile []byte, log io.Writer) error {
	ignored, err := ignores(from)
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	// The engine takes out of the context what its .dockerignore has: these two.
	for name, text := range map[string][]byte{dockerfileName: dockerfile, ignoreName: []byte(dockerfileName + "\n" + ignoreName + "\n")} {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	var bytes int64
	files := 0
	err = fs.WalkDir(from, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil || name == ".":
			return err
		case name == dockerfileName || name == ignoreName:
			return nil
		}
		skip, err := ignored.MatchesOrParentMatches(name)
		if err != nil {
			return fmt.Errorf("%w %s: %w", taubyte.ErrInvalid, ignoreName, err)
		}
		if skip {
			if d.IsDir() && !ignored.Exclusions() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if files++; files > maxFiles {
			return fmt.Errorf("%w: the Dockerfile's folder holds more than %d files and folders", taubyte.ErrTooLarge, maxFiles)
		}
		h := &tar.Header{Name: name, Mode: 0o644, ModTime: time.Unix(0, 0)}
		switch {
		case d.IsDir():
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", 0o755
			return out.WriteHeader(h)
		case d.Type()&fs.ModeSymlink != 0:
			if h.Linkname, err = fs.ReadLink(from, name); err != nil {
				return err
			}
			if path.IsAbs(h.Linkname) || !fs.ValidPath(path.Join(path.Dir(name), h.Linkname)) {
				fmt.Fprintf(log, "note: %s leads out of the Dockerfile's folder and is left out\n", name)
				return nil
			}
			h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
			return out.WriteHeader(h)
		case !d.Type().IsRegular():
			return nil
		}
		if bytes += info.Size(); bytes > maxContext {
			return fmt.Errorf("%w: the Dockerfile's folder has more than %d bytes", taubyte.ErrTooLarge, int64(maxContext))
		}
		if info.Mode()&0o100 != 0 {
			h.Mode = 0o755
		}
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		f, err := from.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(out, io.LimitReader(f, info.Size()))
		return err
	})
	if err != nil {
		return err
	}
	return out.Close()
}

// ignores reads a .dockerignore.
func ignores(from fs.FS) (*patternmatcher.PatternMatcher, error) {
	var patterns []string
	f, err := from.Open(ignoreName)
	if err == nil {
		defer f.Close()
		patterns, err = ignorefile.ReadAll(io.LimitReader(f, maxDockerfile))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w %s: %w", taubyte.ErrInvalid, ignoreName, err)
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", taubyte.ErrInvalid, ignoreName, err)
	}
	return m, nil
}

// named reports whether a text is the name of an image.
func named(text string) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil, fmt.Errorf("%w image %q: %w", taubyte.ErrInvalid, text, err)
	}
	return reference.TagNameOnly(ref), nil
}
