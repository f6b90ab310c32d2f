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
// of all registered repositories with the jobs there are, at start and every minute.
//
// # Workers
//
// Nodes of role monkey claim jobs. A claim is a lease with a fencing number; the
// worker renews it while it builds, and only the holder of the newest lease may log
// to the job, read its source and say how it ended. The job of a worker that is
// lost is queued again, a few times. Jobs of one project do not wait for those of
// another that pushes more. A removal never runs beside a build of its branch.
//
// # Several nodes
//
// Every node of role patrick has all jobs and may be asked anything. Leases on a
// branch's jobs are granted by one of them, chosen by rendezvous hashing over those
// that are connected. When that one goes away the next takes the leases over as they
// stand. Nodes that cannot see each other may grant two; then the larger fence
// counts, and Job.Order, which grows with each push of a branch, decides what is
// published.
//
// # Logs
//
// What a worker logs is streamed to followers while the job runs, kept in the node's
// store meanwhile, and as a block from the attempt's end on. It is bounded; what was
// cut off is said in its place.
package patrick
