package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	ds "github.com/ipfs/go-datastore"
)

// Limits of the API's listener. Bodies are bounded by the handlers: a push may be
// large, and a log is followed for as long as a build takes.
const (
	apiHeaderBytes   = 64 << 10
	apiHeaderTimeout = 10 * time.Second
	apiIdleTimeout   = 2 * time.Minute
	apiGrace         = 2 * time.Second // for requests under way, at Close
)

// apiServer is the node's API: the handlers of its services under
// /v1/<service>/, and git under /git/.
type apiServer struct {
	listener net.Listener
	server   *http.Server
	done     chan struct{}
}

func (a *apiServer) addr() string { return a.listener.Addr().String() }

// Close gives requests under way a moment, and ends the rest: those that follow
// something have no end of their own.
func (a *apiServer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), apiGrace)
	defer cancel()
	err := a.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = a.server.Close()
	}
	<-a.done
	return err
}

// keyAPI is where the address of the API's listener is remembered.
var keyAPI = ds.NewKey("/cloud/api")

// listenAPI takes the address that was asked for. Where none was, it prefers that
// of the last time, because people's git remotes hold it.
func (n *Node) listenAPI(ctx context.Context) (net.Listener, error) {
	if n.opts.api != "" {
		l, err := listen(ctx, n.opts.api)
		if err != nil {
			return nil, fmt.Errorf("listening for the API: %w", err)
		}
		return l, nil
	}
	last, err := n.Store.Get(ctx, keyAPI)
	if err == nil {
		if l, err := listen(ctx, string(last)); err == nil {
			return l, nil
		}
	}
	l, err := listen(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the API: %w", err)
	}
	return l, n.Store.Put(ctx, keyAPI, []byte(l.Addr().String()))
}

func (n *Node) startAPI(ctx context.Context) error {
	l, err := n.listenAPI(ctx)
	if err != nil {
		return err
	}
	own, err := n.Host.Member(ctx, n.Host.ID())
	if err != nil {
		_ = l.Close()
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte("ok\n"))
	})
	for role, h := range n.handlers {
		prefix := "/v1/" + string(role)
		mux.Handle(prefix+"/", n.authenticated(http.StripPrefix(prefix, h)))
	}
	if n.ACME != nil {
		mux.Handle("/v1/acme/", n.authenticated(http.StripPrefix("/v1/acme", n.ACME.Handler())))
	}
	if n.git != nil {
		mux.Handle("/git/", http.StripPrefix("/git", n.git))
	}
	n.api = &apiServer{listener: l, done: make(chan struct{})}
	n.api.server = &http.Server{
		Handler:           fromHere(n.ownNames(own.Name), mux),
		MaxHeaderBytes:    apiHeaderBytes,
		ReadHeaderTimeout: apiHeaderTimeout,
		IdleTimeout:       apiIdleTimeout,
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(n.api.done)
		_ = n.api.server.Serve(l)
	}()
	n.closers = append(n.closers, n.api)
	return nil
}
