package conformance_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// examples are functions that the public go-sdk has as examples.
var examples = map[string]struct{ file, function string }{
	"database": {"database/example_test.go", "databaseFunction"},
	"http":     {"event/http_event_example_test.go", "httpExample"},
	"pubsub":   {"event/pubsub_event_example_test.go", "pubSubExample"},
	"p2p":      {"event/p2p_event_example_test.go", "p2pExample"},
}

// withExamples is a copy of a guest's folder, in which each example is a package.
func withExamples(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
		t.Fatal(err)
	}
	said, err := run(dir, []string{"GOWORK=off", "GOFLAGS="}, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/taubyte/go-sdk")
	sdk := strings.TrimSpace(string(said))
	if err != nil || sdk == "" {
		if said, err = run(dir, []string{"GOWORK=off", "GOFLAGS="}, "go", "mod", "download", "github.com/taubyte/go-sdk"); err != nil {
			t.Skipf("github.com/taubyte/go-sdk v0.3.9 is not in the module cache and can't be fetched: %s", said)
		}
		said, err = run(dir, []string{"GOWORK=off", "GOFLAGS="}, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/taubyte/go-sdk")
		if sdk = strings.TrimSpace(string(said)); err != nil {
			t.Fatalf("%s", said)
		}
	}
	for name, e := range examples {
		code, err := extract(filepath.Join(sdk, e.file), "example_"+name, e.function)
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Join(dir, "examples", "example_"+name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "example.go"), code, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// extract makes a package of a file with examples: as it is, but for the functions that
// print what Go's tests compare, which run on a mock.
func extract(file, pkg, function string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	of := func(n ast.Node) []byte { return text[set.Position(n.Pos()).Offset:set.Position(n.End()).Offset] }
	var body bytes.Buffer
	used := map[string]bool{}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if strings.HasPrefix(d.Name.Name, "Example") {
				continue
			}
		case *ast.GenDecl:
			if d.Tok == token.IMPORT {
				continue
			}
		}
		ast.Inspect(d, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok {
					used[x.Name] = true
				}
			}
			return true
		})
		fmt.Fprintf(&body, "\n%s\n", of(d))
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "package %s\n\n", pkg)
	for _, i := range f.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		name = path.Base(name)
		if i.Name != nil {
			name = i.Name.Name
		}
		if used[name] {
			fmt.Fprintf(&out, "import %s\n", of(i))
		}
	}
	fmt.Fprintf(&out, "%s\nvar Run = %s\n", body.Bytes(), function)
	return out.Bytes(), nil
}
