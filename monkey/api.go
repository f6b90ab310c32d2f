package monkey

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/taubyte/taubyte/internal/rpc"
)

// Status is what a worker is doing.
type Status struct {
	Capacity    int       `json:"capacity"`
	Environment string    `json:"environment"`
	Running     []Running `json:"running"`
}

// Status returns what the worker is doing now.
func (s *Service) Status() Status {
	st := Status{Capacity: s.o.capacity, Environment: s.o.envName, Running: []Running{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.running {
		st.Running = append(st.Running, r)
	}
	slices.SortFunc(st.Running, func(a, b Running) int { return cmp.Compare(a.Job.ID, b.Job.ID) })
	return st
}

// Handler is the service's API, for any member and for who may read everything:
//
//	GET /status   Status
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { rpc.Reply(w, s.Status(), nil, nil) })
	return rpc.Readers(mux)
}
