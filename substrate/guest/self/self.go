// Package self tells a function what it is.
package self

import (
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/internal/sdk"
)

// Project is the ID of the function's project.
func Project() (string, error) { return text(sdk.SelfProjectSize, sdk.SelfProject) }

// Application is the ID of the function's application, empty for a function of
// the project itself.
func Application() (string, error) { return text(sdk.SelfApplicationSize, sdk.SelfApplication) }

// ID is the ID of the function.
func ID() (string, error) { return text(sdk.SelfIdSize, sdk.SelfId) }

// Branch is the branch that the function was deployed from.
func Branch() (string, error) { return text(sdk.SelfBranchSize, sdk.SelfBranch) }

// Commit is the commit of the configuration that the function was deployed by.
func Commit() (string, error) { return text(sdk.SelfCommitSize, sdk.SelfCommit) }

func text(size func(*uint32) errno.Errno, bytes func(*byte) errno.Errno) (string, error) {
	return sdk.Text(size, func(b *byte, _ uint32) errno.Errno { return bytes(b) })
}
