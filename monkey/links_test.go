package monkey_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/patrick"
)

// A link in a website is what it leads to, in the website.
func TestLinksOfAWebsite(t *testing.T) {
	b := newBench(t)
	b.start(t)
	build := func(pages map[string]string) *queued {
		files := project(shFunction)
		maps.DeleteFunc(files, func(name, _ string) bool { return strings.HasPrefix(name, "websites/") })
		return b.push(repo, auth.KindProject, merge(files, under("websites/site", pages)))
	}
	b.succeed(t, build(map[string]string{
		"index.html": "home", "v2/a.txt": "two", "v1/b.txt": "one",
		"latest": "->v2", "deep/in/x.txt": "->../../latest/a.txt", "home.html": "->./index.html", "chain": "->latest", "v1/other": "->../v2",
	}))
	root, _ := b.current(t).Asset(websiteID)
	for name, want := range map[string]string{"latest/a.txt": "two", "deep/in/x.txt": "two", "home.html": "home", "chain/a.txt": "two", "v1/other/a.txt": "two", "v2/a.txt": "two"} {
		require.Equal(t, want, b.read(t, root, name), name)
	}
	for link, want := range map[string]string{
		"->/etc/passwd":       "the link sub/l leads out of the website, to /etc/passwd",
		"->../../site.yaml":   "the link sub/l leads out of the website",
		"->../sub/../../x":    "the link sub/l leads out of the website",
		"->nowhere":           "the link sub/l leads to sub/nowhere, which is not there",
		"->l":                 "the link sub/l leads over more than 40 links",
		"->.":                 "the link sub/l leads to a folder that it is in",
		"->..":                "the link sub/l leads to a folder that it is in",
		"->../sub/../sub/../": "the link sub/l leads to a folder that it is in",
		"->../back":           "leads to a folder that it is in", // by another link
	} {
		pages := map[string]string{"index.html": "home", "sub/l": link, "sub/x": "x"}
		if link == "->../back" {
			pages["back/up"] = "->../sub"
		}
		out := b.wait(t, build(pages))
		require.Equal(t, patrick.Failed, out.State, link)
		require.Contains(t, out.Error, want, link)
	}
}

// What is wrong in a website's rules is told before it is published.
func TestRulesOfAWebsite(t *testing.T) {
	b := newBench(t)
	b.start(t)
	pages := func(redirects, headers string) map[string]string {
		return project(shFunction, under("websites/site", map[string]string{"_redirects": redirects, "_headers": headers}))
	}
	b.succeed(t, b.push(repo, auth.KindProject, pages("/a/* /b/:splat 302\n", "/*\n  X-Frame-Options: DENY\n")))
	out := b.wait(t, b.push(repo, auth.KindProject, pages("/a /b\n/c d\n/e /f 999\n", "X-Frame-Options: DENY\n")))
	require.Equal(t, patrick.Failed, out.State)
	for _, want := range []string{"website site: invalid website: _redirects:2: \"d\" is neither a path", "_redirects:3: the status 999", "_headers:1: a header before the first path"} {
		require.Contains(t, out.Error, want)
	}
}
