//go:build wasip1

// A guest in stock Go that uses each package of the SDK on a real node, and checks
// what comes back. A path is a family.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/taubyte/taubyte/substrate/guest"
	"github.com/taubyte/taubyte/substrate/guest/dns"
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/event"
	"github.com/taubyte/taubyte/substrate/guest/fetch"
	"github.com/taubyte/taubyte/substrate/guest/i2mv"
	"github.com/taubyte/taubyte/substrate/guest/log"
	"github.com/taubyte/taubyte/substrate/guest/random"
	"github.com/taubyte/taubyte/substrate/guest/self"
)

func main() {}

var families = map[string]func(w http.ResponseWriter, r *http.Request){}

//go:wasmexport handle
func handle(e uint32) uint32 {
	if event.HTTP(e).Path() == "/guest/redirect" {
		check("redirect", true, event.HTTP(e).Redirect("/elsewhere", http.StatusSeeOther))
		return 0
	}
	return guest.ServeHTTP(e, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				http.Error(w, fmt.Sprint(p), http.StatusInternalServerError)
			}
		}()
		families[strings.TrimPrefix(r.URL.Path, "/guest/")](w, r)
	}))
}

func check(what string, ok bool, err error) {
	if err != nil {
		panic(what + ": " + err.Error())
	}
	if !ok {
		panic(what + ": not what was expected")
	}
}

// equal is for functions with a result and an error.
func equal[T comparable](what string, want T) func(T, error) {
	return func(got T, err error) {
		if got != want && err == nil {
			panic(fmt.Sprintf("%s: %v instead of %v", what, got, want))
		}
		check(what, true, err)
	}
}

func text(what, want string) func([]byte, error) {
	return func(got []byte, err error) { equal(what, want)(string(got), err) }
}

func list[T comparable](what string, want ...T) func([]T, error) {
	return func(got []T, err error) {
		if !slices.Equal(got, want) && err == nil {
			panic(fmt.Sprintf("%s: %v instead of %v", what, got, want))
		}
		check(what, true, err)
	}
}

func init() {
	families["http"] = func(w http.ResponseWriter, r *http.Request) {
		text("body", "sent")(io.ReadAll(r.Body))
		check("method", r.Method == "POST" && r.Host == "conformance.example.test" && r.URL.Path == "/guest/http", nil)
		check("query", r.FormValue("one") == "1" && r.FormValue("two") == "2 3" && r.FormValue("three") == "", nil)
		// The calls of the ABI give one value for a name: that of all its lines.
		check("header", r.Header.Get("X-Word") == "first, second" && r.UserAgent() == "tester", nil)
		check("names", len(r.Header) >= 2 && len(r.Form) == 2, nil)
		w.Header().Add("X-Answer", "one")
		w.Header().Add("X-Answer", "two")
		w.WriteHeader(http.StatusTeapot)
		check("flush", true, http.NewResponseController(w).Flush())
		fmt.Fprint(w, "short and stout")
	}
	families["fetch"] = func(w http.ResponseWriter, r *http.Request) {
		url, _ := io.ReadAll(r.Body)
		resp, err := fetch.Do(fetch.Request{Method: "PUT", URL: string(url), Header: map[string][]string{"X-Sent": {"1", "2"}}, Body: []byte("in")})
		check("fetch", true, err)
		check("status", resp.Status() == 200 && slices.Equal(resp.Headers()["X-Got"], []string{"1", "2"}), nil)
		text("body", `far got "in"`)(io.ReadAll(resp.Body))
		list("method", "PUT")(resp.Header("X-Method"), nil)
		list("headers", "1", "2")(resp.Header("X-Got"), nil)
		check("names", slices.Contains(resp.HeaderNames(), "X-Method"), nil)
		check("close", true, resp.Body.Close())
		_, err = fetch.Do(fetch.Request{Method: "NONE", URL: string(url)})
		check("method", errors.Is(err, errno.InvalidMethod), nil)
		_, err = fetch.Get("http://10.0.0.1/")
		check("refused", errors.Is(err, errno.HttpRequestFailed), nil)
		fmt.Fprint(w, "ok")
	}
	families["log"] = func(w http.ResponseWriter, _ *http.Request) {
		log.Warn("said at a level")
		fmt.Fprint(w, "ok")
	}
	families["dns"] = func(w http.ResponseWriter, r *http.Request) {
		server, _ := io.ReadAll(r.Body)
		d, err := dns.New()
		check("resolver", true, err)
		check("use", true, d.Use(string(server), "udp"))
		list("txt", "one", "two")(d.TXT("records.example.test"))
		list("names", "a.example.test.")(d.Names("192.0.2.7"))
		equal("cname", "target.example.test.")(d.CNAME("records.example.test"))
		list("mx", dns.MX{Host: "m.example.test.", Preference: 10}, dns.MX{Host: "n.example.test.", Preference: 20})(d.MX("records.example.test"))
		check("reset", true, d.Reset())
		check("a private server", true, d.Use("10.0.0.1:53", "tcp"))
		_, err = d.TXT("records.example.test")
		check("refused", errors.Is(err, errno.FailedTxTLookup), nil)
		fmt.Fprint(w, "ok")
	}
	families["self"] = func(w http.ResponseWriter, _ *http.Request) {
		project, err := self.Project()
		check("project", true, err)
		equal("application", "")(self.Application())
		equal("id", "id-guest")(self.ID())
		equal("branch", "main")(self.Branch())
		commit, err := self.Commit()
		check("commit", len(commit) == 40, err)
		fmt.Fprint(w, project)
	}
	families["memory"] = func(w http.ResponseWriter, _ *http.Request) {
		b := make([]byte, 32)
		equal("random", 32)(random.Read(b))
		check("random", !bytes.Equal(b, make([]byte, 32)), nil)
		v, err := i2mv.NewView([]byte("seen"))
		check("view", true, err)
		vr, err := i2mv.OpenView(v.ID)
		check("open view", true, err)
		text("view", "seen")(io.ReadAll(vr))
		check("close", true, v.Close())
		_, err = i2mv.OpenView(v.ID)
		check("gone", errors.Is(err, errno.MemoryViewNotFound), nil)
		q := i2mv.NewFifo()
		equal("fifo", 3)(q.Write([]byte("abc")))
		text("fifo", "abc")(io.ReadAll(q))
		check("close", true, q.Close())
		fmt.Fprint(w, "ok")
	}
}
