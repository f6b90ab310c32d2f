// Package event is what a function gets to do: HTTP requests to answer,
// messages of channels, commands of peers, ticks of timers. It is small, and so are the modules
// that import it: those that also import net/http are three times as large and
// take longer to build and to start.
//
// An entry point takes the number of the event. The types of this package are
// made of that number:
//
//	package main
//
//	import "github.com/taubyte/taubyte/substrate/guest/event"
//
//	func main() {}
//
//	//go:wasmexport ping
//	func ping(e uint32) uint32 {
//		event.HTTP(e).WriteString("PONG")
//		return 0
//	}
//
// Build it with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags="-s -w" -o ping.wasm
//
// The name after go:wasmexport is what the function's configuration calls its
// entry point. main is not called.
//
// # Results
//
// The host does not look at what an entry point returns; 0 is customary. Answer
// failures with HTTP.Error, or panic: the client gets status 500, the log
// everything else, and the instance is not used again.
//
// # Lives
//
// An instance handles one event at a time and is used again for the next:
// package variables stay as they were left. An event is gone when its entry
// point returns, and goroutines stand still between calls.
package event
