package pathtemplate_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/taubyte/taubyte/internal/pathtemplate"
)

func TestParse(t *testing.T) {
	for path, fault := range map[string]string{
		"/": "", "/a": "", "/a/": "", "/a//b": "", "/{id}": "", "/{id}/x": "", "/a/{rest...}": "", "/{a}/{b}/{c...}": "", "/{$}": "", "/{id}/{$}": "", "/{_é1}": "",
		"":              "does not begin with /",
		"a/{id}":        "does not begin with /",
		"/{}":           "no Go identifier",
		"/{1}":          "no Go identifier",
		"/{a-b}":        "no Go identifier",
		"/{...}":        "no Go identifier",
		"/a{id}":        "a wildcard is a whole segment",
		"/{id}.json":    "a wildcard is a whole segment",
		"/{id":          "a wildcard is a whole segment",
		"/id}":          "a wildcard is a whole segment",
		"/{a}{b}":       "a wildcard is a whole segment",
		"/{{a}}":        "a wildcard is a whole segment",
		"/{a...}/b":     "before its end",
		"/{$}/b":        "before its end",
		"/{a}/{a}":      "two wildcards of the name a",
		"/{a}/{a...}":   "two wildcards of the name a",
		"/items/{id}/":  "ends in /",
		"/{id}//x":      "which no request has",
		"/../{id}":      "which no request has",
		"/items/{id}/.": "which no request has",
	} {
		p, err := pathtemplate.Parse(path)
		if fault != "" {
			require.ErrorContains(t, err, fault, path)
			continue
		}
		require.NoError(t, err, path)
		require.Equal(t, path, p.String())
	}
}

func TestLiteral(t *testing.T) {
	for path, want := range map[string]string{"/a": "/a", "/a/": "/a/", "/a/{$}": "/a/", "/{$}": "/", "/{x}/{$}": "", "/{x...}": ""} {
		p, err := pathtemplate.Parse(path)
		require.NoError(t, err)
		got, ok := p.Literal()
		require.Equal(t, want, got, path)
		require.Equal(t, want != "", ok, path)
	}
}

func TestMatchAndValues(t *testing.T) {
	var tree pathtemplate.Tree[*pathtemplate.Template]
	for _, path := range []string{"/items/{id}", "/items/new", "/items/{id}/parts/{part}", "/files/{name...}", "/files/{a}/b", "/dir/{d}/{$}", "/x/{a}/{b}", "/x/y/{c...}"} {
		p, err := pathtemplate.Parse(path)
		require.NoError(t, err)
		require.True(t, tree.Put(p, p))
		require.False(t, tree.Put(p, p), "it is there")
	}
	for target, want := range map[string]string{
		"/items/7": "/items/{id} [7]", "/items/new": "/items/new []", "/items/": "", "/items": "", "/items/7/": "",
		"/items/a%2Fb": "/items/{id} [a/b]", "/items/a%20b": "/items/{id} [a b]", "/items/%C3%A9": "/items/{id} [é]",
		"/items/a%252Fb": "/items/{id} [a%2Fb]", "/items/..": "", "/items/%2e%2e": "", "/items/.": "",
		"/items/7/parts/8": "/items/{id}/parts/{part} [7 8]", "/items/new/parts/8": "/items/{id}/parts/{part} [new 8]",
		"/files/": "/files/{name...} []", "/files": "", "/files/a/b": "/files/{a}/b [a]", "/files/a/b/c.txt": "/files/{name...} [a/b/c.txt]",
		"/files/a/../b": "", "/files/a/..": "", "/files/..a": "/files/{name...} [..a]", "/files/a//b": "/files/{name...} [a//b]",
		"/dir/d/": "/dir/{d}/{$} [d]", "/dir/d": "", "/dir//": "", "/x/y/z": "/x/y/{c...} [z]", "/x/q/z": "/x/{a}/{b} [q z]", "/": "",
	} {
		u, err := url.Parse("http://example.com" + target)
		require.NoError(t, err)
		path := strings.ReplaceAll(u.EscapedPath(), "%2F", "\x00")
		path, err = url.PathUnescape(path)
		require.NoError(t, err)
		m := tree.Match(strings.ReplaceAll(path, "\x00", "%2F"))
		if want == "" {
			require.Nil(t, m, target)
			continue
		}
		require.NotNil(t, m, target)
		require.Equal(t, want, fmt.Sprint(*m, " ", (*m).Values(u)), target)
	}
	require.Nil(t, tree.Match(""))
	require.Nil(t, tree.Match("*"))
	require.Zero(t, testing.AllocsPerRun(100, func() { tree.Match("/items/7/parts/8") }))
}

