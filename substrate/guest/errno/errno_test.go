package errno_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/taubyte/taubyte/substrate/guest/errno"
)

func TestNames(t *testing.T) {
	for e, want := range map[errno.Errno]string{
		1:   "event not found",
		29:  "database key not found",
		38:  "get web socket URL failed",
		124: "ethereum invalid input JSON",
		125: "error 125 of the host",
	} {
		if e.Error() != want {
			t.Errorf("%d is %q", e, e.Error())
		}
	}
	if errno.None.Err() != nil || errno.EOF != 8 || errno.P2PDiscoverFailed != 117 {
		t.Error("the numbers have moved")
	}
	if err := fmt.Errorf("x: %w", errno.DatabaseKeyNotFound.Err()); !errors.Is(err, errno.DatabaseKeyNotFound) {
		t.Error("an error is not found again")
	}
}
