package auth

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// handler serves auth over HTTP:
//
//	GET, POST  /projects               all; a Project to create
//	GET, DELETE /projects/{id}
//	POST       /imports                an Import
//	POST       /additions              an Addition: a repository at a provider
//	GET, POST  /repositories?project=  all; a Repository to register
//	GET, DELETE /repositories/{id}     the id escaped
//	GET        /repositories/{id}/heads
//	POST       /repositories/{id}/webhook    another secret
//	POST       /repositories/{id}/events     {"header", "body"}: as a provider sent it
//	POST       /repositories/{id}/statuses   {"commit", "status"}
//	GET        /repositories/{id}/commits/{commit}   its tree, as tar
//	GET, POST  /certificates           all, without keys; {"cert", "key"} to import
//	DELETE     /certificates/{id}      by its id or host
//	POST       /certificates/inline    an InlineCertificate to keep
//	GET        /certificates/watch     all, then what changes
//	GET        /certificates/inline/watch  likewise, those of projects' configurations
//	GET, POST  /domains?project=       all; {"project", "host"} to claim one
//	POST       /domains/{host}/projects/{project}/check   ask DNS now
//	DELETE     /domains/{host}/projects/{project}
//	GET, PUT, DELETE /projects/{id}/variables   of a kind; one to set; ?kind=&name=&branch=&function= to remove
//	GET        /environments/{id}?branch=   what functions of a branch see
//	GET        /environments/watch     which projects have variables, and each change
//	POST       /environments/build     what a build sees
//	GET        /secrets/audit?project=&limit=   who did what with secrets
//	GET        /secrets/keys           the generations of the key that seals secrets
//	POST       /secrets/rotation       a new generation
//	POST       /membership             the caller's own, renewed
//	GET, POST  /members                all; {"name", "roles", "valid"} to invite one
//	DELETE     /members/{id}           by name or peer ID: revoked
//	POST       /members/{id}/renewal   its membership, signed anew
//	POST       /network/rotation       {"kind", "force"}: one step of the replacement of a key
//	POST       /members/invitations, /members/admissions   asked of an arbiter
//	GET, POST  /tokens                 all; a Token to make, answered with its secret
//	DELETE     /tokens/{id}            revoked
//	POST       /tokens/principal       {"secret"}: whose it is, asked by nodes
//
// Who may is said by the methods. Certificates go to gateways and to nobody else, and
// arbiters are asked by nodes of role auth.
func handler(s *Service) http.Handler {
	mux := http.NewServeMux()
	s.handleEnvironment(mux)
	mux.HandleFunc("GET /projects", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.Projects(r.Context())
		rpc.Reply(w, all, err, nil)
	})
	mux.HandleFunc("POST /projects", func(w http.ResponseWriter, r *http.Request) {
		var p Project
		err := rpc.Decode(w, r, 1<<16, &p)
		if err == nil {
			p, err = s.CreateProject(r.Context(), p)
		}
		rpc.Reply(w, p, err, nil)
	})
	mux.HandleFunc("GET /projects/{id}", func(w http.ResponseWriter, r *http.Request) {
		p, err := s.Project(r.Context(), taubyte.ProjectID(r.PathValue("id")))
		rpc.Reply(w, p, err, nil)
	})
	mux.HandleFunc("DELETE /projects/{id}", func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, s.DeleteProject(r.Context(), taubyte.ProjectID(r.PathValue("id")), r.Header.Get(CredentialHeader)), nil)
	})
	mux.HandleFunc("POST /imports", func(w http.ResponseWriter, r *http.Request) {
		var in Import
		var out Imported
		err := rpc.Decode(w, r, 1<<16, &in)
		if err == nil {
			out, err = s.ImportProject(r.Context(), in)
		}
		rpc.Reply(w, out, err, nil)
	})
	mux.HandleFunc("POST /additions", func(w http.ResponseWriter, r *http.Request) {
		var a Addition
		var repo Repository
		err := rpc.Decode(w, r, 1<<16, &a)
		if err == nil {
			repo, err = s.AddRepository(r.Context(), a)
		}
		rpc.Reply(w, repo, err, nil)
	})
	mux.HandleFunc("POST /repositories/{id}/webhook", func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, s.RotateWebhook(r.Context(), repositoryOf(r), r.Header.Get(CredentialHeader)), nil)
	})
	mux.HandleFunc("POST /repositories/{id}/events", func(w http.ResponseWriter, r *http.Request) {
		var in sentEvent
		var e Event
		err := rpc.Decode(w, r, 2*MaxEvent, &in)
		if err == nil {
			e, err = s.Event(r.Context(), repositoryOf(r), in.Header, in.Body)
		}
		rpc.Reply(w, e, err, nil)
	})
	mux.HandleFunc("POST /repositories/{id}/statuses", func(w http.ResponseWriter, r *http.Request) {
		var in sentStatus
		err := rpc.Decode(w, r, 1<<14, &in)
		if err == nil {
			err = s.SetStatus(r.Context(), repositoryOf(r), in.Commit, in.Status)
		}
		rpc.Reply(w, nil, err, nil)
	})
	mux.HandleFunc("GET /repositories", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.Repositories(r.Context(), taubyte.ProjectID(r.URL.Query().Get("project")))
		rpc.Reply(w, all, err, nil)
	})
	mux.HandleFunc("POST /repositories", func(w http.ResponseWriter, r *http.Request) {
		var repo Repository
		err := rpc.Decode(w, r, 1<<16, &repo)
		if err == nil {
			repo, err = s.Register(r.Context(), repo)
		}
		rpc.Reply(w, repo, err, nil)
	})
	mux.HandleFunc("GET /repositories/{id}", func(w http.ResponseWriter, r *http.Request) {
		repo, err := s.Repository(r.Context(), repositoryOf(r))
		rpc.Reply(w, repo, err, nil)
	})
	mux.HandleFunc("DELETE /repositories/{id}", func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, s.RemoveRepository(r.Context(), repositoryOf(r), r.Header.Get(CredentialHeader)), nil)
	})
	mux.HandleFunc("GET /repositories/{id}/heads", func(w http.ResponseWriter, r *http.Request) {
		heads, err := s.Heads(r.Context(), repositoryOf(r))
		rpc.Reply(w, heads, err, nil)
	})
	mux.HandleFunc("GET /repositories/{id}/commits/{commit}", s.serveSource)
	mux.HandleFunc("GET /certificates", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.Certificates(r.Context())
		rpc.Reply(w, all, err, nil)
	})
	mux.HandleFunc("POST /certificates/inline", func(w http.ResponseWriter, r *http.Request) {
		var i InlineCertificate
		var reference string
		err := rpc.Decode(w, r, 1<<20, &i)
		if err == nil {
			reference, err = s.KeepInlineCertificate(r.Context(), i)
		}
		rpc.Reply(w, reference, err, nil)
	})
	mux.HandleFunc("DELETE /certificates/{id}", func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, s.RemoveCertificate(r.Context(), r.PathValue("id")), nil)
	})
	mux.HandleFunc("POST /certificates", func(w http.ResponseWriter, r *http.Request) {
		var c Certificate
		err := rpc.Decode(w, r, 1<<20, &c)
		var hosts []string
		if err == nil {
			hosts, err = s.ImportCertificate(r.Context(), c.Cert, c.Key)
		}
		rpc.Reply(w, hosts, err, nil)
	})
	mux.HandleFunc("GET /certificates/watch", rpc.Only(serveCertificates(s.WatchCertificates), taubyte.RoleGateway))
	mux.HandleFunc("GET /certificates/inline/watch", rpc.Only(serveCertificates(s.WatchInlineCertificates), taubyte.RoleGateway))
	mux.HandleFunc("GET /domains", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.Domains(r.Context(), taubyte.ProjectID(r.URL.Query().Get("project")))
		rpc.Reply(w, all, err, nil)
	})
	mux.HandleFunc("POST /domains", func(w http.ResponseWriter, r *http.Request) {
		var d Domain
		err := rpc.Decode(w, r, 1<<12, &d)
		if err == nil {
			d, err = s.ClaimDomain(r.Context(), d.Project, d.Host)
		}
		rpc.Reply(w, d, err, nil)
	})
	mux.HandleFunc("POST /domains/{host}/projects/{project}/check", func(w http.ResponseWriter, r *http.Request) {
		d, err := s.CheckDomain(r.Context(), taubyte.ProjectID(r.PathValue("project")), r.PathValue("host"))
		rpc.Reply(w, d, err, nil)
	})
	mux.HandleFunc("DELETE /domains/{host}/projects/{project}", func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, s.DropDomain(r.Context(), taubyte.ProjectID(r.PathValue("project")), r.PathValue("host")), nil)
	})
	mux.HandleFunc("POST /membership", func(w http.ResponseWriter, r *http.Request) {
		m, ok := rpc.Caller(r.Context())
		if !ok {
			rpc.WriteError(w, fmt.Errorf("%w: no member calls", taubyte.ErrForbidden), nil)
			return
		}
		signed, err := s.Renew(r.Context(), m)
		rpc.Reply(w, signed, err, nil)
	})
	mux.HandleFunc("GET /members", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.Members(r.Context())
		rpc.Reply(w, all, err, nil)
	})
	mux.HandleFunc("POST /members", func(w http.ResponseWriter, r *http.Request) {
		var a addition
		err := rpc.Decode(w, r, 1<<12, &a)
		var i Invitation
		if err == nil {
			i, err = s.AddMember(r.Context(), a.Name, a.Roles, a.Valid)
		}
		rpc.Reply(w, i, err, nil)
	})
	mux.HandleFunc("DELETE /members/{id}", func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, s.RevokeMember(r.Context(), r.PathValue("id")), nil)
	})
	mux.HandleFunc("POST /members/{id}/renewal", func(w http.ResponseWriter, r *http.Request) {
		signed, err := s.RenewMember(r.Context(), r.PathValue("id"))
		rpc.Reply(w, signed, err, nil)
	})
	mux.HandleFunc("POST /network/rotation", func(w http.ResponseWriter, r *http.Request) {
		var in rotation
		var done Rotation
		err := rpc.Decode(w, r, 1<<10, &in)
		if err == nil {
			done, err = s.RotateKey(r.Context(), in.Kind, in.Force)
		}
		rpc.Reply(w, done, err, nil)
	})
	mux.HandleFunc("POST /members/invitations", rpc.Only(func(w http.ResponseWriter, r *http.Request) {
		var i invitation
		err := rpc.Decode(w, r, 1<<12, &i)
		if err == nil {
			s.membersMu.Lock()
			err = s.invite(r.Context(), i)
			s.membersMu.Unlock()
		}
		rpc.Reply(w, nil, err, nil)
	}, taubyte.RoleAuth))
	mux.HandleFunc("POST /members/admissions", rpc.Only(func(w http.ResponseWriter, r *http.Request) {
		var u usedInvitation
		err := rpc.Decode(w, r, 1<<12, &u)
		if err == nil {
			s.membersMu.Lock()
			err = s.use(r.Context(), u)
			s.membersMu.Unlock()
		}
		rpc.Reply(w, nil, err, nil)
	}, taubyte.RoleAuth))
	mux.HandleFunc("GET /tokens", func(w http.ResponseWriter, r *http.Request) {
		all, err := s.Tokens(r.Context())
		rpc.Reply(w, all, err, nil)
	})
	mux.HandleFunc("POST /tokens", func(w http.ResponseWriter, r *http.Request) {
		var t Token
		err := rpc.Decode(w, r, 1<<16, &t)
		var made NewToken
		if err == nil {
			made, err = s.CreateToken(r.Context(), t)
		}
		w.Header().Set("Cache-Control", "no-store")
		rpc.Reply(w, made, err, nil)
	})
	mux.HandleFunc("DELETE /tokens/{id}", func(w http.ResponseWriter, r *http.Request) {
		rpc.Reply(w, nil, s.RevokeToken(r.Context(), r.PathValue("id")), nil)
	})
	mux.HandleFunc("POST /tokens/principal", rpc.Only(func(w http.ResponseWriter, r *http.Request) {
		var in shownToken
		err := rpc.Decode(w, r, 1<<10, &in)
		var p taubyte.Principal
		if err == nil {
			p, err = s.Authenticate(r.Context(), in.Secret)
		}
		w.Header().Set("Cache-Control", "no-store")
		rpc.Reply(w, p, err, nil)
	}, taubyte.Roles()...))
	return mux
}

