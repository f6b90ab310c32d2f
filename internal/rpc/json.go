package rpc

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

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

// Beat is how long a stream that is followed says nothing at most, and Silence how
// long its reader waits before it takes the other side for gone: a node that hangs
// keeps its connection.
const (
	Beat    = time.Second
	Silence = 5 * Beat
)

// Follow sends what comes from a channel until that closes, with an empty line for
// every so long that nothing comes.
func Follow[T any](s *Stream, values <-chan T, every time.Duration) error {
	beat := time.NewTicker(every)
	defer beat.Stop()
	for {
		select {
		case v, ok := <-values:
			if !ok {
				return nil
			}
			if err := s.Send(v); err != nil {
				return err
			}
			beat.Reset(every)
		case <-beat.C:
			if _, err := s.w.Write([]byte{'\n'}); err != nil {
				return err
			}
			if err := s.rc.Flush(); err != nil {
				return err
			}
		}
	}
}

// Followed reads what Follow sends. It is closed when a Read waits for so long.
func Followed(body io.ReadCloser, silence time.Duration) io.ReadCloser {
	f := &followed{ReadCloser: body, silence: silence}
	f.timer = time.AfterFunc(silence, func() { _ = body.Close() })
	f.timer.Stop()
	return f
}

type followed struct {
	io.ReadCloser
	silence time.Duration
	timer   *time.Timer
}

func (f *followed) Read(p []byte) (int, error) {
	f.timer.Reset(f.silence)
	defer f.timer.Stop()
	return f.ReadCloser.Read(p)
}

func (f *followed) Close() error {
	f.timer.Stop()
	return f.ReadCloser.Close()
}
