package monkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	gobuild "go/build"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"

	"github.com/taubyte/taubyte"
)

// The public SDK, what it is built on, and the SDK of this project.
const (
	publicSDK     = "github.com/taubyte/go-sdk"
	publicVersion = "v0.3.9"
	publicSymbols = "github.com/taubyte/go-sdk-symbols"
	guestModule   = "github.com/taubyte/taubyte/substrate/guest"
	olderSDK      = "bitbucket.org/taubyte/go-sdk"
)

// adapted is what became of a function's source.
type adapted struct {
	style   bool     // it was written for TinyGo
	imports []string // of the files that are built, other than the standard library's
	notes   []string
}

// adaptGo makes a function that was written for tau, and TinyGo, one of stock Go: in the
// build's own copy of it. What is one already stays as it is.
//
//   - The package becomes main, and gets a main where it has none.
//   - "//export f" before a function that WebAssembly can have becomes "//go:wasmexport f".
//   - "//go:wasm-module m" with "//export f" before a function without a body becomes
//     "//go:wasmimport m f".
//
// With tinygo, which knows those, only the package is changed.
func adaptGo(ctx context.Context, src tree, tinygo bool) (a adapted, err error) {
	files, err := readGo(ctx, src)
	if err != nil {
		return a, err
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	types := exportable(files)
	hasMain, root := false, false
	for _, name := range names {
		f := files[name]
		inRoot := path.Dir(name) == "."
		if strings.HasSuffix(name, "_test.go") { // which stays in the package
			if own := f.ast.Name; own.Name != "main" && own.Name != "main_test" {
				to := "main"
				if strings.HasSuffix(own.Name, "_test") {
					to = "main_test"
				}
				f.replace(own.Pos(), own.End(), to)
			}
			continue
		}
		if inRoot {
			root = true
			hasMain = hasMain || f.hasMain()
			if f.ast.Name.Name != "main" {
				a.style = true
				f.replace(f.ast.Name.Pos(), f.ast.Name.End(), "main")
			}
		}
		if f.directives(types[path.Dir(name)], tinygo, &a) {
			a.style = true
		}
	}
	a.imports = importsOf(files)
	if root && !hasMain {
		a.style = true
		if err := addMain(src); err != nil {
			return a, err
		}
	}
	for _, name := range names {
		if err := files[name].write(src); err != nil {
			return a, err
		}
	}
	return a, olderInterface(src, files, a.imports)
}

// readGo reads the files of a module that are built, and the tests beside them.
func readGo(ctx context.Context, src tree) (map[string]*goFile, error) {
	files := map[string]*goFile{}
	err := src.walk(ctx, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := path.Base(name); name != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || d.IsDir() && base == "testdata") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() && name != "." {
			if _, err := src.Lstat(path.Join(name, "go.mod")); err == nil {
				return fs.SkipDir // another module
			}
		}
		if !strings.HasSuffix(name, ".go") || d.IsDir() || strings.HasSuffix(name, "_test.go") && path.Dir(name) != "." {
			return nil
		}
		if match, err := goContext(src).MatchFile(path.Dir(name), path.Base(name)); err != nil || !match {
			return nil // of another system, or no Go: what is wrong with it the compiler says
		}
		text, err := src.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a link that leads nowhere
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		f, err := parseGo(name, text)
		if err == nil {
			files[name] = f
		}
		return nil
	})
	return files, err
}

// goContext says which files are built.
func goContext(src tree) *gobuild.Context {
	c := gobuild.Default
	c.GOOS, c.GOARCH, c.Compiler, c.CgoEnabled, c.BuildTags = "wasip1", "wasm", "gc", false, []string{goTag}
	c.JoinPath = path.Join
	c.OpenFile = func(name string) (io.ReadCloser, error) { return src.Open(name) }
	return &c
}

// A goFile is a source with what is to be changed in it.
type goFile struct {
	name  string
	text  []byte
	set   *token.FileSet
	ast   *ast.File
	edits []edit
}

type edit struct {
	from, to int
	text     string
}

