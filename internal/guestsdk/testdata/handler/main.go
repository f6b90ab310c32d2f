// A guest that answers with an http.Handler.
package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/taubyte/taubyte/substrate/guest"
)

func main() {}

var mux = http.NewServeMux()

func init() {
	mux.HandleFunc("POST /notes/{id}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.Header().Set("X-Agent", r.UserAgent())
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, r.PathValue("id"), " ", r.FormValue("q"), " ", string(body), " ", err)
	})
	mux.HandleFunc("/items/", func(w http.ResponseWriter, r *http.Request) { // a path of the configuration's
		fmt.Fprint(w, r.PathValue("id"), " of ", r.PathValue("kind"))
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("a secret") })
}

//go:wasmexport serve
func serve(e uint32) uint32 { return guest.ServeHTTP(e, mux) }
