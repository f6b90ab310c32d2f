// Package forge is what providers of git repositories that are reached by an HTTP API
// share: reading what their webhooks send, keeping to their limits, lists of branches that
// are whole, and fetching a commit with git.
package forge
