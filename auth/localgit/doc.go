// Package localgit is a git provider of its own: bare repositories in a folder,
// served over git's smart HTTP protocol by the git program of the machine.
//
//	server, err := localgit.New("repositories", localgit.WithAuthorize(check), localgit.WithOnPush(heard))
//	http.Handle("/git/", http.StripPrefix("/git", server))
//
// A repository exists from the first push on: /<name>.git. Names are letters,
// digits, ".", "_" and "-".
//
// A push is git's own transaction: all its references change, or none does, and
// what it says has happened is on disk. OnPush hears of it after that; what it
// returns is told to the pusher and changes nothing, so that a push is never lost
// to whoever compares branch heads.
//
// git runs with none of the machine's or the user's configuration, without hooks,
// and in a process group that ends with the request.
package localgit