func parseGo(name string, text []byte) (*goFile, error) {
	f := &goFile{name: name, text: text, set: token.NewFileSet()}
	var err error
	f.ast, err = parser.ParseFile(f.set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	return f, err
}

func (f *goFile) offset(p token.Pos) int { return f.set.PositionFor(p, false).Offset }

func (f *goFile) replace(from, to token.Pos, text string) {
	f.edits = append(f.edits, edit{f.offset(from), f.offset(to), text})
}

// write replaces the file, where there are edits: not what it is a link to.
func (f *goFile) write(src tree) error {
	if len(f.edits) == 0 {
		return nil
	}
	slices.SortFunc(f.edits, func(x, y edit) int { return x.from - y.from })
	var out bytes.Buffer
	at := 0
	for _, e := range f.edits {
		out.Write(f.text[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.Write(f.text[at:])
	if err := src.replace(f.name, out.Bytes()); err != nil {
		return ours(fmt.Errorf("adapting %s: %w", f.name, err))
	}
	return nil
}

// imports are what the file imports, other than the standard library.
func (f *goFile) imports() (all []string) {
	for _, i := range f.ast.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if first, _, _ := strings.Cut(p, "/"); err == nil && strings.Contains(first, ".") {
			all = append(all, p)
		}
	}
	return all
}

func (f *goFile) hasMain() bool {
	return slices.ContainsFunc(f.ast.Decls, func(d ast.Decl) bool {
		fn, ok := d.(*ast.FuncDecl)
		return ok && fn.Recv == nil && fn.Name.Name == "main"
	})
}

// addMain gives a package the main that stock Go wants.
func addMain(src tree) error {
	for n := range 100 {
		name := "taubyte_main.go"
		if n > 0 {
			name = fmt.Sprintf("taubyte_main%d.go", n)
		}
		err := src.create(name, []byte("package main\n\nfunc main() {}\n"))
		if !errors.Is(err, fs.ErrExist) {
			return ours(err)
		}
	}
	return fmt.Errorf("%w package: there is no name for a file with main", taubyte.ErrInvalid)
}

var (
	exportRule = regexp.MustCompile(`^//(?:go:)?export\s+(\S+)\s*$`)
	moduleRule = regexp.MustCompile(`^//go:wasm-module\s+(\S+)\s*$`)
)

// directives rewrites the exports and imports of TinyGo, and reports whether there are any.
func (f *goFile) directives(types map[string]bool, tinygo bool, a *adapted) (found bool) {
	for _, d := range f.ast.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Doc == nil {
			continue
		}
		var export, module *ast.Comment
		var name, from string
		for _, c := range fn.Doc.List {
			if strings.HasPrefix(c.Text, "//go:wasmexport ") || strings.HasPrefix(c.Text, "//go:wasmimport ") {
				export = nil
				break // it is for stock Go already
			}
			if m := exportRule.FindStringSubmatch(c.Text); m != nil && export == nil {
				export, name = c, m[1]
			}
			if m := moduleRule.FindStringSubmatch(c.Text); m != nil && module == nil {
				module, from = c, m[1]
			}
		}
		if export == nil {
			continue
		}
		found = true
		switch {
		case tinygo:
		case fn.Body == nil:
			if from == "" {
				from = "env"
			}
			f.replace(export.Pos(), export.End(), "//go:wasmimport "+from+" "+name)
		default:
			if why := unexportable(fn, types); why != "" {
				a.notes = append(a.notes, fmt.Sprintf("%s: the export %s is left out: %s", f.set.PositionFor(fn.Pos(), false), name, why))
				continue
			}
			f.replace(export.Pos(), export.End(), "//go:wasmexport "+name)
		}
	}
	return found
}

// unexportable is why stock Go can't export a function, "" where it can.
func unexportable(fn *ast.FuncDecl, types map[string]bool) string {
	switch {
	case fn.Recv != nil:
		return "it is a method"
	case fn.Type.TypeParams != nil:
		return "it has type parameters"
	case fn.Type.Results.NumFields() > 1:
		return "it has more than one result"
	}
	for _, list := range []*ast.FieldList{fn.Type.Params, fn.Type.Results} {
		if list == nil {
			continue
		}
		for _, field := range list.List {
			if !wasmType(field.Type, types) {
				return "it takes or gives what is no number, pointer or event"
			}
		}
	}
	return ""
}

// numbers are the types that a function of WebAssembly has in Go.
var numbers = []string{"bool", "int32", "uint32", "int64", "uint64", "float32", "float64", "uintptr", "rune"}

// wasmType reports whether Go can export a function with that type in its signature.
func wasmType(t ast.Expr, types map[string]bool) bool {
	switch t := t.(type) {
	case *ast.ParenExpr:
		return wasmType(t.X, types)
	case *ast.Ident:
		return types[t.Name] || slices.Contains(numbers, t.Name)
	case *ast.SelectorExpr: // event.Event is a uint32
		return t.Sel.Name == "Event" || t.Sel.Name == "Pointer"
	case *ast.StarExpr:
		id, ok := t.X.(*ast.Ident)
		return ok && (slices.Contains(numbers, id.Name) && id.Name != "uintptr" || slices.Contains([]string{"byte", "uint8", "int8", "int16", "uint16"}, id.Name))
	}
	return false
}

// exportable are, for each folder, the names of its types that are numbers.
func exportable(files map[string]*goFile) map[string]map[string]bool {
	all := map[string]map[string]bool{}
	for name, f := range files {
		dir := path.Dir(name)
		if all[dir] == nil {
			all[dir] = map[string]bool{}
		}
		for _, d := range f.ast.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, s := range g.Specs {
				if t, ok := s.(*ast.TypeSpec); ok && t.TypeParams == nil && wasmType(t.Type, nil) {
					all[dir][t.Name.Name] = true
				}
			}
		}
	}
	return all
}

// olderInterface returns an error for a function that was written for the SDK before v0.3,
// which asks for another interface than any node has.
func olderInterface(src tree, files map[string]*goFile, imports []string) error {
	const now = "which has another interface: this is for " + publicSDK + " v0.3 and later (HTTP events are http/event.Event, messages pubsub/node). " +
		"Require " + publicVersion
	if text, err := src.ReadFile("go.mod"); err == nil {
		if m, err := modfile.ParseLax("go.mod", text, nil); err == nil {
			for _, r := range m.Require {
				if r.Mod.Path == publicSDK && semver.Compare(r.Mod.Version, "v0.3.0-0") < 0 {
					return fmt.Errorf("%w SDK: go.mod requires %s %s, %s", taubyte.ErrInvalid, publicSDK, r.Mod.Version, now)
				}
			}
		}
	}
	for _, i := range imports {
		if i == olderSDK || strings.HasPrefix(i, olderSDK+"/") {
			return fmt.Errorf("%w SDK: it imports %s, of before %s v0.1, %s", taubyte.ErrInvalid, i, publicSDK, now)
		}
		if i == publicSDK+"/pubsub" {
			return fmt.Errorf("%w SDK: it imports %s, of %s before v0.3, %s", taubyte.ErrInvalid, i, publicSDK, now)
		}
	}
	for _, f := range files {
		if as := f.importedAs(publicSDK + "/event"); as != "" && !strings.HasPrefix(f.name, "vendor/") {
			for _, id := range []string{"HttpEvent", "PubSubEvent", "P2PEvent"} {
				if f.uses(as, id) {
					return fmt.Errorf("%w SDK: %s uses event.%s, of %s before v0.3, %s", taubyte.ErrInvalid, f.name, id, publicSDK, now)
				}
			}
		}
	}
	return nil
}

// importedAs is the name of an import in the file, "" where it is not imported.
func (f *goFile) importedAs(pkg string) string {
	for _, i := range f.ast.Imports {
		if p, err := strconv.Unquote(i.Path.Value); err == nil && p == pkg {
			if i.Name != nil {
				return i.Name.Name
			}
			return path.Base(pkg)
		}
	}
	return ""
}

func (f *goFile) uses(pkg, id string) (used bool) {
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == id {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == pkg {
				used = true
			}
		}
		return !used
	})
	return used
}

