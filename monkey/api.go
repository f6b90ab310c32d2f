package monkey

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
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

// Handler is the service's API, of which the methods say who may:
//
//	GET /status   Status
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		st, err := s.Status(r.Context())
		rpc.Reply(w, st, err, nil)
	})
	return mux
}
