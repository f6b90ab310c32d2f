package monkey

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/taubyte/taubyte"
)

// runWorkflow runs the scripts of a workflow, in the build's own copy of the source.
func (s *Service) runWorkflow(ctx context.Context, spec Spec, where string, src, scratch, utils tree, w *workflow, given given, k *kit) error {
	if _, native := s.native(); native && k.tau && k.golang != nil {
		if err := s.generate(ctx, spec, src, scratch, k); err != nil {
			return err
		}
	}
	env, spec, err := s.prepare(ctx, spec, where, src, scratch, utils, k, false)
	if err != nil {
		return err
	}
	spec.Image = w.image
	session, err := s.o.env.Open(ctx, spec)
	if err != nil {
		return err
	}
	defer session.Close()
	if err := literal(ctx, src, session, spec.Log); err != nil {
		return err
	}
	more, err := env(session)
	if err != nil {
		return err
	}
	vars := slices.Concat([]string{"FILENAME=."}, more, k.env, w.env, given.env)
	for _, script := range w.scripts {
		file := w.folder + "/" + script + ".sh"
		fmt.Fprintf(spec.Log, "running %s\n", file)
		text, err := src.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		log := &notFound{w: spec.Log}
		c := Command{Words: append(interpreter(text), "${SRC}/"+file), Dir: "${SRC}", Env: vars, Log: log}
		if err := s.failed(session.Exec(ctx, c)); err != nil {
			return fmt.Errorf("%s: %w", file, log.explain(err, k, s.confines()))
		}
	}
	return nil
}

// interpreter is what runs a script: what its first line asks for, or the shell.
func interpreter(script []byte) []string {
	line, _, _ := bytes.Cut(script, []byte("\n"))
	rest, ok := strings.CutPrefix(string(line), "#!")
	words := strings.Fields(rest)
	if !ok || len(words) == 0 {
		return []string{shell}
	}
	if base(words[0]) == "env" {
		words = words[1:]
		if len(words) > 0 && words[0] == "-S" {
			words = words[1:]
		}
	}
	if len(words) == 0 || base(words[0]) == "sh" {
		return append([]string{shell}, words[min(len(words), 1):]...)
	}
	words[0] = base(words[0]) // where this machine has it
	return words
}

// The places that scripts made for tau name, and the mounts that are there.
var tauPlaces = map[string]string{"src": "SRC", "out": "OUT", "utils": "UTILS"}

var (
	literalRule = regexp.MustCompile(`(^|[\s"'=:;&|(<>` + "`" + `{,])/(src|out|utils)([\s"';&|)<>` + "`" + `/},:]|$)`)
	plainPath   = regexp.MustCompile(`^[A-Za-z0-9_@%+./-]+$`)
)

// literal makes /src, /out and /utils in a target's scripts, its Makefile and its
// package.json mean the folders of the build, where the session has them elsewhere.
func literal(ctx context.Context, src tree, session Session, log io.Writer) error {
	// An image of tau's has a /utils of its own, and there is no mount.
	if at := session.Place("UTILS"); session.Place("OUT") == "/out" && (at == "/utils" || at == "") {
		return nil
	}
	return src.walk(ctx, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && (base == "node_modules" || base == ".git") {
			return fs.SkipDir
		} else if !d.Type().IsRegular() || !strings.HasSuffix(base, ".sh") && base != "Makefile" && base != "package.json" {
			return nil
		}
		text, err := src.ReadFile(name)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		placed, err := placed(string(text), session.Place)
		if err != nil {
			return fmt.Errorf("%w script: %s %w", taubyte.ErrInvalid, name, err)
		}
		if placed == string(text) {
			return nil
		}
		fmt.Fprintf(log, "note: /src, /out and /utils in %s stand for $SRC, $OUT and $UTILS: this node does not confine builds\n", name)
		return ours(src.replace(name, []byte(placed)))
	})
}

// placed is a script with the places of tau's images replaced.
func placed(script string, place func(mount string) string) (_ string, err error) {
	lines := strings.SplitAfter(script, "\n")
	for i, line := range lines {
		if i == 0 && strings.HasPrefix(line, "#!") {
			continue
		}
		for range 2 { // for one that ends where the next begins
			line = literalRule.ReplaceAllStringFunc(line, func(found string) string {
				m := literalRule.FindStringSubmatch(found)
				at := place(tauPlaces[m[2]])
				if !plainPath.MatchString(at) {
					err = fmt.Errorf("names /%s, which is the build's own folder where builds are confined; here it is %q, which can't stand in a script", m[2], at)
					return found
				}
				return m[1] + at + m[3]
			})
		}
		lines[i] = line
	}
	return strings.Join(lines, ""), err
}

