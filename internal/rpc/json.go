package rpc

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/taubyte/taubyte"
)

// DefaultBodyLimit bounds a JSON request where the service says nothing else.
const DefaultBodyLimit = 4 << 20

// Decode reads a request's JSON body of at most limit bytes.
func Decode(w http.ResponseWriter, r *http.Request, limit int64, in any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	if err := json.Unmarshal(body, in); err != nil {
		return fmt.Errorf("%w request: %w", taubyte.ErrInvalid, err)
	}
	return nil
}

// Reply answers with out as JSON, or with err where there is one.
func Reply(w http.ResponseWriter, out any, err error, codes Codes) {
	if err != nil {
		WriteError(w, err, codes)
		return
	}
	if out == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	body, err := json.Marshal(out)
	if err != nil {
		WriteError(w, fmt.Errorf("encoding the answer: %w", err), codes)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

// A Stream writes values to a response one at a time, each a line of JSON that
// is on its way when Send returns.
type Stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	enc *json.Encoder
}

// NewStream begins a response of JSON lines.
func NewStream(w http.ResponseWriter) (*Stream, error) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	s := &Stream{w: w, rc: http.NewResponseController(w), enc: json.NewEncoder(w)}
	return s, s.rc.Flush()
}

// Send writes one value.
func (s *Stream) Send(v any) error {
	if err := s.enc.Encode(v); err != nil {
		return err
	}
	return s.rc.Flush()
}
