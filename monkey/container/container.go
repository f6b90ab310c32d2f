// Package container runs builds in containers, by the API of a Docker engine.
//
//	engine, err := container.New(ctx, host.ID().String(), container.Config{})
//	defer engine.Close()
//	m, err := monkey.New(ctx, host, store, monkey.WithEnvironment("container", engine))
//
// A build has the programs of the image that its project names. Each command is a container
// of its own, which is gone when the command has ended.
package container

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/monkey"
)

// Config is how an Engine runs builds. The zero Config is a whole one.
type Config struct {
	// Engine is the address of the engine's API, "unix:///run/docker.sock". The engine has
	// to be of this machine. The default is DOCKER_HOST, or else the platform's.
	Engine string `yaml:"engine,omitempty"`
	// Image is for builds that name none. The default is DefaultImage.
	Image string `yaml:"image,omitempty"`
	// Pull says when images are pulled. The default is PullMissing.
	Pull Pull `yaml:"pull,omitempty"`
	// Registries are those that images are pulled from, "docker.io" or "registry.example.com:5000",
	// or part of one, "ghcr.io/acme". The default is docker.io.
	Registries []string `yaml:"registries,omitempty"`
	// CPUs is how many CPUs a session may use at a time, 1.5 for one and a half. The
	// default is all of the machine's; the node's own work comes first in any case.
	CPUs float64 `yaml:"cpus,omitempty"`
	// Network is the engine's network for sessions that are given one. The default is
	// "bridge", from which the node's ports on addresses other than loopback are reached,
	// and whatever the node's firewall lets through.
	Network string `yaml:"network,omitempty"`
	// Dockerfiles says whether images are built from projects' Dockerfiles. The default is
	// DockerfilesBuild.
	Dockerfiles Dockerfiles `yaml:"dockerfiles,omitempty"`
	// Layers is how many bytes of such images are kept for next builds, beyond those that
	// are in use. The default is DefaultLayers.
	Layers int64 `yaml:"layers,omitempty"`
}

// Dockerfiles says whether images are built.
type Dockerfiles string

const (
	DockerfilesBuild  Dockerfiles = "build"
	DockerfilesRefuse Dockerfiles = "refuse"
)

// DefaultLayers is 20 GiB.
const DefaultLayers = 20 << 30

// DefaultImage is for builds that name no image.
const DefaultImage = "debian:stable-slim"

// Pull says when images are pulled.
type Pull string

const (
	PullNever   Pull = "never"   // what the engine has is used, and nothing else
	PullMissing Pull = "missing" // what the engine does not have is pulled
	PullAlways  Pull = "always"  // what a name stands for is asked for each build
)

// Engine is the monkey.Environment that runs commands in containers of a Docker engine.
// It is safe for concurrent use.
//
// A command has the image's files, read-only, and the mounts of its session: nothing else of
// the node. It runs without capabilities and can't gain privileges, with the engine's seccomp
// profile, in namespaces of its own. Where the node's process is root it runs as a user of its
// own for each Owner, who gets the mounts that may be written; else as the node's user.
// Where there is a mount TMP, that is /tmp and /dev/shm too. Volumes that the image declares
// are empty and read-only.
//
// # Limits
//
// CPU and File are the kernel's (rlimits), Memory and Processes those of a cgroup. A command
// that is at one of the latter is ended with a *monkey.LimitError. Disk is watched several
// times a second, and is no more than half of what is free: a command can be above it for
// that long. What a file without a name takes is seen where the node may look at the
// processes: as root, or as the same user.
//
// # Network
//
// Without Spec.Network there is none but an own loopback. With it there is Config.Network.
//
// # Images of Dockerfiles
//
// An image is built by the engine's own builder (not BuildKit, which keeps to no limit), with
// the Limits of the session, from the files of Dockerfile.Context that its .dockerignore does
// not name. Its steps are root in containers with the engine's usual capabilities, and
// otherwise apart from the node like commands: a step has no file of the node, no variable,
// no secret, and no network without Spec.Network. What the engine would do itself, past all
// limits, is refused: ADD of addresses and archives, ONBUILD, and images with that or with
// volumes to begin with. These come by the same policy as others.
//
// Layers are kept between builds of one owner's target, and never used for another owner:
// each stage begins with a label of the owner's. No other owner may name such an image. What
// a target's last build has not used is removed, and all of a target 30 days after the last
// layer was made.
//
// # What is left behind
//
// Containers are removed with the command. Those of a node's process that has crashed go on
// until New is called for the same node, which removes them. They are known by their labels;
// nothing that lacks these is touched. Images that were pulled stay with the engine, and any
// image that it has may be named by a project, whatever the registries: keep none there that
// strangers may not see.
type Engine struct {
	api  *client.Client
	c    Config
	node string
	boot string
	user string // of all commands; "" for one of each owner
	host bool   // the engine gives users other numbers, unless told not to
	n    atomic.Int64

	builds *builds
	root   string // the engine's folder, where it is this machine's
}