// prepare gives a session what its toolchain needs: the scripts at /utils, the places of its
// caches, and what its dependencies are, fetched before the build, which may have no
// network. where names the folder in the project. A build without a file must have them; a workflow may fetch them by itself.
func (s *Service) prepare(ctx context.Context, spec Spec, where string, src, scratch, utils tree, k *kit, must bool) (func(Session) ([]string, error), Spec, error) {
	none := func(Session) ([]string, error) { return nil, nil }
	k.give(&spec)
	if err := writeUtils(utils, k); err != nil {
		return none, spec, ours(err)
	}
	cache, err := s.projectCache(spec.Owner)
	if err != nil {
		return none, spec, ours(err)
	}
	if _, ok := s.native(); !ok {
		spec.Mounts = append(spec.Mounts, cache)
		return none, spec, nil
	}
	try := func(err error) error {
		var exit *ExitError
		if err == nil || must || isGone(err) && !errors.As(err, &exit) {
			return err
		}
		fmt.Fprintf(spec.Log, "note: %v\n", err)
		return nil
	}
	switch k.Toolchain {
	case toolGo:
		if k.golang == nil || !hasGo(src) {
			break
		}
		g, err := s.goModule(ctx, spec.Log, src, scratch, k)
		if err != nil {
			return none, spec, err
		}
		if cache, err = s.goCache(ctx, spec.Owner, k.golang); err != nil {
			return none, spec, err
		}
		spec.Mounts = append(append(spec.Mounts, cache), k.golang.mounts()...)
		if err := try(s.fetchGo(ctx, spec, "${SRC}", g)); err != nil {
			return none, spec, err
		}
		spec.Network = s.o.network
		return func(session Session) ([]string, error) {
			env, err := g.env(session, session.Place("SRC"))
			if !s.o.network {
				return append(env, "GOPROXY=off"), err
			}
			return append(env, k.golang.proxies...), err
		}, spec, nil
	case toolRust:
		spec.Mounts = append(spec.Mounts, cache)
		env, err := s.prepareRust(ctx, spec, where, src, scratch, k, try)
		return func(Session) ([]string, error) { return env, nil }, spec, err
	case toolNode, toolAssemblyScript:
		spec.Mounts = append(spec.Mounts, cache)
		env, err := s.prepareNode(ctx, spec, src, k, try)
		return func(Session) ([]string, error) { return env, nil }, spec, err
	}
	spec.Mounts = append(spec.Mounts, cache)
	return none, spec, nil
}

// utilities are the scripts of the folder /utils, which tau's images have with other content.
var utilities = map[string]string{
	toolGo: `# Stands for /utils/wasm.sh of the image taubyte/go-wasi.
build() {
	(cd "$SRC" && export GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 && go build -tags=wasi -buildmode=c-shared -trimpath -buildvcs=false -ldflags="-s -w" -o "$OUT/artifact.wasm" .)
}
debug_build() { build; }
`,
	"tinygo": `# Stands for /utils/wasm.sh of the image taubyte/go-wasi.
build() {
	(cd "$SRC" && tinygo build -tags=wasi -target=wasip1 -buildmode=c-shared -scheduler=none -panic=trap -no-debug -o "$OUT/artifact.wasm" .)
}
debug_build() { build; }
`,
	toolRust: `# Stands for /utils/wasm.sh of the image taubyte/rust-wasi.
build() {
	(
		cd "$SRC" || exit
		for target in wasm32-wasip1 wasm32-wasi; do # in a container nothing has looked for it
			if [ -z "${CARGO_BUILD_TARGET:-}" ] && [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
				export CARGO_BUILD_TARGET="$target"
			fi
		done
		if [ -z "${CARGO_BUILD_TARGET:-}" ]; then
			echo "Rust has no target for WebAssembly here: rustup target add wasm32-wasip1" >&2
			exit 1
		fi
		export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$TMP/cargo-target}"
		made="$CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/release"
		rm -f "$made"/*.wasm
		cargo build --release || exit
		set -- "$made"/*.wasm
		if [ ! -f "$1" ] || [ $# -ne 1 ]; then
			echo "cargo made no module, or more than one: one library is wanted with crate-type = [\"cdylib\"]" >&2
			exit 1
		fi
		cp "$1" "$OUT/artifact.wasm"
	)
}
debug_build() { build; }
`,
	toolAssemblyScript: `# Stands for /utils/wasm.sh of the image taubyte/assembly-script-wasi.
build() {
	(
		cd "$SRC" || exit
		PATH="$SRC/node_modules/.bin:$PATH"
		entry=assembly/index.ts
		if [ ! -f "$entry" ]; then
			entry=index.ts
		fi
		if [ ! -f "$entry" ]; then
			entry=taubyte-index.ts
			for f in *.ts; do
				[ "$f" = "$entry" ] || echo "export * from \"./${f%.ts}\";"
			done > "$TMP/$entry"
			cp "$TMP/$entry" "$entry"
		fi
		set -- "$entry" --outFile "$OUT/artifact.wasm" --optimize --path "$UTILS/assemblyscript/packages"
		shim=node_modules/@assemblyscript/wasi-shim/asconfig.json
		if [ -f asconfig.json ]; then
			set -- "$@" --target release
		elif [ -f "$shim" ]; then
			set -- "$@" --config "$shim" --runtime minimal
		else
			set -- "$@" --runtime minimal --lib "$UTILS/assemblyscript/taubyte.ts" --use abort=taubyte_abort --use console=taubyte_console
		fi
		asc "$@"
	)
}
debug_build() { build; }
`,
}

