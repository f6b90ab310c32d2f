package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/taubyte/taubyte/substrate/guest/database"
	"github.com/taubyte/taubyte/substrate/guest/storage"
)

// A fail is an error that the user is told.
type fail struct {
	status int
	text   string
}

func (f fail) Error() string { return f.text }

// handler gives a request the stores, and the user an error.
func handler(do func(stores, http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := open()
		if err == nil {
			err = do(s, w, r)
		}
		var told fail
		switch {
		case err == nil:
		case errors.As(err, &told):
			http.Error(w, told.text, told.status)
		case errors.Is(err, database.ErrNotFound), errors.Is(err, storage.ErrNotFound):
			http.Error(w, "there is no such thing", http.StatusNotFound)
		default:
			log.Print(r.Method, " ", r.URL, ": ", err)
			// What is left is a store that can't be reached, or can't say for sure what it has.
			w.Header().Set("Retry-After", "1")
			http.Error(w, "that can't be answered at the moment", http.StatusServiceUnavailable)
		}
	})
}

func answer(w http.ResponseWriter, status int, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(text)
	return err
}

// newID makes an id. Those that are made later come later in an alphabet.
func newID(t time.Time) string {
	return fmt.Sprintf("%012x-%s", t.UnixMilli(), rand.Text()[:8])
}
