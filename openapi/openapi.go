// Package openapi describes the HTTP API of services, those of a whole node or the one
// that a program embeds, as an OpenAPI 3.1 document:
//
//	mux := http.NewServeMux()
//	mux.Handle("/v1/tns/", http.StripPrefix("/v1/tns", registry.Handler()))
//	description, err := openapi.Handler(openapi.Info{Title: "Registry", Version: "1"},
//		openapi.Service{Name: "tns", Prefix: "/v1/tns", Handler: registry.Handler()})
//	mux.Handle("GET /openapi.json", description)
//
// Services describe their paths where they register them, and their schemas follow from
// the Go types that the handlers read and answer, so that the document is that of the
// program that serves it. A node of package cloud serves its own at /openapi.json.
//
// Beside what OpenAPI says, each operation has "x-rights": an object whose extent says
// what a token has to be good for (anybody: none is needed; every: any token, and the
// answer holds what it may see; project: the one that is asked for; everything; nodes: no
// token may), whose verb says what it must be allowed, and whose roles are those of the
// nodes that may.
package openapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/api"
)

// Info is what a document says of the API as a whole. Token says which bearer token a
// request shows; where it is empty, the program knows in another way who asks.
type Info = api.Info

// A Service is where a program serves the handler of a service. Name groups its paths.
type Service struct {
	Name, Prefix string
	Handler      http.Handler
}

// Handler serves the description of services, with an ETag. ErrInvalid: a handler is not
// that of a service, or two are served in one place.
func Handler(info Info, services ...Service) (http.Handler, error) {
	mounts := make([]api.Mount, 0, len(services))
	for _, s := range services {
		mux, ok := s.Handler.(*api.Mux)
		if !ok {
			return nil, fmt.Errorf("%w service %q: its handler has no description", taubyte.ErrInvalid, s.Name)
		}
		mounts = append(mounts, api.Mount{Name: s.Name, Prefix: s.Prefix, Mux: mux})
	}
	text, err := api.Document(info, mounts...)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-cache") // it may be kept, and is asked for by its tag
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	}), nil
}
