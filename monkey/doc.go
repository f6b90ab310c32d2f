// Package monkey builds what was pushed, and publishes it.
//
// A node of role monkey claims jobs from patrick, fetches the exact commit, compiles
// the configuration and builds functions, libraries and websites, each only when it
// has changed. What comes out is added as content, kept by hoarder, and made current
// in tns: all of it or nothing.
//
//	m, err := monkey.New(ctx, host, store, monkey.WithCapacity(2))
//	defer m.Close()
//
// # What is built how
//
// A folder with .taubyte/config.yaml is built by the scripts that its workflow names, with
// the source in $SRC and the result expected in $OUT: main.wasm of a function or library,
// the files of a website. Without one it is built by what it holds: Go, TinyGo, Rust,
// AssemblyScript, a package.json; a website is otherwise taken as it is. docs/builds.md has
// it all.
//
// Projects made for tau build as they are. Their Go functions, which are written for TinyGo,
// are adapted to Go where there is no TinyGo; their scripts find /src, /out and /utils; and a
// toolchain of the machine stands for the image that they name (WithImages). Each target has
// a copy of the source for that, and the repository is never written to.
//
// # Where it runs
//
// An Environment runs the commands. The default, Confined, keeps a stranger's code from
// the machine, the node and other builds. Process runs plain processes, for one's own code,
// and has to be asked for:
//
//	monkey.New(ctx, host, store, monkey.WithEnvironment("process", &monkey.Process{}))
//
// Package container has the one that runs the images that projects name, or that it builds
// from their Dockerfiles (an ImageBuilder).
//
// What the node itself does in a build's folders stays inside of them, whatever links and
// devices are there, and is bounded.
//
// # When a node goes away
//
// A job is held by a lease that the worker renews. Once it is another's, the worker stops
// at once, and that one starts over. While patrick can't be reached the build goes on,
// nothing is published, and a result is kept until it can be said. What two workers publish
// for one job carries the same order, so that tns has it once.
//
// Only what the build itself does wrong makes a job fail. When something is missing on this
// worker, its disk is full, or another node is away for long, the worker gives the job back.
// So it does with all its jobs before Close returns.
package monkey