// CredentialHeader is the header of the API that carries the caller's token at a git
// provider, for requests that have no body.
const CredentialHeader = "Taubyte-Provider-Credential"

// sentEvent is the body of POST /repositories/{id}/events.
type sentEvent struct {
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// sentStatus is the body of POST /repositories/{id}/statuses.
type sentStatus struct {
	Commit taubyte.Commit `json:"commit"`
	Status Status         `json:"status"`
}

// shownToken is the body of POST /tokens/principal.
type shownToken struct {
	Secret string `json:"secret"`
}

// rotation is the body of POST /network/rotation.
type rotation struct {
	Kind  taubyte.KeyKind `json:"kind"`
	Force bool            `json:"force,omitempty"`
}

// addition is the body of POST /members.
type addition struct {
	Name  string         `json:"name"`
	Roles []taubyte.Role `json:"roles"`
	Valid time.Duration  `json:"valid,omitempty"` // nanoseconds
}

func memberPath(who, rest string) string { return "/members/" + url.PathEscape(who) + rest }

func repositoryOf(r *http.Request) taubyte.RepositoryID {
	return taubyte.RepositoryID(r.PathValue("id"))
}

func projectPath(id taubyte.ProjectID) string { return "/projects/" + url.PathEscape(string(id)) }

func repositoryPath(id taubyte.RepositoryID, rest string) string {
	return "/repositories/" + url.PathEscape(string(id)) + rest
}

func (s *Service) serveSource(w http.ResponseWriter, r *http.Request) {
	out := &begun{ResponseWriter: w}
	err := s.Source(r.Context(), repositoryOf(r), taubyte.Commit(r.PathValue("commit")), out)
	switch {
	case err == nil:
	case out.yes:
		panic(http.ErrAbortHandler) // so that half a tree does not look like one
	default:
		rpc.WriteError(w, err, nil)
	}
}

// begun knows whether the answer has.
type begun struct {
	http.ResponseWriter
	yes bool
}

func (b *begun) Write(p []byte) (int, error) {
	if !b.yes {
		b.yes = true
		b.Header().Set("Content-Type", "application/x-tar")
	}
	return b.ResponseWriter.Write(p)
}

func serveCertificates(watch func(context.Context) (<-chan []Certificate, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		lists, err := watch(ctx)
		if err != nil {
			cancel()
			rpc.WriteError(w, err, nil)
			return
		}
		changes := certificateChanges(ctx, lists)
		defer func() {
			cancel()
			for range changes { // until it has ended
			}
		}()
		stream, err := rpc.NewStream(w)
		if err != nil {
			return
		}
		_ = rpc.Follow(stream, changes, rpc.Beat)
	}
}
