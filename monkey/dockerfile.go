package monkey

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// A Dockerfile is what an image is built from.
type Dockerfile struct {
	Name string // of the file in Context
	// Context is the folder whose files the Dockerfile may copy. It implements
	// fs.ReadLinkFS, and no link leads what opens a file out of it.
	Context fs.FS
	// Target says for which of the owner's targets it is: layers are kept between builds
	// of the same.
	Target string
}

// An ImageBuilder is an Environment that builds images from Dockerfiles: Open takes a
// Spec.Dockerfile.
type ImageBuilder interface {
	Environment
	// Bases returns what the images stand for now that a Dockerfile begins with: what is
	// built depends on that.
	Bases(ctx context.Context, owner string, d *Dockerfile) (string, error)
	// Files builds the image of Spec.Dockerfile, runs nothing in it, and returns a folder of
	// it as a tar, with the folder's own name in front of each.
	Files(ctx context.Context, spec Spec, dir string) (io.ReadCloser, error)
}

// dockerfileName is the file's name.
const dockerfileName = "Dockerfile"

// imageFolders are where, in a workflow's folder, a Dockerfile of the image may be that its
// scripts run in, as tau has it.
var imageFolders = []string{"docker", "Docker"}

// dockerfile is the folder with a workflow's own Dockerfile, "" where it has none.
func (w *workflow) dockerfile(src fs.FS) string {
	for _, name := range imageFolders {
		at := path.Join(w.folder, name)
		if hasFile(src, path.Join(at, dockerfileName)) {
			return at
		}
	}
	return ""
}

// dockerfile says how a folder is built by a Dockerfile in it. A workflow's is that of its
// image, and needs no engine: the machine's programs stand for that as for any other.
func (b *build) dockerfile(t target, p *plan, src tree) error {
	builder, ok := b.s.o.env.(ImageBuilder)
	at := "."
	if p.w != nil {
		if at = p.w.dockerfile(src); at == "" {
			return nil
		}
	}
	p.docker = &Dockerfile{Name: dockerfileName, Context: src.sub(at), Target: t.String()}
	if p.w != nil {
		return nil
	}
	if !ok {
		return &MissingError{
			What: "a container engine, which builds the image of " + path.Join(p.dir, dockerfileName) + ",",
			Hint: "have a node run builds in containers (builds: container), or a .taubyte/config.yaml say how it is built without",
		}
	}
	p.builder = builder
	return nil
}

// resultFolder is where an image has the result of its Dockerfile.
const resultFolder = "out"

// runDockerfile builds a folder by its Dockerfile. The result is the folder /out of the image.
func (b *build) runDockerfile(ctx context.Context, spec Spec, w *workshop, p plan) error {
	spec.Dockerfile = p.docker
	files, err := p.builder.Files(ctx, spec, resultFolder)
	if err != nil {
		return err
	}
	root, err := b.root.OpenRoot(w.name)
	if err == nil {
		_, err = unpack(root, stream{files}, b.s.o.outputLimit)
		_ = root.Close()
	}
	if e := files.Close(); err == nil {
		err = ours(e)
	}
	if err != nil {
		return fmt.Errorf("the folder /%s of the image: %w", resultFolder, err)
	}
	return nil
}
