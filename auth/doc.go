// Package auth knows whose is what: projects and their repositories, the secrets
// of both, certificates of host names, and the memberships of nodes.
//
//	service, err := auth.New(ctx, host, store, auth.WithProvider(git))
//	_, err = service.CreateProject(ctx, auth.Project{ID: id, Name: "shop"})
//	_, err = service.Register(ctx, auth.Repository{ID: "local/shop", Project: id, Kind: auth.KindProject})
//
// # Repositories
//
// A repository belongs to one project. Two nodes may register one repository for
// two projects at the same moment: then the earlier registration counts, on every
// node alike.
//
// Git providers are packages of their own behind the interface Provider and those beside
// it: auth/github, auth/gitea, and auth/localgit, which keeps repositories itself. A
// repository at one of the first two is added or imported, by a credential that
// administers it there, and is given a deploy key and a webhook:
//
//	service, err := auth.New(ctx, host, store, auth.WithProvider(github), auth.WithWebhooks(url))
//	imported, err := service.ImportProject(ctx, auth.Import{Provider: "github", Repository: "acme/tb_shop"})
//	event, err := service.Event(ctx, id, header, body) // what came to <url>/<id>
//
// # Secrets
//
// What is secret is kept by package auth/internal/secrets: sealed before it reaches the
// replicated store, under a key that each node of role auth is given for itself. A node
// that is revoked is sealed out within seconds: the others make a new key and seal
// everything anew. Nodes of other roles are given a secret over an authenticated stream,
// if their role needs it: certificates go to gateways, sources of builds to patrick, and
// to substrate, which runs strangers' code, what the functions that run there may read.
// Each access is in an audit log.
//
// # Domains
//
// A project shows that it owns a host name by a TXT record with a token that auth has
// signed for the two (a JWT by ES256): ClaimDomain makes it, DNS is asked each minute at
// first and twice a day later, and tns is told what was found. A record that is missing
// takes the name away after a day; of two projects with records the first keeps it.
//
// # Members
//
// With the network's root key (WithAuthority), auth keeps the registry of members. A
// member is renewed in the roles and under the name that it has, and no others.
//
//	invitation, err := service.AddMember(ctx, "edge", []taubyte.Role{taubyte.RoleSubstrate}, 0)
//	admission, err := auth.Join(ctx, invitation.Token, key) // on the new machine
//	err = service.RevokeMember(ctx, "edge")
//
// An invitation admits one node, and a name is one node's: of two auth nodes that are
// asked at once, the arbiter that both choose decides. Two that do not see each other may
// each decide; when they meet, the earlier admission stays and the later is revoked, and
// the later claim to a name loses it. A member whose membership was signed elsewhere, as
// "taubyte init" does, is recorded when it is first seen.
package auth
