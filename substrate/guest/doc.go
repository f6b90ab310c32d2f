// Package guest lets a function that is written in stock Go answer HTTP requests
// with an http.Handler:
//
//	package main
//
//	import (
//		"fmt"
//		"net/http"
//
//		"github.com/taubyte/taubyte/substrate/guest"
//	)
//
//	func main() {}
//
//	func hello(w http.ResponseWriter, r *http.Request) {
//		fmt.Fprintln(w, "hello,", r.URL.Query().Get("name"))
//	}
//
//	//go:wasmexport hello
//	func entry(e uint32) uint32 { return guest.ServeHTTP(e, http.HandlerFunc(hello)) }
//
// A function with a timer, which is run by the clock, has an entry point of another kind:
//
//	//go:wasmexport nightly
//	func nightly(e uint32) uint32 { return guest.ServeTimer(e, clean) }
//
//	func clean(due time.Time) error { … }
//
// Package smartop is for modules that guard resources.
//
// # What the rest is for
//
// This package imports net/http, which makes modules of 5 MB. Package event does
// the same work without it in less than 2 MB. The other packages are what the
// host offers: database, storage, pubsub, p2p, fetch (an HTTP client), dns, self,
// globals, random, log, secret, ipfs and i2mv (data between modules). Their errors are
// numbers of package errno.
//
// None of them has state of its own but handles of the host, and none may be used
// by two goroutines at once when its text does not say so: a guest has one
// thread, but a call of the host may stand between two steps.
//
// # Build
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o hello.wasm
//
// Elsewhere all packages compile as well, so that editors and go vet see what they are, and
// every call of the host gives errno.Outside. Package guesttest is a host for go test.
//
// # Code for the public go-sdk
//
// Code for github.com/taubyte/go-sdk v0.3.9 builds with stock Go when the module
// of its symbols is replaced by the one in this folder:
//
//	replace github.com/taubyte/go-sdk-symbols => …/substrate/guest/go-sdk-symbols
//
// and its entry points are declared by go:wasmexport with an event number, which
// event.Event(e) turns into the event.
package guest
