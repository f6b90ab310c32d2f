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
// branch was removed. Two replicas that did not reach each other may both publish:
// what the branch then runs is the merge of both, and nothing that was acknowledged is
// lost. A publication is acknowledged when it is on the disk of one other member too, if
// one is in reach within three seconds; or else the log says that it is on this node
// alone.
//
// # History
//
// Every replica fetches and keeps what was current, the last 100 deployments of each
// branch (WithHistory), so that any of them can list it, compare two (Diff) and go
// back (Rollback) when the node that published is gone. A deployment that no node in
// reach has is listed as Missing. Assets tells what the history of a project is made
// of: the rest of what was ever built for it may be released.
//
// # Where requests go
//
// A Table is the routes of all projects, in memory, on every node that needs them: it
// follows a watch, swaps changes in without a lock for its readers, and keeps what it
// knows while no registry answers (Age says for how long). WithPrepare holds a new
// deployment back until the node is ready for it.
//
// An exact host beats a wildcard, an exact path of a function a website, and of
// websites the longest prefix wins. A path that is known with other methods says which.
//
// # Whose a host is
//
// A branch in production (WithProductionBranches) claims the domains of its
// configuration. Of two projects that claim a name, one has it, the same on every node:
//
//   - the one that the name was generated for: a label of the zone (WithZone) that is
//     the last eight characters of the project's id and a number, or ends with "-" and
//     these characters. Of projects whose ids end alike it is the one that was deployed
//     first, on any branch, so that nobody gets such names by choosing an id;
//   - else the one that showed that it owns the name, and of two the first. Who checks
//     the proof, a TXT record for instance, tells Verify;
//   - else the one that claimed it first.
//
// A claim is part of the deployment: it begins with the first that has the domain,
// lasts as long as a branch in production has it without a break, and ends with the
// last. Dropping a domain and claiming it again starts a new claim. Names that nobody
// verified are served, unless WithVerifiedOnly says otherwise; WithOpenDomains takes all as
// verified. The registry decides, and a Table serves what it decided: a project that has a
// name and no route for it keeps the others from serving it. Who loses is told: by the
// answer of Publish, by Conflicts, in each Change and Summary, and in the log. Claims lists
// who wants a name.
//
// Names of the zone that are the cluster's own are no project's: "*.<zone>", and
// <label>.<zone> of each service (gateway, auth …), of console and api, of the servers of the
// zone (ns, ns1 …), and of every node. A node that comes takes its name. The name of the zone
// itself takes Verify.
//
// Branches that are not in production are previews. Each domain has a name for each of
// them, "<branch>--<domain>--<hash>.<zone>", that no other branch or project can have.
// Where branch and domain are labels as they stand and the domain is of the zone, the
// preview also is at "<branch>--<label>.<zone>", which is claimed like any name; where
// the label was generated for the project that is its only name.
//
// # Watching
//
// Watch tells what every branch runs now, then Ready, then what changes; WatchProject
// does for one project or branch. A watch that broke off goes on from the token of its
// last change. A change costs what it changes, not what there is.
//
// # Local and remote
//
// Service and Client have the same methods. A Client calls the registry on its own
// host directly, and otherwise one on the network, the next when one fails.
package tns
