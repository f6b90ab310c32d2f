package siterules_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/siterules"
)

func parsed(t *testing.T, redirects, headers string) *siterules.Rules {
	t.Helper()
	r, faults := siterules.Parse([]byte(redirects), []byte(headers))
	require.Empty(t, faults)
	return r
}

// asked is what is answered to a target, with an exclamation mark where files are shadowed.
func asked(r *siterules.Rules, host, target string) string {
	path, query, _ := strings.Cut(target, "?")
	got, ok := r.Redirect(host, path, query)
	if !ok {
		return "none"
	}
	text := fmt.Sprint(got.Status, " ", got.To)
	if got.Shadows {
		text += " !"
	}
	return text
}

func TestRedirects(t *testing.T) {
	r := parsed(t, strings.ReplaceAll(`\ufeff# comments, and empty lines

/old            /new
/temporary      /new            302
/see            /new            303   # behind a rule
/307            /new            307
/308            /new            308
/away           https://www.example.com:8080/there?x=1#part
/old            /never          302
/with-query     /new?fixed=1
/fragment       /new#part
/caf%C3%A9      /bar
/thé            /été
/a%20b          /c%20d
/slash/         /without
/same           /same/
/news/special   /kept
/news/*         /blog/:splat
/news/late      /late
/users/:id      /profile?id=:id 307
/:year/:month/:slug.html  /posts/:year-:month/:slug 308
/mid/*/end      /m/:splat
/go*            /:splat         302
/app/*          /app/index.html 200
/force/*        /force.html     200!
/lost/*         /lost.html      404
/store id=:id tag=new   /new/:id
/store id=:id   /products/:id 302
/store          /shop
/urn            https://example.com/urn:isbn:123
/out/*          https://example.com/:splat
http://blog.example.com/*  https://www.example.com/blog/:splat 301!
https://:tenant.example.org/x  /tenants/:tenant
`, `\ufeff`, "\ufeff"), "")
	for target, want := range map[string]string{
		"/":                   "none",
		"/old":                "301 /new !",
		"/old/":               "301 /new !",
		"/Old":                "none",
		"/old?a=1&b=2":        "301 /new?a=1&b=2 !",
		"/temporary":          "302 /new !",
		"/see":                "303 /new !",
		"/307":                "307 /new !",
		"/308":                "308 /new !",
		"/away?y=2":           "301 https://www.example.com:8080/there?x=1#part !",
		"/with-query?a=1":     "301 /new?fixed=1 !",
		"/fragment?a=1":       "301 /new?a=1#part !",
		"/café":               "301 /bar !",
		"/thé":                "301 /%C3%A9t%C3%A9 !",
		"/a b":                "301 /c%20d !",
		"/slash":              "301 /without !",
		"/same":               "none",
		"/news/special":       "301 /kept !",
		"/news/late":          "301 /blog/late",
		"/news":               "301 /blog/",
		"/news/":              "301 /blog/",
		"/news/a/b/?q=1":      "301 /blog/a/b/?q=1",
		"/news/a b%2Fc":       "301 /blog/a%20b%2Fc",
		"/news/\r\nX: y":      "301 /blog/%0D%0AX:%20y",
		"/newspaper":          "none",
		"/users/7":            "307 /profile?id=7",
		"/users/a&b=c":        "307 /profile?id=a%26b%3Dc",
		"/users/7/":           "307 /profile?id=7",
		"/users/7/8":          "none",
		"/users/":             "none",
		"/2024/05/x.html":     "308 /posts/2024-05/x",
		"/mid/a/b/end":        "301 /m/a/b",
		"/go/evil.example":    "302 /evil.example",
		`/go\evil.example`:    "302 /%5Cevil.example",
		"/app/x":              "200 /app/index.html",
		"/force/x":            "200 /force.html !",
		"/lost/x":             "404 /lost.html",
		"/store?tag=new&id=5": "301 /new/5?tag=new&id=5 !",
		"/store?id=a%2Fb":     "302 /products/a/b?id=a%2Fb !",
		"/store?x=1":          "301 /shop?x=1 !",
		"/store":              "301 /shop !",
		"/urn":                "301 https://example.com/urn:isbn:123 !",
		"/out//evil.example":  "301 https://example.com//evil.example",
	} {
		require.Equal(t, want, asked(r, "example.com", target), target)
	}
	require.Equal(t, "301 https://www.example.com/blog/a !", asked(r, "BLOG.example.com:443", "/a"))
	require.Equal(t, "301 /new !", asked(r, "blog.example.com", "/old"), "the first")
	require.Equal(t, "301 /tenants/acme !", asked(r, "acme.example.org", "/x"))
	require.Equal(t, "none", asked(r, "a.b.example.org", "/x"))
}

