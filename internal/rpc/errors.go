package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/taubyte/taubyte"
)

// A Code is the name that an error has on the wire.
type Code struct {
	Name string
	Err  error
}

// Codes are the errors that a service and its clients know beyond those of the
// root package. The first that errors.Is matches is sent, so the more special
// stand first.
type Codes []Code

// shared are the errors of the root package and of deadlines, with the HTTP status
// of each. A service's own code has the status of the shared error it wraps.
var shared = []struct {
	Code
	status int
}{
	{Code{"not-found", taubyte.ErrNotFound}, http.StatusNotFound},
	{Code{"invalid", taubyte.ErrInvalid}, http.StatusBadRequest},
	{Code{"conflict", taubyte.ErrConflict}, http.StatusConflict},
	{Code{"forbidden", taubyte.ErrForbidden}, http.StatusForbidden},
	{Code{"too-large", taubyte.ErrTooLarge}, http.StatusRequestEntityTooLarge},
	{Code{"unavailable", taubyte.ErrUnavailable}, http.StatusServiceUnavailable},
	{Code{"closed", taubyte.ErrClosed}, http.StatusServiceUnavailable},
	{Code{"deadline", context.DeadlineExceeded}, http.StatusGatewayTimeout},
}

// Error is an error that came from another node. errors.Is holds for what it
// was there.
type Error struct {
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	status  int
	err     error
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.err }

// maxErrorSize bounds what is read of an error's body.
const maxErrorSize = 64 << 10

// WriteError answers with err: its status, its code, its message. That a context was
// cancelled is taubyte.ErrUnavailable: a node that closes cuts what is under way, and
// another may do better.
func WriteError(w http.ResponseWriter, err error, codes Codes) {
	e := Error{Message: err.Error(), status: http.StatusInternalServerError}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		err = fmt.Errorf("%w: %w", taubyte.ErrTooLarge, err)
	}
	if errors.Is(err, context.Canceled) {
		// Whoever still listens has not given up: it is this node that ends.
		err = fmt.Errorf("%w: %w", taubyte.ErrUnavailable, err)
	}
	for _, s := range shared {
		if errors.Is(err, s.Err) {
			e.Code, e.status = s.Name, s.status
			break
		}
	}
	for _, c := range codes {
		if errors.Is(err, c.Err) {
			e.Code = c.Name
			break
		}
	}
	e.write(w)
}

// Refuse answers with an error that no service has made.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	(&Error{Code: code, Message: message, status: status}).write(w)
}

func (e *Error) write(w http.ResponseWriter) {
	body, _ := json.Marshal(e)
	h := w.Header()
	h.Set("Content-Type", ErrorType)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(e.status)
	_, _ = w.Write(append(body, '\n'))
}

// ErrorType is the media type of errors.
const ErrorType = "application/vnd.taubyte.error+json"

// Names lists the codes of errors: those of every service, and further ones.
func Names(further Codes) []string {
	var names []string
	for _, s := range shared {
		names = append(names, s.Name)
	}
	for _, c := range further {
		names = append(names, c.Name)
	}
	return names
}

// ReadError returns the error that a response carries, or nil where its status
// is below 400. It closes the body of a response that carries one.
func ReadError(resp *http.Response, codes Codes) error {
	if resp.StatusCode < 400 {
		return nil
	}
	defer resp.Body.Close()
	e := &Error{status: resp.StatusCode}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorSize))
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || t != ErrorType ||
		json.Unmarshal(body, e) != nil || e.Message == "" {
		e.Message = fmt.Sprintf("%s %s: %s", resp.Request.Method, resp.Request.URL.Path, resp.Status)
	}
	for _, c := range codes {
		if c.Name == e.Code {
			e.err = c.Err
			return e
		}
	}
	for _, s := range shared {
		if s.Name == e.Code {
			e.err = s.Err
			return e
		}
	}
	for _, s := range shared { // another code, or none: as the status says
		if s.status == e.status {
			e.err = s.Err
			break
		}
	}
	return e
}
