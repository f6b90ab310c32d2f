package localgit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// ask sends in to another node, which says that it is at work until it has an answer.
func ask[T any](ctx context.Context, s *Server, p peer.ID, path string, in any) (out T, err error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return out, err
		}
		body = strings.NewReader(string(raw))
	}
	resp, err := s.client.Open(rpc.WithPatience(ctx, rpc.Patience{Attempt: hearFor}), p, http.MethodPost, path, body)
	if err != nil {
		return out, err
	}
	heard := rpc.Followed(resp.Body, hearFor)
	defer heard.Close()
	var a answer[T]
	if err := json.NewDecoder(bufio.NewReader(heard)).Decode(&a); err != nil {
		return out, fmt.Errorf("%w: %s of %s: %w", taubyte.ErrUnavailable, path, p, err)
	}
	switch {
	case a.Invalid:
		return out, fmt.Errorf("%w: %s: %s", taubyte.ErrInvalid, p, a.Error)
	case a.Error != "":
		return out, fmt.Errorf("%w: %s: %s", taubyte.ErrUnavailable, p, a.Error)
	}
	return a.Value, nil
}

type answer[T any] struct {
	Value   T      `json:"value"`
	Error   string `json:"error,omitempty"`
	Invalid bool   `json:"invalid,omitempty"`
}

// at mounts what ask asks for.
func at[In, Out any](s *Server, mux *http.ServeMux, path string, do func(context.Context, peer.ID, In) (Out, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		caller, ok := rpc.Caller(r.Context())
		asks := taubyte.PrincipalOf(r.Context())
		var in In
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommands))
		if err == nil && len(raw) > 0 {
			err = json.Unmarshal(raw, &in)
		}
		if err != nil || !ok {
			rpc.WriteError(w, fmt.Errorf("%w request: %w", taubyte.ErrInvalid, err), nil)
			return
		}
		stream, err := rpc.NewStream(w)
		if err != nil {
			return
		}
		answers := make(chan answer[Out], 1)
		// What was begun is ended, whether or not the other node still waits for it.
		if !s.spawn(func() {
			defer close(answers)
			ctx, cancel := context.WithTimeout(taubyte.WithPrincipal(s.life, asks), transferTime)
			defer cancel()
			out, err := do(ctx, caller.Peer, in)
			a := answer[Out]{Value: out}
			if err != nil {
				a.Error, a.Invalid = err.Error(), errors.Is(err, taubyte.ErrInvalid)
			}
			answers <- a
		}) {
			return
		}
		_ = rpc.Follow(stream, answers, beat)
	})
}

// wanted are objects that the caller has.
type wanted struct {
	Name string   `json:"name"`
	Tips []string `json:"tips"`
}

func (s *Server) peerHandler() http.Handler {
	mux := http.NewServeMux()
	// The node is there.
	at(s, mux, "/ping", func(context.Context, peer.ID, struct{}) (struct{}, error) { return struct{}{}, nil })
	// Take the objects that the caller has.
	at(s, mux, "/objects", func(ctx context.Context, caller peer.ID, in wanted) (struct{}, error) {
		return struct{}{}, s.takeObjects(ctx, caller, in)
	})
	// Decide on a push that the caller has taken.
	at(s, mux, "/pushes", func(ctx context.Context, caller peer.ID, p push) (outcome, error) {
		if err := s.takeObjects(ctx, caller, wanted{p.Name, p.tips()}); err != nil {
			return outcome{}, err
		}
		return s.settle(ctx, p)
	})
	// Have what the caller knows on the disk.
	at(s, mux, "/written", func(ctx context.Context, caller peer.ID, in wanted) (struct{}, error) {
		if err := checkName(in.Name); err != nil {
			return struct{}{}, err
		}
		if err := s.pull(ctx, caller, fillFor); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, s.onDiskNow(ctx, in.Name)
	})
	// Whether a repository is up to date here.
	at(s, mux, "/current", func(ctx context.Context, _ peer.ID, in wanted) (struct{}, error) {
		return struct{}{}, s.current(ctx, in.Name)
	})
	mux.Handle("/serve/", http.StripPrefix("/serve", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serve(w, r, true)
	})))
	return mux
}

func (s *Server) takeObjects(ctx context.Context, caller peer.ID, in wanted) error {
	if err := checkName(in.Name); err != nil {
		return err
	}
	for _, t := range in.Tips {
		if !isHash(t) {
			return fmt.Errorf("%w object %q", taubyte.ErrInvalid, t)
		}
	}
	dir, err := s.makeDir(ctx, in.Name)
	if err != nil {
		return err
	}
	if ok, err := s.complete(ctx, dir, in.Tips); err != nil || ok {
		return err
	}
	return s.fetchFrom(ctx, caller, in.Name, dir, in.Tips)
}
