// Package gateway is the way in for a cloud's users: it takes their requests, finds
// out what they are for, and passes each to a substrate node.
//
//	g, err := gateway.New(ctx, host, store, gateway.WithListen(":8080"))
//	fmt.Println(g.Addr())
//
// It is also an http.Handler, for programs with servers of their own.
//
// # What a request costs
//
// Host, path and method are looked up in a table in memory that follows tns. The
// node is chosen from what heartbeats said and from the gateway's own measurements.
// The one call is that to the substrate node, over a stream that is kept; to a
// substrate on the same host it is a function call.
//
// # The choice
//
// Each route prefers a node, by rendezvous hashing over its asset, so that modules
// are warm where they are used. A node that has more than its share of the
// requests under way is passed over (bounded load); then the better of two that
// chance picks is taken: the one whose latency (peak EWMA) times its requests under
// way is smaller. Nodes whose requests kept failing are left out for a while, but
// never most of them. Explain shows all of it.
//
// # What a user is told
//
// An unknown host or path is 404, a path with other methods 405 with Allow, no node
// to serve it 503 with Retry-After, a node that breaks off 502 or an aborted
// connection, and one that takes too long 504. Nothing of the inside is told.
package gateway
