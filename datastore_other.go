//go:build !unix

package taubyte

import "errors"

// errLockHeld has no portable value here; isLocked goes by the texts.
var errLockHeld = errors.New("lock held")
