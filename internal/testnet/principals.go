package testnet

import (
	"context"
	"iter"

	"github.com/taubyte/taubyte"
)

// Outsiders are contexts of those who may read a project, own it, build it or run in
// it, and nothing of the network as a whole, by what they are.
func Outsiders(ctx context.Context, project taubyte.ProjectID) iter.Seq2[string, context.Context] {
	projects := []taubyte.ProjectID{project}
	return func(yield func(string, context.Context) bool) {
		for what, p := range map[string]taubyte.Principal{
			"an owner":         {Kind: taubyte.KindUser, Name: "ann", Verb: taubyte.VerbAdminister, Projects: projects},
			"a git credential": {Kind: taubyte.KindUser, Verb: taubyte.VerbAdminister, AllProjects: true, Repositories: []taubyte.RepositoryID{"local/a"}},
			"a job":            {Kind: taubyte.KindJob, Projects: projects, Branch: "main", Job: "j"},
			"a function":       {Kind: taubyte.KindFunction, Projects: projects, Branch: "main", Resource: "f"},
			"nobody":           {},
		} {
			if !yield(what, taubyte.WithPrincipal(ctx, p)) {
				return
			}
		}
	}
}

// Reader is a context of a user that may read everything and do nothing.
func Reader(ctx context.Context) context.Context {
	return taubyte.WithPrincipal(ctx, taubyte.Principal{Kind: taubyte.KindUser, Name: "bob", Verb: taubyte.VerbRead, AllProjects: true})
}