// writeUtils fills the folder that commands have at /utils.
func writeUtils(utils tree, k *kit) error {
	text, ok := utilities[k.Toolchain]
	if k.tinygo != "" {
		text = utilities["tinygo"]
	}
	files := map[string]string{"common.sh": "# $SRC and $OUT are the environment's.\n"}
	if ok {
		files["wasm.sh"] = text
	} else {
		files["wasm.sh"] = "build() { echo 'the image that .taubyte/config.yaml names brings no compiler' >&2; return 1; }\ndebug_build() { build; }\n"
	}
	for name, text := range files {
		if err := utils.put(name, text); err != nil {
			return err
		}
	}
	if k.Toolchain != toolAssemblyScript {
		return nil
	}
	return fs.WalkDir(assemblyScript, "assemblyscript", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if err := utils.root.Mkdir(utils.at(name), 0o700); err != nil {
				return fmt.Errorf("making %s: %w", name, err)
			}
			return utils.root.Chmod(utils.at(name), 0o755)
		}
		text, err := assemblyScript.ReadFile(name)
		if err != nil {
			return err
		}
		return utils.put(name, string(text))
	})
}

// assemblyScript is what a function in AssemblyScript may import as "sdk", which tau's image
// has, and what prints for it.
//
//go:embed assemblyscript
var assemblyScript embed.FS

// put makes a file of the node's own that commands may read.
func (t tree) put(name, text string) error {
	if err := t.create(name, []byte(text)); err != nil {
		return fmt.Errorf("making %s: %w", name, err)
	}
	return t.root.Chmod(t.at(name), 0o644)
}

// notFound passes a script's output on, and remembers the programs that it has missed.
type notFound struct {
	w io.Writer

	mu    sync.Mutex
	line  []byte
	names []string
}

var notFoundRule = regexp.MustCompile(`(?:([A-Za-z0-9_][A-Za-z0-9_.+-]*): (?:command )?not found|env: ['‘]([A-Za-z0-9_.+-]+)['’]: No such file or directory)\s*$`)

func (n *notFound) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range p {
		if c != '\n' {
			if len(n.line) < 512 {
				n.line = append(n.line, c)
			}
			continue
		}
		if m := notFoundRule.FindSubmatch(n.line); m != nil && len(n.names) < 16 {
			n.names = append(n.names, string(m[1])+string(m[2]))
		}
		n.line = n.line[:0]
	}
	return n.w.Write(p)
}

// explain says what a script has failed by: a program that this node lacks.
func (n *notFound) explain(err error, k *kit, confined bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var exit *ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if len(n.names) == 0 {
		if k.lacks != nil && k.Toolchain == toolRust { // what it calls is there, and can't build it
			return k.lacks
		}
		return err
	}
	for _, name := range n.names {
		hint, known := hints[name]
		if !known {
			continue
		}
		if at, e := k.find(name); e == nil && !confined {
			continue // the script has lost its way there
		} else if e == nil {
			return fmt.Errorf("%w (%s is at %s on this node, which builds do not see: an operator adds it by images)", err, name, at)
		}
		what := hint.What
		if k.name != "" {
			what += fmt.Sprintf(" (a script for the image %s calls %s), which", k.name, name)
		}
		return &MissingError{What: what, Hint: hint.Hint}
	}
	slices.Sort(n.names)
	return fmt.Errorf("%w (not found: %s)", err, strings.Join(slices.Compact(n.names), ", "))
}
