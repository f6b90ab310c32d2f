// Package patrick turns pushes into build jobs and sees each through to its end.
//
//	service, err := patrick.New(ctx, host, store)
//	git, err := localgit.New(ctx, host, store, dir, localgit.WithOnPush(func(ctx context.Context, p auth.Push) (string, error) {
//		job, err := service.Submit(ctx, p)
//		return "job " + string(job.ID) + " queued", err
//	}))
//
// # Jobs
//
// A push makes a job: the build of one commit of one branch, or, where the branch
// was deleted (Job.Deleted), the removal of what it runs. A queued job gives way to
// a later push of its branch. Missed pushes are found by comparing the branch heads
// of all registered repositories with the jobs there are, at start and every minute. A
// head that would take something back is believed when it has stayed for some seconds.
//
// # Webhooks
//
// Service.Hooks is a public handler for what git providers send; auth checks that it is
// signed. A gateway hands it on, which has no secret to check it by:
//
//	edge, err := gateway.New(ctx, host, store, gateway.WithWebhooks(patrick.NewClient(host).Hooks()))
//
// What becomes of a job is shown at the provider beside its commit.
//
// # Workers
//
// Nodes of role monkey claim jobs. A claim is a lease with a fencing number; the
// worker renews it while it builds, and only the holder of the newest lease may log
// to the job, read its source and say how it ended. The job of a worker that is
// lost is queued again, a few times. What a worker gives back, because it stops or lacks
// something, is queued again as often as need be, and Job.Error says why it waits. A removal never runs
// beside a build of its branch.
//
// A worker states labels when it claims: an architecture, a toolchain, a GPU. One that
// finds that a job needs others gives it back with them (Outcome.Needs), and from then on the
// job is given to workers alone that state them. A job whose branch has no configuration
// (Outcome.Unconfigured) is tried again when another repository of the project was built on
// the branch, and fails after an hour.
//
// A free worker gets a job of the project that has fewest running, and of those the one that
// has waited longest: a project with many jobs does not hold up another. Within a project
// the oldest is next; one more of priority is worth a minute of waiting.
//
// # Several nodes
//
// Every node of role patrick has all jobs and may be asked anything; one that does not
// know a job asks the others before it says so. A branch's arbiter, one of the nodes that
// answer, chosen by rendezvous hashing, makes its jobs and grants the leases on them, so
// that a push that is told to two nodes makes one job. A lease stays with the node that
// granted it. When that one goes away or hangs the next takes the lease over as it stands.
// Nodes that do not see each other may grant two; then one result is kept, everywhere the
// same, by the rules of package internal/claim, and Job.Order, which grows with each push
// of a branch, decides what is published.
//
// # Logs
//
// The worker says where in the log of its attempt each line belongs, so that what it sends
// again is there once. A line is acknowledged when it is on the disks of two nodes of patrick,
// where there are two: of a running attempt nothing that was acknowledged is lost with one
// node. When an attempt has ended hoarder keeps its log (WithKeeper), compressed, and the nodes
// of patrick let go of it; as long as no hoarder is in reach it stays where it is.
//
// Lines have IDs and the step of the build that they are of. Every node has the same ones, and a
// reader goes on after any of them at any node:
//
//	for line, err := range client.Lines(ctx, job, patrick.LogOptions{Follow: true}) { … }
//
// Over HTTP they are server-sent events, with Last-Event-ID. A client, and a node that reads for
// one, goes on by itself when the node goes away that it reads from. A log is bounded
// (WithLogLimit); what was cut off is said in its place. Of a log only what is on its way is in
// memory.
//
// # What is kept
//
// Jobs that have ended go after a time, and beyond a number for each branch (WithRetention),
// with all of their logs. The latest job of a branch stays, the last that succeeded, and those
// whose results run (WithDeployed). Of a branch that was removed, or whose repository was,
// nothing stays once all of it is old.
//
// # Who sees what
//
// Users see the jobs of their projects. A worker sees those that it holds, for as long as it
// does, and does what is under a lease in the name of the job, as a principal of its own.
package patrick
