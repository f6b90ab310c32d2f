// Package guestsdk carries the source of the module substrate/guest, so that a
// machine without network builds functions that import it, and functions need
// no require for it:
//
//	gowork, err := guestsdk.Workspace(cacheDir, functionDir, "")
//	build := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-trimpath", "-o", out, ".")
//	build.Dir = functionDir
//	build.Env = append(env, "GOOS=wasip1", "GOARCH=wasm", "GOWORK="+gowork)
//
// The function's go.mod stays two lines, its module and its version of Go. Its
// folder is not written to.
//
// # How
//
// A module of this one's folder can't be embedded, since it is a module of its
// own: go generate packs it into a text file, which a test holds to the source.
package guestsdk

//go:generate go run ./pack
