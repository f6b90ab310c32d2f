//go:build tools

// Package gitea builds the Gitea that the tests of auth/gitea run against. It has a module
// of its own, so that nothing of it is in the product's.
//
//	GOFLAGS=-mod=mod go build -C test/gitea -tags 'sqlite sqlite_unlock_notify' -o /tmp/gitea code.gitea.io/gitea
//	GITEA=/tmp/gitea go test ./auth/gitea
package gitea

import _ "code.gitea.io/gitea"