// completed is the go.mod of an adapted function: it requires the public SDK where that is
// imported, and has what the guest SDK of the node replaces. sdk is where that is from there,
// "" for TinyGo, which builds the public one.
func completed(gomod []byte, imports []string, sdk, goVersion string) ([]byte, error) {
	if len(gomod) == 0 {
		gomod = []byte("module function\n")
	}
	m, err := modfile.Parse("go.mod", gomod, nil)
	if err != nil {
		return nil, fmt.Errorf("%w go.mod: %w", taubyte.ErrInvalid, err)
	}
	if m.Module == nil {
		if err := m.AddModuleStmt("function"); err != nil {
			return nil, err
		}
	}
	if m.Go == nil {
		if err := m.AddGoStmt(goVersion); err != nil {
			return nil, err
		}
	}
	add := func(module, version string) error {
		needed := slices.ContainsFunc(imports, func(i string) bool { return i == module || strings.HasPrefix(i, module+"/") })
		there := slices.ContainsFunc(m.Require, func(r *modfile.Require) bool { return r.Mod.Path == module })
		if needed && !there {
			return m.AddRequire(module, version)
		}
		return nil
	}
	err = add(publicSDK, publicVersion)
	if sdk != "" {
		err = errors.Join(err, add(guestModule, "v0.0.0"),
			m.AddReplace(publicSymbols, "", path.Join(sdk, symbolsFolder), ""),
			m.AddReplace(guestModule, "", sdk, ""))
	}
	if err != nil {
		return nil, fmt.Errorf("%w go.mod: %w", taubyte.ErrInvalid, err)
	}
	m.Cleanup()
	return m.Format()
}

