package monkey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/taubyte/taubyte"
)

// An outage is an error that is not the build's: it comes from the worker's machine or
// from a service that the worker needs. The job is given back and tried again.
type outage struct{ err error }

func (o *outage) Error() string { return o.err.Error() }
func (o *outage) Unwrap() error { return o.err }

// ours marks an error as an outage.
func ours(err error) error {
	if err == nil {
		return nil
	}
	return &outage{err}
}

// machine are the errors of a system that has run out of something.
var machine = []error{
	syscall.ENOSPC, syscall.EDQUOT, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE,
	syscall.EAGAIN, syscall.EIO, syscall.EROFS,
}

// isOutage reports whether an error is not the build's.
func isOutage(err error) bool {
	var marked *outage
	var missing *MissingError
	if errors.As(err, &marked) || errors.As(err, &missing) { // another worker may have what is missing
		return true
	}
	for _, e := range []error{taubyte.ErrUnavailable, taubyte.ErrClosed, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return slices.ContainsFunc(machine, func(e error) bool { return errors.Is(err, e) })
}

// ofService marks a service's error as an outage, unless it says that the build asks for
// what can't be had.
func ofService(err error) error {
	for _, e := range []error{taubyte.ErrInvalid, taubyte.ErrTooLarge, taubyte.ErrForbidden, taubyte.ErrConflict} {
		if errors.Is(err, e) {
			return err
		}
	}
	return ours(err)
}

// isLost reports whether patrick says that a lease is the worker's no longer.
func isLost(err error) bool {
	return errors.Is(err, taubyte.ErrConflict) || errors.Is(err, taubyte.ErrForbidden)
}

// stream is a source on its way from other nodes: what goes wrong in reading is an outage,
// unless they say that the source itself can't be read.
type stream struct{ io.Reader }

func (s stream) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = ofService(err)
	}
	return n, err
}

// minRoom is what has to be free on the disk that builds write to. With less, a worker
// claims no job, and a command that fails is not at fault.
const minRoom = 64 << 20

// room returns an error where the disk that builds write to is as good as full.
func (s *Service) room() error {
	usage, err := vfs.Default.GetDiskUsage(s.o.workDir)
	if err == nil && usage.AvailBytes < s.o.minRoom {
		return ours(fmt.Errorf("%w on the worker: %d bytes are left in %s, and builds begin when there are %d",
			syscall.ENOSPC, usage.AvailBytes, s.o.workDir, s.o.minRoom))
	}
	return nil
}

// failed returns why a command has failed: by itself, or because the disk is full.
func (s *Service) failed(err error) error {
	var exit *ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if full := s.room(); full != nil {
		return fmt.Errorf("%w (%w)", full, err)
	}
	return err
}