func TestHeaders(t *testing.T) {
	r := parsed(t, "", `
# all
/*
  X-Frame-Options: DENY
  Link: </a.css>; rel=preload
  Vary: Cookie
/secure/*
  ! X-Frame-Options
  Set-Cookie: a=1
  set-cookie: b=2
  Link: </b.css>; rel=preload
	Cache-Control: public, max-age=60
/secure/open
  X-Frame-Options: SAMEORIGIN
/movies/:title
  X-Movie: now playing ":title" at 10:30
/files/*
  X-Rest: :splat
https://:project.example.dev/*
  X-Robots-Tag: noindex
`)
	at := func(host, path string) http.Header {
		h := http.Header{"Cache-Control": {"no-cache"}, "Vary": {"Accept-Encoding"}, "Content-Type": {"text/html"}}
		r.Apply(h, host, path)
		return h
	}
	base := func(more http.Header) http.Header {
		h := http.Header{
			"Cache-Control": {"no-cache"}, "Vary": {"Accept-Encoding", "Cookie"}, "Content-Type": {"text/html"},
			"X-Frame-Options": {"DENY"}, "Link": {"</a.css>; rel=preload"},
		}
		for name, values := range more {
			if h[name] = values; values == nil {
				delete(h, name)
			}
		}
		return h
	}
	secure := http.Header{
		"X-Frame-Options": nil, "Set-Cookie": {"a=1", "b=2"}, "Link": {"</a.css>; rel=preload, </b.css>; rel=preload"}, "Cache-Control": {"public, max-age=60"},
	}
	require.Equal(t, base(nil), at("example.com", "/"))
	require.Equal(t, base(secure), at("example.com", "/secure/x"))
	secure["X-Frame-Options"] = []string{"SAMEORIGIN"}
	require.Equal(t, base(secure), at("example.com", "/secure/open"))
	require.Equal(t, base(http.Header{"X-Movie": {`now playing "a%0D%0Ab" at 10:30`}}), at("example.com", "/movies/a\r\nb"))
	require.Equal(t, base(http.Header{"X-Rest": {"a/b"}}), at("example.com", "/files/a/b"))
	require.Equal(t, base(http.Header{"X-Robots-Tag": {"noindex"}}), at("shop.example.dev", "/"))
	none, faults := siterules.Parse(nil, []byte("# nothing"))
	require.Empty(t, faults)
	h := http.Header{}
	none.Apply(h, "", "/")
	require.Empty(t, h)
	_, ok := none.Redirect("", "/", "")
	require.False(t, ok)
}

// What is wrong is told by its line, all of it, and the rest counts.
func TestFaults(t *testing.T) {
	for line, want := range map[string]string{
		"/a":                                     "a redirect has a path and a target",
		"/a id=:id":                              "a redirect has a path and a target",
		"a /b":                                   `"a" is no path`,
		"//a /b":                                 "is no path",
		"/a b":                                   "is neither a path",
		"/a //b":                                 "is neither a path",
		"/a javascript:alert(1)":                 "is neither a path",
		"/a https:///x":                          "has no valid host",
		"/a https://u@host/x":                    "has no valid host",
		"/a/* https://:splat":                    "the host of a target can't depend",
		"/a/* https://x.:splat/y":                "the host of a target can't depend",
		"/a/*/* /b":                              "more than one splat",
		"/:a/:a /b":                              "more than one :a",
		"/:splat/* /b":                           "more than one splat",
		"/a/* /b/:rest":                          "refers to :rest",
		"/a /b?x=:x":                             "refers to :x",
		"/a /b 418":                              "the status 418 is none of",
		"/a /b 3O1":                              "the status 3O1 is none of",
		"/a /b 301 Country=de":                   "conditions",
		"/a /b Language=de":                      "conditions",
		"/a?x=1 /b":                              "a path has no query",
		"/a =1 /b":                               "no query parameter",
		"/a x=1 x=2 /b":                          "twice",
		"/:x x=:x /b":                            "more than one :x",
		"/a https://b.example 200":               "not passed on to other hosts",
		"/a /" + "é\xff":                         "not UTF-8",
		"/a" + strings.Repeat("b", 1000) + " /x": "more than 1000 characters",
	} {
		r, faults := siterules.Parse([]byte("# first\n/ok /fine\n"+line+"\n/last /fine"), nil)
		require.Len(t, faults, 1, line)
		require.ErrorContains(t, faults[0], "_redirects:3: ", line)
		require.ErrorContains(t, faults[0], want, line)
		require.Equal(t, "301 /fine !", asked(r, "", "/ok"))
		require.Equal(t, "301 /fine !", asked(r, "", "/last"))
	}
	for text, want := range map[string]string{
		"X: y\n/a":                             "_headers:1: a header before the first path",
		"/a\n X y":                             "_headers:2: \"X y\" is neither",
		"/a\n X Y: z":                          "_headers:2: \"X Y\" is no name",
		"/a\n X:":                              "_headers:2: the header X has no value",
		"/a\n X: a\x01":                        "_headers:2: the value of X has characters",
		"/a\n content-length: 1":               "_headers:2: the header Content-Length can't be set",
		"/a\n taubyte-refused: host":           "_headers:2: the header Taubyte-Refused can't be set",
		"/a\n ! Content-Encoding":              "_headers:2: the header Content-Encoding can't be set",
		"/*/*\n X: y":                          "_headers:1: there is more than one splat",
		"/a\n X: " + strings.Repeat("x", 2000): "_headers:2: the line has more than 2000 characters",
	} {
		_, faults := siterules.Parse(nil, []byte(text))
		require.Len(t, faults, 1, text)
		require.ErrorContains(t, faults[0], want)
	}
	_, faults := siterules.Parse([]byte("x\ny\n/a /b 999"), []byte("z"))
	require.Len(t, faults, 4)
	_, faults = siterules.Parse([]byte(strings.Repeat("x\n", 1000)), nil)
	require.Len(t, faults, 51)
	_, faults = siterules.Parse(make([]byte, siterules.MaxSize+1), nil)
	require.Len(t, faults, 1)
}