// withoutSDK takes out of a go.mod what completed has added to the one before, but for the
// versions that are required.
func withoutSDK(text, before []byte) ([]byte, error) {
	m, err := modfile.Parse("go.mod", text, nil)
	if err != nil {
		return nil, fmt.Errorf("%w go.mod: %w", taubyte.ErrInvalid, err)
	}
	was, err := modfile.ParseLax("go.mod", before, nil)
	if err != nil {
		return nil, fmt.Errorf("%w go.mod: %w", taubyte.ErrInvalid, err)
	}
	for _, module := range []string{publicSymbols, guestModule} {
		err = errors.Join(err, m.DropReplace(module, ""))
		for _, r := range was.Replace {
			if r.Old.Path == module {
				err = errors.Join(err, m.AddReplace(module, r.Old.Version, r.New.Path, r.New.Version))
			}
		}
	}
	if !slices.ContainsFunc(was.Require, func(r *modfile.Require) bool { return r.Mod.Path == guestModule }) {
		err = errors.Join(err, m.DropRequire(guestModule))
	}
	if err != nil {
		return nil, fmt.Errorf("%w go.mod: %w", taubyte.ErrInvalid, err)
	}
	m.Cleanup()
	return m.Format()
}

// incomplete reports whether a go.mod lacks what the function imports, or what checks it.
func incomplete(src tree, gomod []byte, imports []string) bool {
	if len(imports) == 0 {
		return false
	}
	m, err := modfile.Parse("go.mod", gomod, nil)
	if err != nil {
		return false // the go command says what is wrong
	}
	sums, err := src.ReadFile("go.sum")
	if err != nil {
		sums = nil
	}
	for _, i := range imports {
		if i == guestModule || strings.HasPrefix(i, guestModule+"/") || i == publicSymbols || strings.HasPrefix(i, publicSymbols+"/") {
			continue // of the workspace
		}
		if m.Module != nil && (i == m.Module.Mod.Path || strings.HasPrefix(i, m.Module.Mod.Path+"/")) {
			continue
		}
		from := slices.IndexFunc(m.Require, func(r *modfile.Require) bool {
			return i == r.Mod.Path || strings.HasPrefix(i, r.Mod.Path+"/")
		})
		if from < 0 {
			return true
		}
		replaced := slices.ContainsFunc(m.Replace, func(r *modfile.Replace) bool { return r.Old.Path == m.Require[from].Mod.Path })
		if !replaced && !bytes.Contains(sums, []byte(m.Require[from].Mod.Path+" "+m.Require[from].Mod.Version+" ")) {
			return true
		}
	}
	return false
}
