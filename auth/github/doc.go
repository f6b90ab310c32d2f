// Package github is GitHub, and GitHub Enterprise, as a git provider of package auth.
//
//	provider, err := github.New(github.WithToken(token))
//	service, err := auth.New(ctx, host, store, auth.WithProvider(provider))
//
// # Credentials
//
// The provider acts by a credential of its own: a personal or OAuth token (WithToken), one
// that is renewed (WithTokenSource), or that of an installation of a GitHub App (WithApp).
// Where a call comes with its caller's credential, that is used instead.
//
// # Repositories
//
// A repository is known by GitHub's numeric id, "github/<id>": it may be renamed or moved
// to another owner. Its source is read over ssh by its deploy key where it has one, and
// otherwise over HTTPS with the credential, by the git program of the machine. Over ssh the
// keys of the host are those that GitHub publishes by its API, or those of WithHostKeys.
//
// # Limits
//
// Branches are asked for conditionally: an answer that nothing changed does not count
// against the limit of requests in an hour, so that a cloud may look at thousands of
// repositories each minute. Calls are paced at ten a second, which is below GitHub's
// secondary limits. Where GitHub wants fewer all the same, a call waits for up to a
// minute, and after that gives ErrUnavailable until the limit is over, without asking.
package github
