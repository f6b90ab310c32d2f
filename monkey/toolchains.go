package monkey

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taubyte/taubyte"
)

// Native is an Environment that runs the machine's own programs, whatever image a project
// names. Builds are given the toolchain of the machine that stands for the image, see
// WithImages. An Environment that does not implement it brings the programs of the image.
type Native interface {
	Environment
	// Confines reports whether commands find each mount at its Place, and see no other
	// folder of the node.
	Confines() bool
}

var (
	_ Native = (*Confined)(nil)
	_ Native = (*Process)(nil)
)

// Confines implements Native.
func (*Confined) Confines() bool { return true }

// Confines implements Native: commands see the whole machine.
func (*Process) Confines() bool { return false }

// An Image is what stands for a container image where builds run with the programs of the
// machine.
type Image struct {
	// Toolchain is what the image is used for: "go", "rust", "assemblyscript", "node", or
	// "shell" for one that brings no compiler.
	Toolchain string `yaml:"toolchain"`
	// Path are folders with programs that are looked for before the node's PATH.
	Path []string `yaml:"path,omitempty"`
	// Folders are further folders of the machine that builds may read, such as one below
	// /opt that Path is in.
	Folders []string `yaml:"folders,omitempty"`
	// Env are variables that the image would set.
	Env map[string]string `yaml:"env,omitempty"`

	tau bool // one of tau's, of which a build sees its own folder alone
}

// The toolchains, by the names of Image.Toolchain.
const (
	toolGo             = "go"
	toolRust           = "rust"
	toolAssemblyScript = "assemblyscript"
	toolNode           = "node"
	toolShell          = "shell"
)

var toolchains = []string{toolGo, toolRust, toolAssemblyScript, toolNode, toolShell}

// images is what images stand for that public projects name.
var images = map[string]Image{
	"taubyte/go-wasi":              {Toolchain: toolGo, tau: true},
	"taubyte/go-wasi-lib":          {Toolchain: toolGo, tau: true},
	"taubyte/rust-wasi":            {Toolchain: toolRust, tau: true},
	"taubyte/assembly-script-wasi": {Toolchain: toolAssemblyScript, tau: true},
	"taubyte/assemblyscript-wasi":  {Toolchain: toolAssemblyScript, tau: true},
	"golang":                       {Toolchain: toolGo},
	"tinygo/tinygo":                {Toolchain: toolGo},
	"rust":                         {Toolchain: toolRust},
	"node":                         {Toolchain: toolNode},
	"alpine":                       {Toolchain: toolShell},
	"bash":                         {Toolchain: toolShell},
	"busybox":                      {Toolchain: toolShell},
	"debian":                       {Toolchain: toolShell},
	"ubuntu":                       {Toolchain: toolShell},
}

// standIn is the image that a build without a file is given where there are containers, and
// the row of the table with what the operator has set for its toolchain.
var standIn = map[string]string{
	toolGo: "golang", toolRust: "rust", toolAssemblyScript: "node", toolNode: "node",
}

// WithImages adds to the table that says what stands for container images, in environments
// that run the programs of the machine. A name may have a tag ("node:20"), which counts
// before the one without; "*" stands for builds that name no image, or one that is not in
// the table. The default has the images of tau and golang, rust, node and some that are
// nothing but a shell; a build for another image runs with the programs of the machine.
func WithImages(table map[string]Image) Option {
	return func(o *options) { o.images = table }
}

// checkImages returns an error for a table that can't be meant.
func checkImages(table map[string]Image) error {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		i := table[name]
		if i.Toolchain != "" && !slices.Contains(toolchains, i.Toolchain) {
			return fmt.Errorf("%w image %s: it has the toolchain %q (there are %s)", taubyte.ErrInvalid, name, i.Toolchain, strings.Join(toolchains, ", "))
		}
		for _, dir := range slices.Concat(i.Path, i.Folders) {
			if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
				return fmt.Errorf("%w image %s: %q is no absolute path of a folder below /", taubyte.ErrInvalid, name, dir)
			}
		}
		for v, value := range i.Env {
			if !variableName.MatchString(v) || strings.ContainsRune(value, 0) {
				return fmt.Errorf("%w image %s: the variable %q", taubyte.ErrInvalid, name, v)
			}
		}
	}
	return nil
}

