package container

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/client"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/monkey"
)

// complete fills in defaults.
func (c Config) complete() (Config, error) {
	if c.Image == "" {
		c.Image = DefaultImage
	}
	if _, err := reference.ParseNormalizedNamed(c.Image); err != nil {
		return c, fmt.Errorf("%w image %q: %w", taubyte.ErrInvalid, c.Image, err)
	}
	if c.Pull == "" {
		c.Pull = PullMissing
	}
	if !slices.Contains([]Pull{PullNever, PullMissing, PullAlways}, c.Pull) {
		return c, fmt.Errorf("%w policy: images are pulled %q (there are never, missing and always)", taubyte.ErrInvalid, c.Pull)
	}
	if len(c.Registries) == 0 {
		c.Registries = []string{"docker.io"}
	}
	if c.CPUs < 0 || math.IsNaN(c.CPUs) || c.CPUs > 1e6 {
		return c, fmt.Errorf("%w number of CPUs: %v", taubyte.ErrInvalid, c.CPUs)
	}
	if c.Network == "" {
		c.Network = "bridge"
	}
	if c.Dockerfiles == "" {
		c.Dockerfiles = DockerfilesBuild
	}
	if !slices.Contains([]Dockerfiles{DockerfilesBuild, DockerfilesRefuse}, c.Dockerfiles) {
		return c, fmt.Errorf("%w policy: of Dockerfiles, %q (there are build and refuse)", taubyte.ErrInvalid, c.Dockerfiles)
	}
	if c.Layers < 0 {
		return c, fmt.Errorf("%w size of layers: %d", taubyte.ErrInvalid, c.Layers)
	}
	if c.Layers == 0 {
		c.Layers = DefaultLayers
	}
	return c, nil
}

// An image is one that the engine has.
type image struct {
	id      string
	path    string   // PATH
	volumes []string // that it declares
	onBuild bool     // it has instructions for what is built from it
}

// Resolve makes an image one that the engine has, by the policy, and returns what its name
// stands for now: what is built by it depends on that.
func (e *Engine) Resolve(ctx context.Context, name string) (string, error) {
	i, err := e.image(ctx, "", name, io.Discard)
	return i.id, err
}

// image finds an image for an owner, and pulls it if it should.
func (e *Engine) image(ctx context.Context, owner, name string, log io.Writer) (i image, err error) {
	if name == "" {
		name = e.c.Image
	}
	ref, err := named(name)
	if err != nil {
		return i, err
	}
	if e.c.Pull == PullAlways {
		if err := e.pull(ctx, name, ref, log); err != nil {
			return i, err
		}
	}
	found, err := e.api.ImageInspect(ctx, ref.String())
	if errdefs.IsNotFound(err) && e.c.Pull == PullMissing {
		if err := e.pull(ctx, name, ref, log); err != nil {
			return i, err
		}
		found, err = e.api.ImageInspect(ctx, ref.String())
	}
	switch {
	case errdefs.IsNotFound(err):
		return i, &monkey.MissingError{What: "the image " + name, Hint: "run \"docker pull " + reference.FamiliarString(ref) + "\" there, or let the node pull images"}
	case err != nil:
		return i, outage(ctx, fmt.Sprintf("looking for the image %s", name), err)
	}
	if found.Config != nil && !own(found.Config.Labels, owner) {
		return i, fmt.Errorf("%w: the image %s was built from another project's Dockerfile", taubyte.ErrForbidden, name)
	}
	return inspected(found), nil
}

// inspected is what is known of an image.
func inspected(found client.ImageInspectResult) image {
	i := image{id: found.ID, path: defaultPath}
	if found.Config != nil {
		i.onBuild = len(found.Config.OnBuild) > 0
		for _, kv := range found.Config.Env {
			if path, ok := strings.CutPrefix(kv, "PATH="); ok {
				i.path = path
			}
		}
		for at := range found.Config.Volumes {
			i.volumes = append(i.volumes, at)
		}
	}
	return i
}

// defaultPath is the PATH of images that have none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// allowed reports whether an image's registry, or its place there, is in the list.
func (e *Engine) allowed(ref reference.Named) bool {
	return slices.ContainsFunc(e.c.Registries, func(r string) bool {
		r = strings.TrimSuffix(r, "/")
		return ref.Name() == r || strings.HasPrefix(ref.Name(), r+"/")
	})
}

func (e *Engine) pull(ctx context.Context, name string, ref reference.Named, log io.Writer) error {
	if !e.allowed(ref) {
		return &monkey.MissingError{
			What: "the image " + name,
			Hint: fmt.Sprintf("the node pulls images from %s alone: pull it there, or add %s to its registries", strings.Join(e.c.Registries, ", "), reference.Domain(ref)),
		}
	}
	fmt.Fprintf(log, "pulling the image %s\n", name)
	answer, err := e.api.ImagePull(ctx, ref.String(), client.ImagePullOptions{})
	if err == nil {
		err = answer.Wait(ctx)
	}
	switch {
	case err == nil:
		return nil
	case errdefs.IsNotFound(err), errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err), err != nil && strings.Contains(err.Error(), "manifest unknown"):
		return fmt.Errorf("%w: the image %s: %w", taubyte.ErrInvalid, name, err)
	}
	return outage(ctx, "pulling the image "+name, err)
}

// outage is an error of the engine's, or the end of ctx.
func outage(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w container engine: %s: %w", taubyte.ErrUnavailable, doing, err)
}
