package hoarder

import (
	"fmt"
	"net/http"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/api"
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

// Handler is the service's API. Any member may read, but a node of role substrate only
// single items that a project keeps of which something runs. Keeping and releasing is for
// the roles that publish, and having content opened to content exchange for those of
// substrate.
func (s *Service) Handler() http.Handler {
	mux := api.New(codes)
	mux.EncodedAs(position{}, map[string]uint64{})
	readers := api.Everything(taubyte.VerbRead, taubyte.Roles()...)
	mux.Handle("POST /keep", api.Operation{
		Summary: "Has content kept for a project.", Rights: api.Nodes(keepers...).Guarded(),
	}, api.Call(64<<10, func(r *http.Request, in keepRequest) (Copies, error) {
		root, err := parseRoot(in.Root)
		if err != nil {
			return Copies{}, err
		}
		return s.KeepCopies(r.Context(), root, in.KeepOptions)
	}))
	mux.Handle("POST /release", api.Operation{
		Summary: "Has content of a project kept no longer.", Rights: api.Nodes(keepers...).Guarded(),
	}, api.Take(64<<10, func(r *http.Request, in releaseRequest) error {
		root, err := parseRoot(in.Root)
		if err != nil {
			return err
		}
		return s.Release(r.Context(), root, in.Project)
	}))
	mux.Handle("GET /items", api.Operation{
		Summary: "Lists the content that is kept.", Rights: readers,
	}, api.Answer(func(r *http.Request) ([]Item, error) {
		if s.bound(r) {
			return nil, fmt.Errorf("%w: a substrate node asks for what it runs", taubyte.ErrForbidden)
		}
		return s.Items(r.Context())
	}))
	mux.Handle("GET /items/{root}", api.Operation{
		Summary: "Returns what is known of content that is kept.", Path: api.Texts{"root": "Its CID."}, Rights: readers,
	}, api.Answer(func(r *http.Request) (Item, error) {
		root, err := parseRoot(r.PathValue("root"))
		if err != nil {
			return Item{}, err
		}
		item, err := s.Item(r.Context(), root)
		if err != nil {
			return Item{}, err
		}
		return s.grantedItem(r, item)
	}))
	mux.Handle("GET /logs/{root}", api.Operation{
		Summary: "Returns the log of a job, as it is kept on this node.", Path: api.Texts{"root": "Its CID."},
		Query:  []api.Parameter{{Name: "project", Text: "The project that keeps it."}},
		Rights: api.Nodes(logReaders...).Guarded(),
	}, api.Serve(s.serveLog).Bytes("application/octet-stream", "The log."))
	mux.Handle("POST /content", api.Operation{
		Summary: "Has content opened to the content exchange of a substrate node.", Rights: api.Nodes(users...).Guarded(),
	}, api.Call(64<<10, func(r *http.Request, in contentRequest) (contentAnswer, error) {
		return s.openContent(r.Context(), in, func(i Instance) error { return s.granted(r, kindContent, i) })
	}))
	mux.Handle("POST /has", api.Operation{
		Summary: "Asks whether a hoarder has content.", Rights: api.Nodes(hoarderRole...).Guarded(),
	}, api.Call(64<<10, func(r *http.Request, in hasRequest) (out hasAnswer, err error) {
		root, err := parseRoot(in.Root)
		if err == nil {
			err = checkRoot(root)
		}
		if err == nil {
			out.Has, err = s.hasForAnother(r.Context(), root, in.Fetch, in.Keep)
		}
		return out, err
	}))
	s.handleStores(mux)
	s.handleReplicas(mux)
	return mux
}

func parseRoot(text string) (cid.Cid, error) {
	root, err := cid.Decode(text)
	if err != nil {
		return cid.Undef, fmt.Errorf("%w root %q: %w", taubyte.ErrInvalid, text, err)
	}
	return root, nil
}