// image is what stands for the image of that name, "" for none.
func (o *options) image(name string) Image {
	for _, n := range imageNames(name) {
		if i, ok := o.images[n]; ok {
			return i.with(images[untagged(n)])
		}
	}
	for _, n := range imageNames(name) {
		if i, ok := images[n]; ok {
			return i
		}
	}
	return o.images["*"].with(Image{Toolchain: toolShell})
}

// with takes what an operator's row leaves open from the built-in one.
func (i Image) with(builtin Image) Image {
	if i.Toolchain == "" {
		i.Toolchain = builtin.Toolchain
	}
	if i.Toolchain == "" {
		i.Toolchain = toolShell
	}
	i.tau = builtin.tau
	return i
}

// imageNames are the names under which an image may be in the table, the most exact first.
func imageNames(name string) (all []string) {
	if name == "" {
		return nil
	}
	name, _, _ = strings.Cut(name, "@") // a digest
	for _, prefix := range []string{"", "docker.io/", "index.docker.io/", "registry-1.docker.io/"} {
		short, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		all = append(all, short, untagged(short))
		if official, ok := strings.CutPrefix(short, "library/"); ok {
			all = append(all, official, untagged(official))
		}
	}
	return slices.Compact(all)
}

func untagged(name string) string {
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		return name[:at]
	}
	return name
}

// A kit is what a build needs of the machine for an image: where programs are, and
// variables.
type kit struct {
	Image
	name    string // of the image
	mounts  []Mount
	path    []string
	env     []string
	version []string // for the cache: what it consists of

	golang *toolchain // of toolGo
	tinygo string     // its version, "" where it is not there
	lacks  *MissingError
}

// native is the service's environment where it runs the machine's programs.
func (s *Service) native() (n Native, ok bool) {
	n, ok = s.o.env.(Native)
	return n, ok
}

// confines reports whether commands see the machine's programs, and of its folders no more.
func (s *Service) confines() bool {
	n, ok := s.native()
	return ok && n.Confines()
}

// kit finds what stands for an image, which a workflow names, or for a toolchain that a
// folder without one needs. With must, a toolchain that is not there is an error; else what is
// there is used.
func (s *Service) kit(ctx context.Context, tool, image string, must bool) (*kit, error) {
	k := &kit{Image: s.o.image(image), name: image}
	if tool != "" {
		k.Toolchain, k.name = tool, ""
	}
	if _, ok := s.native(); !ok {
		if k.Toolchain == toolGo && must { // the node's own Go is brought along
			var err error
			if k.golang, err = s.toolchain(ctx); err == nil {
				k.version = k.golang.key()
			}
			return k, err
		}
		return k, nil
	}
	for _, dir := range k.Folders {
		k.mount(dir)
	}
	k.path = slices.Clone(k.Path)
	for _, dir := range k.Path {
		k.mount(dir)
	}
	for _, name := range slices.Sorted(maps.Keys(k.Env)) {
		k.env = append(k.env, name+"="+k.Env[name])
	}
	k.version = append(k.version, k.Toolchain)
	k.version = append(k.version, k.env...)
	var err error
	switch k.Toolchain {
	case toolGo:
		err = s.goKit(ctx, k)
	case toolRust:
		err = s.rustKit(ctx, k)
	case toolNode, toolAssemblyScript:
		err = s.nodeKit(ctx, k)
	}
	var missing *MissingError
	if !must && errors.As(err, &missing) {
		k.version = append(k.version, err.Error())
		k.lacks, err = missing, nil
	}
	return k, err
}

