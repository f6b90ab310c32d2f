//go:build !wasip1

package guesttest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/taubyte/taubyte/substrate/guest"
	"github.com/taubyte/taubyte/substrate/guest/database"
	"github.com/taubyte/taubyte/substrate/guest/dns"
	"github.com/taubyte/taubyte/substrate/guest/errno"
	"github.com/taubyte/taubyte/substrate/guest/event"
	"github.com/taubyte/taubyte/substrate/guest/fetch"
	"github.com/taubyte/taubyte/substrate/guest/globals"
	"github.com/taubyte/taubyte/substrate/guest/guesttest"
	"github.com/taubyte/taubyte/substrate/guest/log"
	"github.com/taubyte/taubyte/substrate/guest/pubsub"
	"github.com/taubyte/taubyte/substrate/guest/random"
	"github.com/taubyte/taubyte/substrate/guest/secret"
	"github.com/taubyte/taubyte/substrate/guest/self"
	"github.com/taubyte/taubyte/substrate/guest/storage"
)

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, what string, ok bool) {
	t.Helper()
	if !ok {
		t.Errorf("%s is wrong", what)
	}
}

func text(t *testing.T, r *http.Response) string {
	return fmt.Sprint(r.StatusCode, " ", string(must[[]byte](t)(io.ReadAll(r.Body))))
}

func TestHandler(t *testing.T) {
	h := guesttest.New(t)
	entry := func(e uint32) uint32 {
		return guest.ServeHTTP(e, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Seen", r.Header.Get("X-Sent"))
			w.WriteHeader(http.StatusCreated)
			body, _ := io.ReadAll(r.Body)
			fmt.Fprint(w, r.Method, " ", r.RequestURI, " ", r.Host, " ", r.URL.Query()["a"], " ", string(body))
		}))
	}
	for range 2 {
		r := httptest.NewRequest("POST", "http://shop.example/x%20y?a=1&a=2", strings.NewReader("in"))
		r.Header["X-Sent"] = []string{"1", "2"}
		got := h.HTTP(entry, r)
		check(t, "header", got.Header.Get("X-Seen") == "1, 2" && got.Header.Get("Content-Type") == "text/plain; charset=utf-8")
		if body := text(t, got); body != "201 POST /x%20y?a=1&a=2 shop.example [1 2] in" {
			t.Error(body)
		}
	}
	r := httptest.NewRequest("GET", "/items/7", nil)
	r.Pattern = "/items/{id}"
	r.SetPathValue("id", "7")
	got := h.HTTP(func(e uint32) uint32 {
		return guest.ServeHTTP(e, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Pattern+" "+r.PathValue("id")) }))
	}, r)
	check(t, "a path with wildcards", text(t, got) == "200 /items/{id} 7")
	got = h.HTTP(func(e uint32) uint32 {
		return guest.ServeHTTP(e, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "half")
			panic("in the middle")
		}))
	}, httptest.NewRequest("GET", "/", nil))
	check(t, "a panic", text(t, got) == "500 The function failed.\n")
}

func TestEvents(t *testing.T) {
	h := guesttest.New(t)
	var last event.HTTP
	got := h.HTTP(func(e uint32) uint32 {
		x := event.HTTP(e)
		last = x
		check(t, "kind", event.KindOf(e) == event.KindHTTP && event.KindOf(e+1) == event.Unknown)
		check(t, "query", slices.Equal(x.QueryValues("a"), []string{"1", "\x00", ""}) && x.Query("a") == "1" && slices.Equal(x.QueryNames(), []string{"a"}))
		check(t, "header", slices.Equal(x.HeaderLines("x-list"), []string{"1, 2", "3"}) && x.Header("X-List") == "1, 2, 3" && x.HeaderLines("X-None") == nil)
		x.WriteString("no")
		x.AddHeader("X-Late", "1")
		x.Status(404)
		return 0
	}, func() *http.Request {
		r := httptest.NewRequest("GET", "/?a=1&a=%00&a=", nil)
		r.Header["X-List"] = []string{"1, 2", "3"}
		return r
	}())
	check(t, "a late status", text(t, got) == "404 no" && got.Header.Get("X-Late") == "")
	check(t, "an event that is over", last.Method() == "" && last.Status(200) != nil)
	got = h.HTTP(func(e uint32) uint32 { event.HTTP(e).Redirect("/there", 303); event.HTTP(e).Status(200); return 0 }, httptest.NewRequest("GET", "/", nil))
	check(t, "a redirection", got.StatusCode == 303 && got.Header.Get("Location") == "/there")
	got = h.HTTP(func(e uint32) uint32 { x := event.HTTP(e); x.Flush(); x.Status(404); return 0 }, httptest.NewRequest("GET", "/", nil))
	check(t, "a status after something has left", got.StatusCode == 200)

	h.Channels = []string{"in", "out"}
	result := h.Message(func(e uint32) uint32 {
		m := event.PubSub(e)
		check(t, "channel", must[string](t)(m.Channel()) == "in")
		if err := pubsub.PublishText("out", "heard "+string(must[[]byte](t)(m.Data()))); err != nil {
			t.Error(err)
		}
		check(t, "errors", pubsub.PublishText("out", "\xff") == errno.PublishFailed && pubsub.Publish("none", nil) == errno.PublishFailed &&
			pubsub.Subscribe("none") == errno.SubscribeFailed && pubsub.Subscribe("in") == nil && pubsub.Publish("out", []byte{0xff}) == nil)
		return 7
	}, "in", []byte("you"))
	check(t, "result", result == 7)
	check(t, "published", len(h.Published) == 2 && h.Published[0].Text && string(h.Published[0].Data) == "heard you" && !h.Published[1].Text)

	due := time.Unix(1000, 5).UTC()
	check(t, "a tick", h.Tick(func(e uint32) uint32 {
		return guest.ServeTimer(e, func(at time.Time) error {
			if !at.Equal(due) {
				return errors.New("another time")
			}
			return nil
		})
	}, due) == 0)
}

