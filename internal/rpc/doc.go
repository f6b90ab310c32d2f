// Package rpc is how one node calls another: HTTP/1.1 over libp2p streams, which
// libp2p authenticates and encrypts.
//
// A service mounts an ordinary http.Handler with Serve. A client sends requests
// with Transport, an http.RoundTripper whose hosts are peer IDs, or with Client,
// which finds the nodes that run the service and goes on to the next when one
// fails. Errors keep their identity on the way (WriteError, ReadError), and
// deadlines and cancellation cross as well.
package rpc
