// Package rpc is how one node calls another: HTTP/1.1 over libp2p streams, which
// libp2p authenticates and encrypts.
//
// A service mounts an ordinary http.Handler with Serve. A client sends requests
// with Transport, an http.RoundTripper whose hosts are peer IDs, or with Client,
// which finds the nodes that run the service and goes on to the next when one
// fails. Errors keep their identity on the way (WriteError, ReadError), and
// deadlines and cancellation cross as well.
//
// # Who asks
//
// Every request arrives with a principal in its context (taubyte.PrincipalOf): the
// member that sent it, or the user, job or function that this member speaks for, which a
// client takes from the context of the call. A member can hand on no more than it may
// itself (taubyte.Allow checks both), may speak for a job only in the role monkey and for
// a function only in the role substrate, and for no node and no administrator at all.
//
// # Patience
//
// How long a call waits is decided here and nowhere else. A node that hangs is found
// out by pings (Pulse) and costs about a second, whatever the call; a node that is slow
// costs what Patience allows, and a call that is safe to repeat asks another one beside
// it. So callers bound the whole of what they do, by their context, and never one call
// to one node.
package rpc
