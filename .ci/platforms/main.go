// Command platforms checks that the packages of this module compile on other platforms.
//
//	go run ./.ci/platforms darwin/arm64 windows/amd64
//
// It does what the compiler does up to its code: files and imports are chosen for the
// platform, and all that the module's own packages say is type-checked. Of what they
// import only the declarations are, which is what makes it take seconds where building
// every dependency anew takes minutes.
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	root, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	faults := 0
	for _, platform := range os.Args[1:] {
		found, err := check(root, platform)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", platform, err)
			os.Exit(1)
		}
		for _, f := range found {
			fmt.Fprintf(os.Stderr, "%s: %v\n", platform, f)
		}
		faults += len(found)
		fmt.Println(platform)
	}
	if faults > 0 {
		os.Exit(1)
	}
}

// check returns what is wrong with the packages below root on a platform.
func check(root, platform string) ([]packages.Error, error) {
	goos, goarch, ok := strings.Cut(platform, "/")
	if !ok {
		return nil, fmt.Errorf("not of the form GOOS/GOARCH")
	}
	pkgs, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports | packages.NeedDeps |
			packages.NeedTypes | packages.NeedTypesSizes | packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedModule,
		Dir: root,
		Env: append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0"),
		ParseFile: func(fset *token.FileSet, name string, src []byte) (*ast.File, error) {
			f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
			if rel, e := filepath.Rel(root, name); f != nil && (e != nil || !filepath.IsLocal(rel)) {
				for _, d := range f.Decls {
					if fn, ok := d.(*ast.FuncDecl); ok {
						fn.Body = nil
					}
				}
			}
			return f, err
		},
	}, "./...")
	if err != nil {
		return nil, err
	}
	if len(pkgs) == 0 {
		return nil, fmt.Errorf("no packages")
	}
	var all []packages.Error
	for _, p := range pkgs {
		// Those of others say that imports are not used, as their functions are left out.
		all = append(all, p.Errors...)
	}
	return all, nil
}
