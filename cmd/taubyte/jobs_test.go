package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// The log of a job is printed to its end although answers break off and the node is away in
// between: each line once.
func TestLogsGoOnByThemselves(t *testing.T) {
	var mu sync.Mutex
	calls, states := 0, []string{"running", "queued", "failed"}
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if !strings.HasSuffix(r.URL.Path, "/logs") {
			attempt := min(4-len(states), 2)
			fmt.Fprintf(w, `{"id": "j", "state": %q, "attempt": %d}`, states[0], attempt)
			if len(states) > 1 {
				states = states[1:]
			}
			return
		}
		calls++
		q := r.URL.Query()
		send := func(id, step, text string) {
			fmt.Fprintf(w, "id: %s\ndata: {\"step\":%q,\"text\":%q}\n\n:\n\n", id, step, text)
		}
		switch {
		case calls == 2: // the node starts again
			http.Error(w, `{"code": "unavailable", "message": "starting"}`, http.StatusServiceUnavailable)
		case q.Get("attempt") == "2":
			send("9-3", "", "again")
			fmt.Fprint(w, "event: end\ndata:\n\n")
		case q.Get("after") == "":
			send("7-5", "source", "one")
			send("7-9", "build", "two")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case q.Get("after") == "7-9":
			send("7-12", "build", "three")
			fmt.Fprint(w, "event: end\ndata:\n\n")
		default:
			http.Error(w, "after "+q.Get("after"), http.StatusBadRequest)
		}
	}))
	defer node.Close()
	code, out, errOut := taubyte(t, nil, "logs", "-f", "--api", node.URL, "--token", "x", "j")
	require.Zero(t, code, errOut)
	require.Equal(t, "source: one\nbuild: two\nbuild: three\nagain\n", out)
	mu.Lock()
	calls, states = 2, []string{"failed"}
	mu.Unlock()
	code, out, errOut = taubyte(t, nil, "logs", "--json", "--api", node.URL, "--token", "x", "j")
	require.Zero(t, code, errOut)
	require.Equal(t, `{"id":"7-5","step":"source","text":"one"}
{"id":"7-9","step":"build","text":"two"}
{"id":"7-12","step":"build","text":"three"}
`, out)
}