// Labels of what is the node's.
const (
	labelNode = "taubyte.node" // whose
	labelBoot = "taubyte.boot" // of which life
)

// installEngine is the hint where there is no engine.
const installEngine = "install Docker (https://docs.docker.com/engine/install) and have the node's user reach it, by /var/run/docker.sock or DOCKER_HOST"

// tidyTime bounds what has to be done for a container whoever waits for its command.
const tidyTime = time.Minute

// New connects to the engine, and removes what an earlier life of the node has left in it.
// Two Engines at a time have different nodes. Where there is no engine that confines, the
// error is a *monkey.MissingError.
func New(ctx context.Context, node string, c Config) (*Engine, error) {
	e := &Engine{node: node, boot: rand.Text(), builds: newBuilds()}
	var err error
	if e.c, err = c.complete(); err != nil {
		return nil, err
	}
	if node == "" {
		return nil, fmt.Errorf("%w container engine: of no node", taubyte.ErrInvalid)
	}
	opts := []client.Opt{client.FromEnv}
	if c.Engine != "" {
		opts = append(opts, client.WithHost(c.Engine))
	}
	if e.api, err = client.New(opts...); err != nil {
		return nil, fmt.Errorf("%w container engine: %w", taubyte.ErrInvalid, err)
	}
	if err := e.start(ctx); err != nil {
		_ = e.api.Close()
		return nil, err
	}
	return e, nil
}

func (e *Engine) start(ctx context.Context) error {
	got, err := e.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &monkey.MissingError{What: fmt.Sprintf("a container engine (%v)", err), Hint: installEngine}
	}
	info := got.Info
	if info.OSType != "linux" {
		return &monkey.MissingError{What: fmt.Sprintf("a container engine for Linux (this one is for %q)", info.OSType), Hint: "switch it to Linux containers"}
	}
	has := func(option string) bool {
		return slices.ContainsFunc(info.SecurityOptions, func(s string) bool {
			return s == "name="+option || strings.HasPrefix(s, "name="+option+",") && !strings.Contains(s, "profile=unconfined")
		})
	}
	if !has("seccomp") {
		return &monkey.MissingError{What: "a container engine that limits system calls (seccomp)", Hint: "start it with its own seccomp profile, on a kernel that has seccomp"}
	}
	e.host = has("userns")
	switch uid := os.Getuid(); {
	case has("rootless"):
		e.user = "0:0" // who is the node's user outside
	case uid < 0:
		e.user = "65534:65534" // the engine is in a machine of its own
	case uid > 0:
		e.user = fmt.Sprintf("%d:%d", uid, os.Getgid())
	}
	e.root = info.DockerRootDir
	if err := e.tidy(ctx, func(boot string) bool { return boot != e.boot }); err != nil {
		return err
	}
	return e.tidyImages(ctx, nil)
}

// disk are the folders that the engine has images in, as far as they are this machine's.
func (e *Engine) disk() []string {
	if _, err := os.Stat(e.root); err != nil {
		return nil
	}
	return []string{e.root}
}

// tidy removes containers of the node.
func (e *Engine) tidy(ctx context.Context, which func(boot string) bool) error {
	list, err := e.api.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", labelNode+"="+e.node),
	})
	if err != nil {
		return fmt.Errorf("%w container engine: listing containers of this node: %w", taubyte.ErrUnavailable, err)
	}
	for _, c := range list.Items {
		if c.Labels[labelNode] != e.node || !which(c.Labels[labelBoot]) {
			continue
		}
		if err := e.remove(ctx, c.ID); err != nil {
			return err
		}
	}
	return nil
}

// remove ends all processes of a container, and takes it away.
func (e *Engine) remove(ctx context.Context, id string) error {
	for {
		_, err := e.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		switch {
		case err == nil, errdefs.IsNotFound(err):
			return nil
		case !errdefs.IsConflict(err): // the engine is at it already
			return fmt.Errorf("%w container engine: removing a container: %w", taubyte.ErrUnavailable, err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w container engine: removing a container: %w", taubyte.ErrUnavailable, err)
		}
	}
}

// Close removes what the Engine has left in the engine, for sessions that are not closed.
// It may be called twice.
func (e *Engine) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), tidyTime)
	defer cancel()
	return errors.Join(e.tidy(ctx, func(boot string) bool { return boot == e.boot }), e.api.Close())
}
