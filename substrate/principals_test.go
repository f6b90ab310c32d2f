package substrate_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/rpc"
)

// What a guest has done for it comes in at a hoarder as the guest's: its project, branch,
// application and function. What the node does for itself comes as the node's.
func TestFunctionsAskInTheirOwnName(t *testing.T) {
	s := newStore(t)
	far := s.net.Node(taubyte.RoleHoarder)
	h := s.hoards(far)
	var mu sync.Mutex
	came := map[string][]taubyte.Principal{} // by the method and the last part of the path
	server, err := rpc.Serve(far, hoarder.Protocol, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		call := r.Method + " " + parts[len(parts)-1]
		p := taubyte.PrincipalOf(r.Context())
		p.Node = taubyte.Membership{}
		mu.Lock()
		came[call] = append(came[call], p)
		mu.Unlock()
		h.Handler().ServeHTTP(w, r)
	}))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	s.serves()
	s.put(project, "main", "here", append(inApplication("app", database("inner", "inner"), keeps("app-db", value("inner", "k"))),
		storage("files", "files"), keeps("file", file("files", "k")), keeps("pushes", pushes()), keeps("named", named()))...)
	mu.Lock()
	for call, all := range came {
		for _, p := range all {
			require.Equal(t, taubyte.KindNode, p.Kind, "%s before anything runs", call)
		}
	}
	clear(came)
	mu.Unlock()
	require.Equal(t, "200 ", s.post("here", "/app-db", "x"))
	require.Equal(t, "200 x", s.post("here", "/app-db", ""))
	require.Equal(t, "200 ", s.post("here", "/file", "y"))
	pushed := s.post("here", "/pushes", "z")[len("200 "):]
	require.Equal(t, "200 z", s.post("here", "/named", pushed))

	by := func(name string, application taubyte.ApplicationID) taubyte.Principal {
		return taubyte.Principal{
			Kind: taubyte.KindFunction, Name: name, Projects: []taubyte.ProjectID{project}, Branch: "main",
			Application: application, Resource: taubyte.ResourceID("id-" + name),
		}
	}
	mu.Lock()
	defer mu.Unlock()
	known := []taubyte.Principal{by("app-db", "app"), by("file", ""), by("pushes", ""), by("named", "")}
	for call, all := range came {
		for _, p := range all {
			require.Contains(t, known, p, call)
		}
	}
	for call, want := range map[string]taubyte.Principal{
		"PUT value": known[0], "GET value": known[0], "PUT file": known[1], "GET content": known[3],
	} {
		require.True(t, slices.ContainsFunc(came[call], func(p taubyte.Principal) bool { return p.Name == want.Name }), "%s of %v", call, came)
	}
}
