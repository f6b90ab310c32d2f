// Package taubyte is a cloud that a Go program imports: it has what every
// service of the cloud stands on, the Host and the Datastore.
//
// A Host is one node: a libp2p host with gossip, routing and content exchange,
// open to the members of its network only. A Datastore is where the node keeps
// what must outlive it. Services are packages beside this one (tns, auth, seer,
// hoarder, patrick, monkey, substrate, gateway); each is made alike:
//
//	store, err := taubyte.OpenDatastore("/var/lib/app")
//	host, err := taubyte.NewHost(ctx, store)
//	registry, err := tns.New(ctx, host, store)
//	defer registry.Close()
//
// # Many nodes in one process
//
// Nothing here is global: no registry, no default mux or metrics registerer, no
// work at import. A test may run a dozen whole nodes, each with its own Host and
// Datastore, and the addresses of one handed to the next by WithPeers.
//
// # Who is a member
//
// A network has a swarm key, without which no connection is made, and a root
// key, which signs short-lived memberships: a peer ID and its roles. A host asks
// every peer for its membership and serves members only. A host that was given
// neither makes its own network and is alone in it; NewAuthority, WithAuthority
// and WithMembership make networks of several nodes.
//
// # Who may do what
//
// Each call has a Principal in its context, and the methods of the services check it:
// their documentation says who may call them. A program that embeds a service and says
// nothing calls as administrator; with WithPrincipal it calls for a user of its own:
//
//	ctx = taubyte.WithPrincipal(ctx, taubyte.Principal{
//		Kind: taubyte.KindUser, Name: "ann", Verb: taubyte.VerbDeploy,
//		Projects: []taubyte.ProjectID{shop},
//	})
//	err := jobs.Cancel(ctx, id) // ErrForbidden where the job is of another project
//
// A call that a user makes on one node and that goes on to another is judged there as
// the user's. The node that sends it on vouches for the user with its own rights: what
// it may not do itself it can do for nobody.
//
// A worker calls for the job that it builds, and a node that runs functions for the
// function: a job publishes its own branch under its own id, and a function reaches what
// its own branch has. AllowJob and AllowFunction say so.
//
// # Life and death
//
// The context of a constructor bounds the start only. What was started lives
// until Close, which may be called twice and returns when every goroutine is
// gone. Close services first, then the host, then the store. Opening again on
// the same store is an ordinary event.
package taubyte