// Templates are those of http.ServeMux: what conflicts there conflicts here, and what
// does not is found alike.
func TestAsServeMux(t *testing.T) {
	segment := rapid.SampledFrom([]string{"a", "b", "{x}", "{x}", "c"})
	last := rapid.SampledFrom([]string{"a", "b", "{y}", "{z...}", "{$}"})
	path := rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(segment, 0, 3).Draw(t, "segments")
		for i := range parts {
			parts[i] = strings.Replace(parts[i], "x", fmt.Sprint("x", i), 1)
		}
		return "/" + strings.Join(append(parts, last.Draw(t, "last")), "/")
	})
	request := rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4).Draw(t, "request")
		return "/" + strings.Join(parts, "/") + rapid.SampledFrom([]string{"", "", "/"}).Draw(t, "end")
	})
	rapid.Check(t, func(t *rapid.T) {
		mux := http.NewServeMux()
		var tree pathtemplate.Tree[*pathtemplate.Template]
		var all []*pathtemplate.Template
		for _, text := range rapid.SliceOfN(path, 1, 8).Draw(t, "paths") {
			p, err := pathtemplate.Parse(text)
			require.NoError(t, err)
			conflict := false
			for _, other := range all {
				rel := pathtemplate.Compare(p, other)
				conflict = conflict || rel == pathtemplate.Equivalent || rel == pathtemplate.Overlaps
			}
			require.Equal(t, panics(func() { mux.Handle(text, http.NotFoundHandler()) }), conflict, "%s beside %v", text, all)
			if !conflict {
				all = append(all, p)
				require.True(t, tree.Put(p, p))
			}
		}
		for _, target := range rapid.SliceOfN(request, 1, 8).Draw(t, "requests") {
			if strings.Contains(target, "//") {
				continue // is cleaned there
			}
			u := &url.URL{Path: target}
			_, want := mux.Handler(&http.Request{Method: "GET", URL: u, Host: "example.com"})
			m := tree.Match(target)
			if m == nil || want != (*m).String() {
				// There a path may be redirected to the one with a slash at its end.
				slash := tree.Match(target + "/")
				if want != "" && (strings.HasSuffix(target, "/") || slash == nil || (*slash).String() != want) {
					t.Fatalf("%s is %s there", target, want)
				}
				continue
			}
			require.Len(t, (*m).Values(u), len((*m).Names()))
		}
	})
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestPrefix(t *testing.T) {
	parse := func(s string) *pathtemplate.Template {
		p, err := pathtemplate.Parse(s)
		require.NoError(t, err)
		return p
	}
	for _, c := range []struct {
		prefix, path string
		want         pathtemplate.Relation
	}{
		{"", "/{x...}", pathtemplate.Equivalent}, {"", "/a/{x}", pathtemplate.MoreGeneral}, {"/a", "/{x...}", pathtemplate.MoreSpecific},
		{"/a", "/{x}", pathtemplate.Disjoint}, {"/a", "/{x}/b", pathtemplate.Overlaps}, {"/a", "/a/{x...}", pathtemplate.Equivalent}, {"/a", "/a/b", pathtemplate.MoreGeneral},
	} {
		require.Equal(t, c.want, pathtemplate.Compare(pathtemplate.Prefix(c.prefix), parse(c.path)), "%s %s", c.prefix, c.path)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("/items/{id}", "/items/7")
	f.Add("/a/{b...}", "/a/%2F/c")
	f.Add("/{$}", "/")
	f.Add("/{a}/{b}/{$}", "/../x/")
	f.Fuzz(func(t *testing.T, path, request string) {
		p, err := pathtemplate.Parse(path)
		if err != nil {
			return
		}
		if pathtemplate.Compare(p, p) != pathtemplate.Equivalent {
			t.Fatalf("%q is not itself", path)
		}
		var tree pathtemplate.Tree[int]
		if !tree.Put(p, 1) {
			t.Fatal("an empty tree has it")
		}
		u := &url.URL{Path: request}
		if tree.Match(request) == nil {
			return
		}
		if got := p.Values(u); len(got) != len(p.Names()) {
			t.Fatalf("%q has %q in %q", path, got, request)
		}
		if text, ok := p.Literal(); ok && text != request {
			t.Fatalf("%q matches %q", path, request)
		}
	})
}
