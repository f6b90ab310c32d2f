// Package localgit is a git provider of its own: bare repositories in a folder of each
// control node, served over git's smart HTTP protocol by the git program of the machine.
//
//	server, err := localgit.New(ctx, host, store, "repositories", localgit.WithAccess(access), localgit.WithOnPush(heard))
//	http.Handle("/git/", http.StripPrefix("/git", server))
//
// A repository exists from the first push on: /<name>.git. Names are letters,
// digits, ".", "_" and "-".
//
// # Several nodes
//
// Every node that runs a Server serves every repository. A push is acknowledged when
// its objects and references are on the disks of two of them. Where no other answers
// within about two seconds it is taken by one, and the pusher is told so. A clone or a
// fetch has every push that was acknowledged before it, at whatever node: a node that is
// behind catches up first, passes the request on to one that is not, or answers 503.
//
// What references are is a replicated store (crdt "git"), which only nodes of role auth
// write. Objects go from node to node by git's own protocol. Of the nodes that are
// connected one decides on the pushes to a repository, one after the other, so that of
// two clients that push to a branch at the same time one is told to fetch first. On two
// sides of a cut both are taken. When it has healed, the later push is the branch, on
// every node, and the commits of the other are at refs/conflicts/<number>-<node>/heads/<branch>:
//
//	git fetch origin 'refs/conflicts/*:refs/conflicts/*'
//	git merge refs/conflicts/<number>-<node>/heads/main
//	git push origin main :refs/conflicts/<number>-<node>/heads/main
//
// # Pushes
//
// What a push says has happened is on disk. OnPush hears of it after that, on the node
// that decided; what it returns is told to the pusher and changes nothing, so that a
// push is never lost to whoever compares branch heads.
//
// git runs with none of the machine's or the user's configuration, without hooks,
// and in a process group that ends with the request. How many run at a time is bounded,
// and how long. Packs of many pushes are put together by git gc, at the lowest priority;
// what nothing refers to any more goes after two weeks.
package localgit
