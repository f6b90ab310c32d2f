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

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/api"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/openapi"
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
	mux, err := n.mux()
	if err != nil {
		_ = l.Close()
		return err
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

// mux is all that the API serves.
func (n *Node) mux() (http.Handler, error) {
	mux, own := http.NewServeMux(), api.New(nil)
	described := []openapi.Service{{Handler: own}}
	serve := func(name string, h http.Handler) {
		prefix := "/v1/" + name
		mux.Handle(prefix+"/", n.authenticated(http.StripPrefix(prefix, h)))
		described = append(described, openapi.Service{Name: name, Prefix: prefix, Handler: h})
	}
	for _, role := range taubyte.Roles() {
		if h, ok := n.handlers[role]; ok {
			serve(string(role), h)
		}
	}
	if n.ACME != nil {
		serve("acme", n.ACME.Handler())
	}
	if n.Patrick != nil {
		hooks := n.Patrick.Hooks()
		own.Handle("POST /webhooks/{provider}/{repository}", api.Operation{
			Summary: "Takes what a git provider sends to the webhook of a repository.",
			Text:    "It is signed as the provider does. Whatever is refused is answered alike. Gateways take the same below " + auth.WebhookPath + ".",
			Path:    api.Texts{"provider": "The name of the provider.", "repository": "The ID of the repository there."},
			Rights:  api.Anybody(),
		}, api.Serve(func(w http.ResponseWriter, r *http.Request, _ rpc.Codes) {
			hooks.ServeHTTP(w, r)
		}).Reads("application/json", "As the provider sends it.").Bytes("application/json", "What it was, and the job that it led to, if any."))
	}
	if n.git != nil {
		mux.Handle("/git/", http.StripPrefix("/git", n.git))
		describeGit(own)
	}
	own.Handle("GET /healthz", api.Operation{
		Summary: "Answers as long as the node runs.", Rights: api.Anybody(),
	}, api.Serve(func(w http.ResponseWriter, _ *http.Request, _ rpc.Codes) {
		w.Header().Set("Content-Type", plainText)
		_, _ = w.Write([]byte("ok\n"))
	}).Bytes(plainText, "It runs."))
	var description http.Handler
	own.Handle("GET /openapi.json", api.Operation{
		Summary: "Returns this document.", Text: "It has an ETag.", Rights: api.Anybody(),
	}, api.Serve(func(w http.ResponseWriter, r *http.Request, _ rpc.Codes) {
		description.ServeHTTP(w, r)
	}).Bytes("application/json", "The description of what this node serves, as OpenAPI 3.1."))
	mux.Handle("/", own)
	description, err := openapi.Handler(openapi.Info{
		Title: "Taubyte", Version: "1",
		Text:  "The API of a node: that of each service that it runs. Errors are JSON objects with a message, and a code for programs.",
		Token: "The node's own token, which is the administrator's, or one that was made by POST /v1/auth/tokens. Its roles here are the verbs that it takes: read, deploy, administer.",
	}, described...)
	return mux, err
}

const plainText = "text/plain; charset=utf-8"

// describeGit describes what the node's git provider serves: git's smart protocol.
func describeGit(own *api.Mux) {
	repository := api.Texts{"repository": "The name of the repository, with .git."}
	const refused = "Git shows the repository's credential, or a token, as the password of basic authentication. Errors are text. A push takes the verb deploy on the project, and everything else read."
	git := func(what, answer string) api.Endpoint {
		return api.Serve(nil).Reads("application/x-git-"+what+"-request", "As git sends it.").Bytes("application/x-git-"+what+"-result", answer)
	}
	own.Describe("GET /git/{repository}/info/refs", api.Operation{
		Summary: "Lists the branches of a git repository.", Text: refused, Path: repository,
		Query:  []api.Parameter{{Name: "service", Text: "git-upload-pack or git-receive-pack.", Required: true}},
		Rights: api.Project(taubyte.VerbRead),
	}, api.Serve(nil).Bytes("application/x-git-upload-pack-advertisement", "As git reads it.").Bytes("application/x-git-receive-pack-advertisement", "As git reads it."))
	own.Describe("POST /git/{repository}/git-upload-pack", api.Operation{
		Summary: "Returns commits of a git repository.", Text: refused, Path: repository, Rights: api.Project(taubyte.VerbRead),
	}, git("upload-pack", "As git reads it."))
	own.Describe("POST /git/{repository}/git-receive-pack", api.Operation{
		Summary: "Takes a push to a git repository.", Text: refused, Path: repository, Rights: api.Project(taubyte.VerbDeploy),
	}, git("receive-pack", "As git reads it."))
}
