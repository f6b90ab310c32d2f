package monkey

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// generate runs "go generate" as tau's images do before they build, for a source that has
// not all of what it makes. It runs in the source as it is: generators read packages that
// are not main. One that fails, as those that fetch a program do where builds have no
// network, is noted: what is missing the compiler says.
func (s *Service) generate(ctx context.Context, spec Spec, src, scratch tree, k *kit) error {
	files, err := readGo(ctx, src)
	if err != nil {
		return err
	}
	if !generates(src, files) {
		return nil
	}
	gomod, err := src.ReadFile("go.mod")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading go.mod: %w", err)
	}
	g := &goModule{src: src, scratch: scratch, tools: k.golang, gomod: gomod, completes: true, imports: importsOf(files)}
	if _, err := src.Stat("vendor/modules.txt"); err == nil && gomod != nil {
		g.completes, g.vendored = false, true
	} else if err := src.replace("go.mod", gomod); err != nil {
		return ours(fmt.Errorf("making go.mod: %w", err))
	}
	cache, err := s.goCache(ctx, spec.Owner, k.golang)
	if err != nil {
		return err
	}
	k.give(&spec)
	spec.Mounts = append(append(slices.Clone(spec.Mounts), cache), k.golang.mounts()...)
	spec.Path = append(spec.Path, filepath.Join(k.golang.root, "bin"))
	session, err := s.o.env.Open(ctx, spec)
	if err != nil {
		return err
	}
	defer session.Close()
	env, err := g.env(session, session.Place("SRC"))
	if err != nil {
		return err
	}
	if s.o.network {
		env = append(env, k.golang.proxies...)
	} else {
		env = append(env, "GOPROXY=off")
	}
	env = append(env, "CGO_ENABLED=0", "GOBIN=${TMP}/bin")
	fmt.Fprintln(spec.Log, "running go generate")
	run := Command{Words: []string{shell, "-c", `PATH="$GOBIN:$PATH" exec go generate ./...`}, Dir: "${SRC}", Env: env, Log: spec.Log}
	err = s.failed(session.Exec(ctx, run))
	var exit *ExitError
	if errors.As(err, &exit) && !isOutage(err) {
		hint := ""
		if !s.o.network {
			hint = ": builds have no network here, commit what it makes"
		}
		fmt.Fprintf(spec.Log, "note: go generate has failed%s\n", hint)
		err = nil
	}
	if err != nil {
		return err
	}
	// What the node writes from here on has to be given to the next session, too.
	for _, t := range []tree{src, scratch} {
		_ = t.root.Chown(t.dir, os.Geteuid(), os.Getegid())
		_ = t.root.Chown(".", os.Geteuid(), os.Getegid())
	}
	if g.vendored {
		return nil
	}
	return restoreModule(src, gomod)
}

// restoreModule keeps of a go.mod what generators have added: what the session's folders
// replace is added again by the build.
func restoreModule(src tree, before []byte) error {
	text, err := src.ReadFile("go.mod")
	if err != nil {
		return fmt.Errorf("reading go.mod: %w", err)
	}
	text, err = withoutSDK(text, before)
	if err != nil {
		return err
	}
	if err := src.replace("go.mod", text); err != nil {
		return ours(fmt.Errorf("making go.mod: %w", err))
	}
	return nil
}

// generates reports whether a source has something to generate that is not there.
func generates(src tree, files map[string]*goFile) bool {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for line := range strings.Lines(string(files[name].text)) {
			rest, ok := strings.CutPrefix(line, "//go:generate")
			if words := strings.Fields(rest); ok && len(words) > 0 && missesOutput(src, name, words) {
				return true
			}
		}
	}
	return false
}

// missesOutput reports whether a generator has to run: not one that fetches a program for
// others, nor easyjson where its file is committed. What others write is not known.
func missesOutput(src tree, name string, words []string) bool {
	if words[0] == "go" && len(words) > 1 && (words[1] == "get" || words[1] == "install") {
		return false
	}
	if words[0] != "easyjson" {
		return true
	}
	base := strings.TrimSuffix(path.Base(name), ".go")
	_, err := src.Stat(path.Join(path.Dir(name), base+"_easyjson.go"))
	return err != nil
}

// importsOf are what files import, other than the standard library.
func importsOf(files map[string]*goFile) (all []string) {
	for _, f := range files {
		if strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		all = append(all, f.imports()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
