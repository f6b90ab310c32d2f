//go:build unix

package taubyte

import "syscall"

// errLockHeld is what locking a file that another process has locked gives.
var errLockHeld error = syscall.EAGAIN
