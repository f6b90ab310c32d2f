package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/taubyte/taubyte"
)

// Error returns what an answer's status means in this module's errors. what says what was
// being done.
func Error(what string, status int, err error) error {
	if err == nil {
		return nil
	}
	var is error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, taubyte.ErrUnavailable), errors.Is(err, taubyte.ErrForbidden), errors.Is(err, taubyte.ErrInvalid):
		return fmt.Errorf("%s: %w", what, err)
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusUnavailableForLegalReasons:
		is = taubyte.ErrForbidden
	case status == http.StatusNotFound, status == http.StatusGone, status >= 300 && status < 400: // gone, or moved
		is = taubyte.ErrNotFound
	case status == http.StatusConflict:
		is = taubyte.ErrConflict
	case status == http.StatusBadRequest, status == http.StatusUnprocessableEntity:
		is = taubyte.ErrInvalid
	default: // no answer, half of one, 5xx
		is = taubyte.ErrUnavailable
	}
	return fmt.Errorf("%w: %s: %w", is, what, err)
}
