// Package tns is the registry: it says what each branch of each project runs, and
// where requests go.
//
//	registry, err := tns.New(ctx, host, store, tns.WithZone("cloud.example.com"))
//	deployment, err := registry.Publish(ctx, project, "main", part)
//
//	table, err := tns.NewTable(ctx, registry)
//	match := table.Lookup("www.example.com", "/api/orders", "GET")
//
// # Deployments
//
// A build publishes a Part: what one repository contributes, a compiled
// configuration or the content identifiers of what was built. The registry merges it
// with the parts of the project's other repositories into a Deployment, an immutable
// object, and makes that current by one key. Who reads sees all of it or nothing.
//
// Parts of one repository are ordered (Part.Order). What was published before does
// not come back by being published again, neither after a rollback nor after the
// branch was removed. Everything that ever was current stays in the history.
//
// # Where requests go
//
// A Table is the routes of all projects, in memory, on every node that needs them: it
// follows a watch, swaps changes in without a lock for its readers, and keeps what it
// knows while no registry answers (Age says for how long). WithPrepare holds a new
// deployment back until the node is ready for it.
//
// A host belongs to one project: a verified claim beats one that is not, then the
// earlier counts, on every node alike. Branches that are not in production are served
// at "<branch>--<label>.<zone>". An exact host beats a wildcard, an exact path of a
// function a website, and of websites the longest prefix wins. A path that is known
// with other methods says which.
//
// # Local and remote
//
// Service and Client have the same methods. A Client calls the registry on its own
// host directly, and otherwise one on the network, the next when one fails.
package tns