func TestResources(t *testing.T) {
	h := guesttest.New(t)
	h.Secrets["TOKEN"] = "t"
	h.Self.Branch = "main"
	check(t, "secret", must[string](t)(secret.Get("TOKEN")) == "t" && must[string](t)(self.Branch()) == "main")
	_, err := secret.Get("NONE")
	check(t, "no secret", err == errno.KeystoreNotFound)
	log.Warn("careful")
	check(t, "log", slices.Equal(h.Logged, []guesttest.Entry{{Level: log.LevelWarn, Message: "careful"}}))
	check(t, "random", must[int](t)(random.Read(make([]byte, 8))) == 8)
	check(t, "globals", globals.Function.SetBytes("n", []byte{1}) == nil && string(must[[]byte](t)(globals.Function.Bytes("n"))) == "\x01")
	_, err = globals.Project.Bytes("n")
	check(t, "another scope", err == errno.DatabaseKeyNotFound)
	_, err = dns.New()
	check(t, "what there is not", err == errno.Outside)

	db := must[database.DB](t)(database.Open("notes"))
	check(t, "put", db.Put("a/b", []byte("1")) == nil && db.Put("/a/c", nil) == nil && db.Put("ab", nil) == nil && db.Put("", nil) == database.ErrNotPut)
	check(t, "get", string(must[[]byte](t)(db.Get("/a/b"))) == "1" && string(h.Databases["notes"]["/a/b"]) == "1")
	check(t, "list", slices.Equal(must[[]string](t)(db.List("a")), []string{"/a/b", "/a/c"}))
	check(t, "delete", db.Delete("a/b") == nil && db.Close() == nil)
	_, err = db.Get("a/b")
	check(t, "missing", err == database.ErrNotFound)

	st := must[storage.Storage](t)(storage.Open("files"))
	check(t, "empty", len(must[[]storage.Entry](t)(st.List())) == 0)
	check(t, "add", must[uint32](t)(st.Add("a", []byte("one"), false)) == 1 && must[uint32](t)(st.AddFrom("a", strings.NewReader("two!"), false)) == 2)
	_, err = st.AddFrom("b", iotest.ErrReader(io.ErrUnexpectedEOF), false)
	check(t, "broken", err == io.ErrUnexpectedEOF)
	check(t, "list", slices.Equal(must[[]storage.Entry](t)(st.List()), []storage.Entry{{Name: "a", Version: 1}, {Name: "a", Version: 2}}))
	check(t, "version", must[uint32](t)(st.Version("a")) == 2 && slices.Equal(must[[]uint32](t)(st.Versions("a")), []uint32{1, 2}) && must[uint64](t)(st.Used()) == 7)
	f := must[*storage.File](t)(st.File("a", 1))
	check(t, "read", string(must[[]byte](t)(io.ReadAll(f))) == "one" && f.Close() == nil)
	check(t, "overwrite", must[uint32](t)(st.Add("a", []byte("three"), true)) == 2 && string(h.Storages["files"]["a"].Versions[2]) == "three")
	check(t, "delete", st.Delete("a", 1) == nil && st.DeleteAll("a") == nil && st.Delete("a", 1) == errno.DeleteFileFailed)
}

func TestFetch(t *testing.T) {
	h := guesttest.New(t)
	ask := func() (status string, err error) {
		h.HTTP(func(uint32) uint32 {
			var r *fetch.Response
			if r, err = fetch.Do(fetch.Request{Method: "PUT", URL: "https://api.example/x", Header: map[string][]string{"X-A": {"1", "2"}}, Body: []byte("in")}); err == nil {
				body, _ := io.ReadAll(r.Body)
				status = fmt.Sprint(r.Status(), " ", string(body), " ", r.Headers()["X-B"], " ", r.Body.Close())
			}
			return 0
		}, httptest.NewRequest("GET", "/", nil))
		return status, err
	}
	_, err := ask()
	check(t, "nobody", err == errno.HttpRequestFailed)
	h.Fetch = guesttest.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header()["X-B"] = r.Header["X-A"]
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, r.Method, " ", r.URL, " ", string(body))
	}))
	if got := must[string](t)(ask()); got != "418 PUT https://api.example/x in [1 2] <nil>" {
		t.Error(got)
	}
}