// mount gives commands a folder of the machine at its own place.
func (k *kit) mount(dir string) {
	dir = filepath.Clean(dir)
	for _, system := range systemFolders {
		if dir == system || strings.HasPrefix(dir, system+"/") {
			return
		}
	}
	for _, m := range k.mounts {
		if dir == m.Dir || strings.HasPrefix(dir, m.Dir+"/") {
			return
		}
	}
	k.mounts = append(k.mounts, Mount{Dir: dir, Place: dir})
}

// give hands a session what the kit has.
func (k *kit) give(spec *Spec) {
	spec.Mounts = append(spec.Mounts, k.mounts...)
	spec.Path = append(slices.Clone(k.path), spec.Path...)
}

// find looks a program up where the kit's builds will.
func (k *kit) find(program string) (string, error) {
	return lookPath(program, strings.Join(append(slices.Clone(k.Path), os.Getenv("PATH")), string(filepath.ListSeparator)))
}

// ask runs a program of the machine that says something of itself, once in the service's
// life for each question.
func (s *Service) ask(ctx context.Context, k *kit, program string, args ...string) (string, error) {
	found, err := k.find(program)
	if err != nil {
		return "", err
	}
	question := strings.Join(append([]string{found}, args...), "\x00")
	s.toolsMu.Lock()
	defer s.toolsMu.Unlock()
	if answer, ok := s.answers[question]; ok {
		return answer, nil
	}
	cmd := exec.CommandContext(ctx, found, args...)
	cmd.Env = append(os.Environ(), k.env...)
	cmd.Dir = s.o.workDir
	out, err := cmd.Output()
	if err != nil {
		return "", ours(fmt.Errorf("asking %s for its settings: %w", base(found), err))
	}
	answer := strings.TrimSpace(string(out))
	s.answers[question] = answer
	return answer, nil
}

// goKit has the node's Go and, where it is installed, its TinyGo.
func (s *Service) goKit(ctx context.Context, k *kit) (err error) {
	if version, err := s.ask(ctx, k, "tinygo", "version"); err == nil {
		root, err := s.ask(ctx, k, "tinygo", "env", "TINYGOROOT")
		if err != nil {
			return err
		}
		k.mount(root)
		k.reach("tinygo")
		k.tinygo = version
		k.version = append(k.version, "tinygo", version)
	} else if isGone(err) {
		return err
	}
	if k.golang, err = s.toolchain(ctx); err != nil {
		return err
	}
	k.version = append(k.version, k.golang.key()...)
	return nil
}

// isGone reports whether something else is wrong with a program than that it is not there.
func isGone(err error) bool {
	var missing *MissingError
	return err != nil && !errors.As(err, &missing)
}

// reach puts the folder that a program really is in before the path, where what is in the
// path is a link that leads out of what commands see.
func (k *kit) reach(program string) {
	found, err := k.find(program)
	if err != nil {
		return
	}
	if whole, err := filepath.EvalSymlinks(found); err == nil && filepath.Base(whole) == program {
		k.path = append(k.path, filepath.Dir(whole))
	}
}

// rustKit has the node's Rust, where it was installed by rustup below a home too.
func (s *Service) rustKit(ctx context.Context, k *kit) error {
	sysroot, err := s.ask(ctx, k, "rustc", "--print", "sysroot")
	if err != nil {
		return err
	}
	version, err := s.ask(ctx, k, "rustc", "--version")
	if err != nil {
		return err
	}
	k.mount(sysroot)
	if _, err := os.Stat(filepath.Join(sysroot, "bin", "cargo")); err == nil {
		k.path = append(k.path, filepath.Join(sysroot, "bin"))
	} else if _, err := k.find("cargo"); err != nil {
		return err
	}
	target, err := rustTarget(sysroot)
	if err != nil {
		return err
	}
	k.env = append(k.env, "CARGO_BUILD_TARGET="+target)
	k.version = append(k.version, version, target)
	return nil
}

