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
// node alike. Git providers are packages of their own behind the interface
// Provider.
//
// # Secrets
//
// What is secret is sealed (age, X25519) to the keys of the nodes that run auth
// before it reaches the replicated store. Each such node has a key of its own, and
// announces its public half; secrets are sealed anew for a node that joins. Nodes
// of other roles are given a secret over an authenticated stream, if their role
// needs it: certificates go to gateways, sources of builds to patrick, and nothing
// to substrate, which runs strangers' code.
//
// # Memberships
//
// With the network's root key (WithAuthority), auth renews memberships: a member
// is signed anew in the roles that it has, and no others.
package auth
