// Package substrate runs what a project deploys: functions in WebAssembly and
// websites, over HTTP.
//
//	node, err := substrate.New(ctx, host, store)
//	defer node.Close()
//
// It follows the registry (tns) and keeps in memory what every host and path goes
// to, so that a request asks no other node. Requests come over HTTP between nodes
// under wire.Protocol, from gateways; on one host the Service is the http.Handler
// that a gateway calls.
//
// # Deployments
//
// A deployment is taken over when all of it is there: every module fetched and
// compiled, every website's files on this node. Until then, and when that fails,
// the branch goes on with what it had. A request that began on the old one ends on
// it. Serving waits for a deployment to be taken over.
//
// # Functions
//
// A module is compiled once for its content, whichever functions use it, kept on
// disk with WithCacheDir, and dropped with the last deployment that uses it. Until it is
// compiled the deployment before it serves; a new version of a function that takes little
// is interpreted meanwhile, and serves before it is compiled.
// Instances are kept warm for each function, and never shared between two. What a
// function may take is set by its configuration and bounded by Limits: beyond its
// time a call ends with 504, beyond its queue it is turned away with 503, and any
// other failure is a 500; each costs that call alone. The reasons are in the log, where
// the function's own output goes as well.
//
// What a guest can call is in the package internal/abi. What it can reach over the
// network is the public internet, or of that what its project lists under egress, and
// what the node adds by WithEgress; see internal/egress.
//
// # What functions keep
//
// Databases, storages, global values and pushed content are kept by hoarders, and belong
// to a branch of a project: another branch, project or application has no name for
// them. A name means the first database or storage of the configuration that fits, the
// application's before the project's, and each name has one of its own. Encryption, and
// the access network "subnet", are not offered: a database with them is refused. By its
// CID a function reads what its branch has pushed, files of its storages that it
// was given the CID of, and what was built for its project.
//
// # Timers
//
// A function with a timer is run by the clock: each tick once in the whole cluster, on
// one of the nodes that serve it. Ticks that were missed are not made up for. What
// becomes of them while nodes come and go is in internal/timers.
//
// # Channels and commands
//
// The messaging resources of a project say which channels there are; WebSockets open
// them at "/ws-<hash>/<channel>" on any host of the project, and functions listen on
// the channel of their trigger. What one publishes, on whatever node, all others on the
// channel get: sockets in the order of each publisher, a function once in the whole
// cluster. See internal/messages for what is promised and what is bounded. Functions send
// each other commands over the project's services: internal/commands.
//
// # Smart operations
//
// A resource that is tagged smartops:<name> is used only if that module, asked before,
// answers 0: functions of every trigger, websites and WebSockets, and databases and
// storages when a function opens them. Where it is a request that asks, the operation sees
// it, and who is refused gets 403. One that fails, or that was never built, refuses as
// well.
//
// # Websites
//
// Files are served from the content network's blocks with ranges, ETags,
// precompressed encodings and cache headers; see internal/site.
package substrate
