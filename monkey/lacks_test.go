package monkey_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/monkey"
	"github.com/taubyte/taubyte/patrick"
)

const lfsPointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"

// script makes a website that is built by a script.
func script(lines string) map[string]string {
	return map[string]string{".taubyte/config.yaml": "version: 1\nworkflow: [build]\n", ".taubyte/build.sh": lines, "index.html": ""}
}

// What a build reads outside of its folder is part of what it is remembered by.
func TestABuildIsRememberedByAllThatItReads(t *testing.T) {
	b := newBench(t)
	b.start(t)
	push := func(files map[string]string) (page string, cachedSite bool) {
		all := merge(under("config", configuration), under("code/functions/ping", shFunction), files)
		out := b.succeed(t, b.push(repo, auth.KindProject, all))
		pages, ok := b.current(t).Asset(websiteID)
		require.True(t, ok)
		return b.read(t, pages, "index.html"), cached(out)["website site"]
	}
	for what, c := range map[string]struct {
		script  string
		files   func(version string) map[string]string
		website map[string]string
	}{
		"a folder beside": {`cp ../../content/page.html "$OUT/index.html"`,
			func(v string) map[string]string { return map[string]string{"content/page.html": v} }, nil},
		"a link": {`cp page.html "$OUT/index.html"`,
			func(v string) map[string]string {
				return map[string]string{"websites/site/page.html": "->../../content/page.html", "content/page.html": v}
			}, nil},
		"where a link leads": {`cp page.html "$OUT/index.html"`,
			func(v string) map[string]string {
				return map[string]string{"websites/site/page.html": "->../../content/" + v, "content/one": "one", "content/two": "two"}
			}, nil},
		"a script beside": {`sh ../../tools/make.sh`,
			func(v string) map[string]string {
				return map[string]string{"tools/make.sh": "printf " + v + ` > "$OUT/index.html"`}
			}, nil},
		"another resource's source": {`cat ../../code/functions/ping/note > "$OUT/index.html"`,
			func(v string) map[string]string { return map[string]string{"code/functions/ping/note": v} }, nil},
		"what there is": {`ls ../../content > "$OUT/index.html"; printf %s "$(cat "$OUT/index.html")" > "$OUT/index.html"`,
			func(v string) map[string]string { return map[string]string{"content/" + v: ""} }, nil},
		"the folder itself": {`cp page.html "$OUT/index.html"`,
			func(v string) map[string]string { return map[string]string{"websites/site/page.html": v} }, nil},
	} {
		for _, version := range []string{"one", "two", "two"} {
			page, _ := push(merge(under("websites/site", script(c.script)), c.files(version)))
			require.Equal(t, version, page, what)
		}
		_, again := push(merge(under("websites/site", script(c.script)), c.files("two")))
		require.True(t, again, "%s: nothing has changed", what)
	}
	// A website without a script is its folder, whatever changes beside it.
	_, _ = push(merge(under("websites/site", site), map[string]string{"content/x": "1"}))
	_, again := push(merge(under("websites/site", site), map[string]string{"content/x": "2"}))
	require.True(t, again)
}

func TestModulesThatNeedOthersAreKnown(t *testing.T) {
	for gomod, needs := range map[string]bool{
		"module x\n": false,
		"module x\n\nreplace example.com/lib => ../lib\n":               true,
		"module x\n\nreplace (\n\texample.com/lib v1.0.0 => ./lib\n)\n": true,
		"module x\n\nreplace example.com/lib\t=>\t\"../lib\"\n":         true,
		"module x\n\nreplace example.com/a => example.com/b v1.2.3\n":   false,
		"module x // => ../lib in a comment\n":                          false,
		"no go.mod":                                                     true,
	} {
		require.Equal(t, needs, monkey.LocalModules(gomod), gomod)
	}
}

// What a commit only refers to is told, and not served as if it were there.
func TestWhatIsNotPartOfAPushIsTold(t *testing.T) {
	b := newBench(t)
	b.start(t)
	for what, c := range map[string]struct {
		files map[string]string
		says  string
		state patrick.State
	}{
		"LFS":                 {map[string]string{"websites/site/img/logo.png": lfsPointer}, "websites/site/img/logo.png is a pointer of Git LFS", patrick.Failed},
		"LFS elsewhere":       {map[string]string{"design/logo.psd": lfsPointer}, "note: design/logo.psd is a pointer of Git LFS", patrick.Succeeded},
		"LFS with extensions": {map[string]string{"websites/site/a.bin": strings.Replace(lfsPointer, "oid", "ext-0-foo sha256:ab\noid", 1)}, "websites/site/a.bin is", patrick.Failed},
		"annex":               {map[string]string{"websites/site/a.iso": "/annex/objects/SHA256E-s1--ab.iso\n"}, "websites/site/a.iso is a pointer of git-annex", patrick.Failed},
		"a submodule":         {map[string]string{"websites/site/theme/": ""}, "websites/site/theme is a submodule", patrick.Failed},
		"a submodule, deep":   {map[string]string{"websites/": "", "websites/site/": "", "websites/site/a/": "", "websites/site/a/theme/": ""}, "websites/site/a/theme is a submodule", patrick.Failed},
		"one elsewhere":       {map[string]string{"docs/theme/": ""}, "note: docs/theme is a submodule", patrick.Succeeded},
		"one for a script":    {merge(under("websites/site", script(`cp index.html "$OUT"`)), map[string]string{"websites/site/theme/": ""}), "note: websites/site/theme is a submodule", patrick.Succeeded},
		"a text about it":     {map[string]string{"websites/site/lfs.html": "<p>" + lfsPointer}, "", patrick.Succeeded},
		"a Latin-1 name":      {map[string]string{"notes/caf\xe9.txt": "x", "no\xe9/x.txt": ""}, `note: "notes/caf\xe9.txt" is left out`, patrick.Succeeded},
		"a Latin-1 page":      {map[string]string{"websites/site/caf\xe9.html": "x"}, `"websites/site/caf\xe9.html" is left out: its name is not UTF-8`, patrick.Failed},
	} {
		j := b.push(repo, auth.KindProject, project(shFunction, c.files))
		out := b.wait(t, j)
		require.Equal(t, c.state, out.State, "%s: %s\n%s", what, out.Error, b.text(j))
		require.Contains(t, out.Error+"\n"+b.text(j), c.says, what)
		if c.says == "" {
			require.NotContains(t, b.text(j), "lfs.html", what)
		}
		if c.state == patrick.Failed {
			require.Contains(t, out.Error, c.says, what)
		}
	}
}
