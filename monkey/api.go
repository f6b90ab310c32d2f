package monkey

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/api"
)

// Status is what a worker is doing.
type Status struct {
	Capacity    int       `json:"capacity"`
	Environment string    `json:"environment"`
	Running     []Running `json:"running"`
}

// Status returns what the worker is doing now. It takes the verb read on everything, or a
// node.
func (s *Service) Status(ctx context.Context) (Status, error) {
	if err := taubyte.Allow(ctx, taubyte.VerbRead, "", taubyte.Roles()...); err != nil {
		return Status{}, err
	}
	st := Status{Capacity: s.o.capacity, Environment: s.o.envName, Running: []Running{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.running {
		st.Running = append(st.Running, r)
	}
	slices.SortFunc(st.Running, func(a, b Running) int { return cmp.Compare(a.Job.ID, b.Job.ID) })
	return st, nil
}

// Handler is the service's API, of which the methods say who may.
func (s *Service) Handler() http.Handler {
	mux := api.New(nil)
	mux.Handle("GET /status", api.Operation{
		Summary: "Returns what the worker is doing.", Rights: api.Everything(taubyte.VerbRead, taubyte.Roles()...),
	}, api.Answer(func(r *http.Request) (Status, error) {
		return s.Status(r.Context())
	}))
	return mux
}