func TestLimits(t *testing.T) {
	var b strings.Builder
	for i := range siterules.MaxStaticRedirects {
		fmt.Fprintf(&b, "/s%d /x\n", i)
	}
	for i := range siterules.MaxDynamicRedirects {
		fmt.Fprintf(&b, "/d%d/* /x\n", i)
	}
	r := parsed(t, b.String(), "")
	require.Equal(t, "301 /x !", asked(r, "", "/s1999"))
	require.Equal(t, "301 /x", asked(r, "", "/d99/y"))
	_, faults := siterules.Parse([]byte(b.String()+"/more /x\n/more /y\n/m/* /x\n/m/:a /x\n"), nil)
	require.Len(t, faults, 2)
	require.ErrorContains(t, faults[0], "_redirects:2101: more than 2000 redirects of one path, or 100")
	_, faults = siterules.Parse(nil, []byte(strings.Repeat("/a\n X: y\n", siterules.MaxHeaderRules)+"/b\n X: y\n/c\n X: y\n"))
	require.Len(t, faults, 1)
	require.ErrorContains(t, faults[0], "_headers:201: more than 100 paths")
}

func FuzzRedirects(f *testing.F) {
	f.Add("/a/* /b/:splat 301\n/:x/y z=:z /:x?:z 302!", "example.com", "/a/b", "1")
	f.Add("http://:h.example.com/* https://x.example/:splat#:h\n/go* /:splat", "a.example.com", "/go//b", "")
	f.Fuzz(func(t *testing.T, text, host, path, query string) {
		r, _ := siterules.Parse([]byte(text), nil)
		got, ok := r.Redirect(host, "/"+path, url.Values{"z": {query}}.Encode())
		if !ok || got.Status == 200 || got.Status == 404 {
			return
		}
		if strings.ContainsAny(got.To, "\r\n\x00") {
			t.Fatalf("%q", got.To)
		}
		if strings.HasPrefix(got.To, "//") || strings.HasPrefix(got.To, `/\`) {
			t.Fatalf("it leads to another host: %q", got.To)
		}
		if !strings.HasPrefix(got.To, "/") {
			if u, err := url.Parse(got.To); err == nil && !strings.Contains(text, u.Host) {
				t.Fatalf("it leads to a host that no rule names: %q", got.To)
			}
		}
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add("/*\n X: :splat\n! Y\n/:a\n Z: :a", "/a\r\nb")
	f.Fuzz(func(t *testing.T, text, path string) {
		r, _ := siterules.Parse(nil, []byte(text))
		h := http.Header{"Content-Length": {"5"}}
		r.Apply(h, "example.com", path)
		if h.Get("Content-Length") != "5" {
			t.Fatal("the length was changed")
		}
		for name, values := range h {
			if strings.ContainsAny(name+strings.Join(values, ""), "\r\n\x00") {
				t.Fatalf("%q: %q", name, values)
			}
		}
	})
}
