// Command notes is a WebAssembly module that keeps notes: their text in a database,
// and a file for each that has one in a storage.
//
//	POST   /notes                  a text            the note
//	GET    /notes                                    all notes
//	GET    /notes?id=…                               one
//	DELETE /notes?id=…
//	PUT    /attachment?id=…&name=… a file            the note
//	GET    /attachment?id=…                          the file
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/taubyte/taubyte/substrate/guest"
	"github.com/taubyte/taubyte/substrate/guest/database"
	"github.com/taubyte/taubyte/substrate/guest/storage"
)

func main() {}

//go:wasmexport serve
func serve(e uint32) uint32 { return guest.ServeHTTP(e, mux) }

var mux = http.NewServeMux()

func init() {
	mux.Handle("POST /notes", handler(add))
	mux.Handle("GET /notes", handler(read))
	mux.Handle("DELETE /notes", handler(remove))
	mux.Handle("PUT /attachment", handler(attach))
	mux.Handle("GET /attachment", handler(attachment))
}

// A Note is kept under its id.
type Note struct {
	ID         string
	Text       string
	Time       time.Time
	Attachment string `json:",omitempty"` // its name
}

const below = "notes" // which all keys are

func key(id string) string { return below + "/" + id }

func add(s stores, w http.ResponseWriter, r *http.Request) error {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if len(text) == 0 {
		return fail{http.StatusBadRequest, "a note has a text"}
	}
	now := time.Now().UTC()
	n := Note{ID: newID(now), Text: string(text), Time: now}
	if err := s.put(n); err != nil {
		return err
	}
	return answer(w, http.StatusCreated, n)
}

func read(s stores, w http.ResponseWriter, r *http.Request) error {
	if id := r.FormValue("id"); id != "" {
		n, err := s.note(id)
		if err != nil {
			return err
		}
		return answer(w, http.StatusOK, n)
	}
	keys, err := s.notes.List(below)
	if err != nil {
		return err
	}
	all := []Note{}
	for _, k := range keys { // which come in the order of the ids
		n, err := s.note(strings.TrimPrefix(k, "/"+below+"/"))
		if errors.Is(err, database.ErrNotFound) {
			continue // removed at this moment
		}
		if err != nil {
			return err
		}
		all = append(all, n)
	}
	return answer(w, http.StatusOK, all)
}

func remove(s stores, w http.ResponseWriter, r *http.Request) error {
	n, err := s.note(r.FormValue("id"))
	if err != nil {
		return err
	}
	if n.Attachment != "" {
		if err := s.files.DeleteAll(n.ID); err != nil {
			return err
		}
	}
	if err := s.notes.Delete(key(n.ID)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func attach(s stores, w http.ResponseWriter, r *http.Request) error {
	n, err := s.note(r.FormValue("id"))
	if err != nil {
		return err
	}
	if n.Attachment = r.FormValue("name"); n.Attachment == "" {
		return fail{http.StatusBadRequest, "a file has a name"}
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if _, err := s.files.Add(n.ID, content, true); err != nil {
		return err
	}
	if err := s.put(n); err != nil {
		return err
	}
	return answer(w, http.StatusOK, n)
}

func attachment(s stores, w http.ResponseWriter, r *http.Request) error {
	n, err := s.note(r.FormValue("id"))
	if err != nil {
		return err
	}
	f, err := s.files.File(n.ID, storage.Latest)
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", n.Attachment))
	_, err = io.Copy(w, f)
	return err
}

// stores are what the project keeps. To open them costs nothing after the first time.
type stores struct {
	notes database.DB
	files storage.Storage
}

func open() (s stores, err error) {
	if s.notes, err = database.Open("notes"); err != nil {
		return s, err
	}
	s.files, err = storage.Open("attachments")
	return s, err
}

func (s stores) note(id string) (n Note, err error) {
	value, err := s.notes.Get(key(id))
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(value, &n)
}

func (s stores) put(n Note) error {
	value, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return s.notes.Put(key(n.ID), value)
}