// rustTarget is the target that modules are built for.
func rustTarget(sysroot string) (string, error) {
	for _, target := range []string{"wasm32-wasip1", "wasm32-wasi"} { // its name before Rust 1.78
		if _, err := os.Stat(filepath.Join(sysroot, "lib", "rustlib", target)); err == nil {
			return target, nil
		}
	}
	return "", &MissingError{What: "the target wasm32-wasip1 of Rust", Hint: `run "rustup target add wasm32-wasip1", or install the package libstd-rust-dev-wasm32`}
}

// nodeKit has the node's Node.js, where a version manager has it below a home too.
func (s *Service) nodeKit(ctx context.Context, k *kit) error {
	version, err := s.ask(ctx, k, "node", "--version")
	if err != nil {
		return err
	}
	k.version = append(k.version, version)
	found, err := k.find("node")
	if err != nil {
		return err
	}
	whole, err := filepath.EvalSymlinks(found)
	if err != nil {
		return ours(fmt.Errorf("finding node: %w", err))
	}
	prefix := filepath.Dir(filepath.Dir(whole))
	if info, err := os.Stat(filepath.Join(prefix, "lib", "node_modules")); err == nil && info.IsDir() && prefix != "/usr" {
		k.mount(prefix)
		k.path = append(k.path, filepath.Join(prefix, "bin"))
	}
	return nil
}

// hints say what to install for a program, and what it is.
var hints = map[string]MissingError{
	"go":       {"the Go toolchain", "install Go 1.24 or later (https://go.dev/dl) and see that the command go is in the node's PATH"},
	"tinygo":   {"TinyGo", "install it (https://tinygo.org/getting-started/install) and see that the command tinygo is in the node's PATH"},
	"cargo":    {"Rust (cargo)", "install it (https://rustup.rs) with the target wasm32-wasip1, and see that cargo and rustc are in the node's PATH"},
	"rustc":    {"Rust (rustc)", "install it (https://rustup.rs) with the target wasm32-wasip1, and see that cargo and rustc are in the node's PATH"},
	"rustup":   {"rustup", "install it (https://rustup.rs)"},
	"node":     {"Node.js", "install Node.js 20 or later (https://nodejs.org) and see that the commands node and npm are in the node's PATH"},
	"npm":      {"npm", "install Node.js 20 or later with npm (https://nodejs.org) and see that the command npm is in the node's PATH"},
	"npx":      {"npx", "install Node.js 20 or later with npm (https://nodejs.org)"},
	"pnpm":     {"pnpm", `run "npm install -g pnpm" and see that the command pnpm is in the node's PATH`},
	"yarn":     {"yarn", `run "npm install -g yarn" and see that the command yarn is in the node's PATH`},
	"bun":      {"bun", "install it (https://bun.sh) and see that the command bun is in the node's PATH"},
	"asc":      {"the AssemblyScript compiler (asc)", `have the package.json of the folder depend on assemblyscript, or run "npm install -g assemblyscript"`},
	"hugo":     {"Hugo", "install it (https://gohugo.io/installation) and see that the command hugo is in the node's PATH"},
	"python3":  {"Python", "install the package python3"},
	"bash":     {"bash, which a script asks for,", "install the package bash"},
	"wasm-opt": {"wasm-opt", "install the package binaryen"},
	shell:      {"a POSIX shell (" + shell + ")", "build on a system that has one"},
}

func missing(name string) error {
	if hint, ok := hints[name]; ok {
		return &hint
	}
	return &MissingError{What: name, Hint: "install it and see that it is in the node's PATH"}
}

// hasFile reports whether a folder has one of these files.
func hasFile(fsys fs.FS, patterns ...string) bool {
	for _, pattern := range patterns {
		if found, _ := fs.Glob(fsys, pattern); len(found) > 0 {
			return true
		}
	}
	return false
}
