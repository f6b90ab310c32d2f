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
//
// A user may close its sending direction and still gets the whole answer, unless that
// stands still for Limits.Grace. An offer to upgrade to anything but a WebSocket is not taken:
// the request is served as if it had not been made. A request reaches the site with Via,
// X-Forwarded-For, -Host and -Proto by the gateway's own word, and without the headers of
// its connection; trailers and interim answers (1xx) pass. All of this is the same
// whether the substrate node is on the gateway's host or another.
package gateway
