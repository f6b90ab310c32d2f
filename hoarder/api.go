package hoarder

import (
	"fmt"
	"net/http"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// keepers are the roles that may have content kept and released.
var keepers = []taubyte.Role{taubyte.RoleMonkey, taubyte.RolePatrick, taubyte.RoleTNS, taubyte.RoleHoarder}

type keepRequest struct {
	Root string `json:"root"`
	KeepOptions
}

type releaseRequest struct {
	Root    string            `json:"root"`
	Project taubyte.ProjectID `json:"project"`
}

// Handler is the service's API:
//
//	POST /keep           {"root", "project", "class", "min", "max"} → {"disks", "wanted"}
//	POST /release        {"root", "project"}
//	GET  /items          [Item]
//	GET  /items/{root}   Item
//	POST /content        {"root", "project", "branch"} → {"open", "holders"}
//
// Any member may read, but a node of role substrate only single items that a project
// keeps of which something runs. Keeping and releasing is for the roles that publish, and
// having content opened to content exchange for those of substrate.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /keep", func(w http.ResponseWriter, r *http.Request) {
		var in keepRequest
		root, err := decode(w, r, &in, func() string { return in.Root })
		var out Copies
		if err == nil {
			out, err = s.KeepCopies(r.Context(), root, in.KeepOptions)
		}
		rpc.Reply(w, out, err, nil)
	})
	mux.HandleFunc("POST /release", func(w http.ResponseWriter, r *http.Request) {
		var in releaseRequest
		root, err := decode(w, r, &in, func() string { return in.Root })
		if err == nil {
			err = s.Release(r.Context(), root, in.Project)
		}
		rpc.Reply(w, nil, err, nil)
	})
	mux.HandleFunc("GET /items", func(w http.ResponseWriter, r *http.Request) {
		var items []Item
		err := error(nil)
		if s.bound(r) {
			err = fmt.Errorf("%w: a substrate node asks for what it runs", taubyte.ErrForbidden)
		} else {
			items, err = s.Items(r.Context())
		}
		rpc.Reply(w, items, err, nil)
	})
	mux.HandleFunc("GET /items/{root}", func(w http.ResponseWriter, r *http.Request) {
		root, err := parseRoot(r.PathValue("root"))
		var item Item
		if err == nil {
			item, err = s.Item(r.Context(), root)
		}
		if err == nil {
			item, err = s.grantedItem(r, item)
		}
		rpc.Reply(w, item, err, nil)
	})
	mux.HandleFunc("POST /content", func(w http.ResponseWriter, r *http.Request) {
		var in contentRequest
		var out contentAnswer
		err := s.allowed(r, users)
		if err == nil {
			err = rpc.Decode(w, r, 64<<10, &in)
		}
		if err == nil {
			out, err = s.openContent(r.Context(), in, func(i Instance) error { return s.granted(r, kindContent, i) })
		}
		rpc.Reply(w, out, err, nil)
	})
	mux.HandleFunc("POST /has", func(w http.ResponseWriter, r *http.Request) {
		var in hasRequest
		var out hasAnswer
		err := s.allowed(r, []taubyte.Role{taubyte.RoleHoarder})
		if err == nil {
			err = rpc.Decode(w, r, 64<<10, &in)
		}
		var root cid.Cid
		if err == nil {
			root, err = parseRoot(in.Root)
		}
		if err == nil {
			err = checkRoot(root)
		}
		if err == nil {
			out.Has, err = s.hasForAnother(r.Context(), root, in.Fetch, in.Keep)
		}
		rpc.Reply(w, out, err, nil)
	})
	s.storeRoutes(mux)
	return mux
}

func decode(w http.ResponseWriter, r *http.Request, in any, root func() string) (cid.Cid, error) {
	m, ok := rpc.Caller(r.Context())
	if !ok || !m.Has(keepers...) {
		return cid.Undef, fmt.Errorf("%w: this takes one of the roles %v", taubyte.ErrForbidden, keepers)
	}
	if err := rpc.Decode(w, r, 64<<10, in); err != nil {
		return cid.Undef, err
	}
	return parseRoot(root())
}

func parseRoot(text string) (cid.Cid, error) {
	root, err := cid.Decode(text)
	if err != nil {
		return cid.Undef, fmt.Errorf("%w root %q: %w", taubyte.ErrInvalid, text, err)
	}
	return root, nil
}
