package substrate

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/taubyte/taubyte/substrate/internal/abi"
	"github.com/taubyte/taubyte/substrate/internal/vm"
	"github.com/taubyte/taubyte/substrate/wire"
	"github.com/taubyte/taubyte/tns"
)

var _ http.Handler = (*Service)(nil)

// ServeHTTP answers a user's request, as a gateway passes it on.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	if s.draining.Load() {
		refuse(w, wire.RefusedDraining, http.StatusServiceUnavailable)
		return
	}
	if hash, channel, ok := wire.Socket(r.URL.Path); ok {
		s.serveSocket(w, r, hash, channel)
		return
	}
	// A deployment may be replaced between the look-up and the call. The table led
	// to the new one before the old one was given up: it is looked up again.
	var last *tns.Deployment
	path := tns.RequestPath(r.URL)
	for range 8 {
		m := s.table.Lookup(r.Host, path, r.Method)
		switch m.Status {
		case tns.Found:
		case tns.NoMethod:
			w.Header().Set("Allow", m.Allow)
			refuse(w, wire.RefusedNoRoute, http.StatusMethodNotAllowed)
			return
		case tns.NoPath:
			refuse(w, wire.RefusedNoRoute, http.StatusNotFound)
			return
		default:
			refuse(w, wire.RefusedNoHost, http.StatusNotFound)
			return
		}
		m.SetPath(r)
		err := s.serveRoute(w, r, m.Route, path)
		switch {
		case err == nil:
			return
		case errors.Is(err, vm.ErrGone):
			last = m.Route.Deployment
			continue
		case errors.Is(err, vm.ErrBusy):
			refuse(w, wire.RefusedBusy, http.StatusServiceUnavailable)
		default:
			refuse(w, wire.RefusedNotReady, http.StatusServiceUnavailable)
		}
		return
	}
	s.lookAgain(last)
	refuse(w, wire.RefusedNotReady, http.StatusServiceUnavailable)
}

var errNotReady = errors.New("nothing to run yet")

// serveRoute answers with what the route leads to. Where it returns an error,
// nothing was answered.
func (s *Service) serveRoute(w http.ResponseWriter, r *http.Request, route *tns.Route, path string) error {
	d, ok := (*s.live.Load())[keyOf(route.Deployment)]
	if !ok {
		return vm.ErrGone
	}
	key := resourceKey{route.Application, route.Resource}
	if route.Website != nil {
		site, ok := d.websites[key]
		if !ok {
			return errNotReady // it was never built
		}
		if ok, err := d.admit(w, r, guarded{key, abi.ResourceWebsite}); !ok {
			return err
		}
		own := prefix(route)
		site.ServeHTTP(w, r, own, strings.TrimPrefix(path, own))
		return nil
	}
	f, ok := d.functions[key]
	if !ok {
		return errNotReady
	}
	if r.ContentLength > s.limits.RequestBody {
		answer(w, http.StatusRequestEntityTooLarge, "The request is too large.")
		return nil
	}
	if ok, err := d.admit(w, r, guarded{key, abi.ResourceFunctionHTTP}); !ok {
		return err
	}
	return f.ServeHTTP(w, r)
}

// prefix is the path of a website without the slash at its end.
func prefix(route *tns.Route) string {
	p := route.Prefix
	for p != "" && p[len(p)-1] == '/' {
		p = p[:len(p)-1]
	}
	return p
}

// refuse answers that the request has reached nothing, and why.
func refuse(w http.ResponseWriter, why string, status int) {
	w.Header().Set(wire.HeaderRefused, why)
	text := "There is nothing here."
	switch {
	case status == http.StatusMethodNotAllowed:
		text = "This method is not allowed here."
	case status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
		text = "This can't be served at the moment. Try again."
	}
	answer(w, status, text)
}

func answer(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
