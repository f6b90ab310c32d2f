//go:build wasip1

// A guest in stock Go that is an http.Handler.
package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte/substrate/guest"
	"github.com/taubyte/taubyte/substrate/guest/fetch"
	"github.com/taubyte/taubyte/substrate/guest/self"
)

func handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.URL.Path == "/panic" {
		panic("as asked")
	}
	if r.URL.Path == "/late" { // after so much was written
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		_, _ = io.WriteString(w, strings.Repeat("x", n))
		if r.URL.Query().Has("flush") {
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	}
	if url := r.URL.Query().Get("fetch"); url != "" {
		resp, err := fetch.Get(url)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body)
		return
	}
	w.Header().Set("X-Word", r.Header.Get("X-Word"))
	w.WriteHeader(http.StatusCreated)
	project, _ := self.Project()
	fmt.Fprintf(w, "%s %s %s %q for %s", r.Method, r.Host, r.URL.Path, body, project)
}

//go:wasmexport handle
func entry(e uint32) uint32 { return guest.ServeHTTP(e, http.HandlerFunc(handle)) }

func main() {}
