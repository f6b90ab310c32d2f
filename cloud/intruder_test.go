package cloud_test

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/internal/rpc"
	"github.com/taubyte/taubyte/internal/testnet"
)

// served are the protocols of handlers between nodes, by the folder of their code.
var served = map[string]protocol.ID{
	"auth": "/taubyte/auth/1", "auth/acme": "/taubyte/auth/acme/1", "seer": "/taubyte/seer/1", "tns": "/taubyte/tns/1",
	"hoarder": "/taubyte/hoarder/1", "patrick": "/taubyte/patrick/1", "monkey": "/taubyte/monkey/1", "gateway": "/taubyte/gateway/1",
	"substrate": "/taubyte/substrate/control/1", "substrate/internal/messages": "/taubyte/substrate/peers/1", "substrate/internal/commands": "/taubyte/substrate/peers/1",
}

// rights are the roles that may call each path. A path without a row, and a row without
// a path, fail the test: whoever adds one says whom it is for.
func rights(t *testing.T) map[string][]taubyte.Role {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "rights.txt"))
	require.NoError(t, err)
	all := map[string][]taubyte.Role{}
	for _, line := range strings.Split(string(text), "\n") {
		row, roles, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		row = strings.Join(strings.Fields(row), " ")
		all[row] = []taubyte.Role{}
		if strings.TrimSpace(roles) == "all" {
			all[row] = taubyte.Roles()
			continue
		}
		for _, f := range strings.Fields(roles) {
			r, err := taubyte.ParseRole(f)
			require.NoError(t, err, line)
			all[row] = append(all[row], r)
		}
	}
	return all
}

// holes are the names in a pattern.
var holes = regexp.MustCompile(`\{[^}]*\}`)

var pattern = regexp.MustCompile(`^(GET|POST|PUT|DELETE|PATCH|HEAD) (/.*)$`)

// patterns finds the patterns of handlers in the code of a folder: the strings that look
// like one, where parts of them may be constants of the same file.
func patterns(t *testing.T, dir string) (all []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		known := map[string]string{}
		ast.Inspect(file, func(n ast.Node) bool {
			var name, value ast.Expr
			switch n := n.(type) {
			case *ast.AssignStmt:
				if len(n.Lhs) == 1 && len(n.Rhs) == 1 {
					name, value = n.Lhs[0], n.Rhs[0]
				}
			case *ast.ValueSpec:
				if len(n.Names) == 1 && len(n.Values) == 1 {
					name, value = n.Names[0], n.Values[0]
				}
			}
			if id, ok := name.(*ast.Ident); ok {
				if text := fold(value, nil); strings.HasPrefix(text, "/") {
					known[id.Name] = text
				}
			}
			return true
		})
		ast.Inspect(file, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			if m := pattern.FindStringSubmatch(fold(e, known)); m != nil {
				all = append(all, m[0])
				return false
			}
			return true
		})
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// fold evaluates a string; what it does not know is "*".
func fold(e ast.Expr, known map[string]string) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			return strings.Trim(e.Value, "\"`")
		}
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return fold(e.X, known) + fold(e.Y, known)
		}
	case *ast.Ident:
		if text, ok := known[e.Name]; ok {
			return text
		}
		return "*"
	}
	return ""
}

// A node of each role calls every path of every service.
func TestWhoMayCallWhat(t *testing.T) {
	testnet.CheckLeaks(t)
	want := rights(t)
	var rows []string
	for dir := range served {
		for _, p := range patterns(t, dir) {
			rows = append(rows, dir+" "+p)
		}
	}
	slices.Sort(rows)
	require.Equal(t, slices.Sorted(maps.Keys(want)), rows, "testdata/rights.txt has a row for each path")

	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	n, err := cloud.Open(t.Context(), filepath.Join(t.TempDir(), "node"), cloud.WithAuthority(a), cloud.WithDevelopment(), cloud.WithACME(), cloud.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	describe(t, n).complete(t, want)
	got, hosts := map[string][]taubyte.Role{}, map[taubyte.Role]*taubyte.NodeHost{}
	for _, row := range rows {
		got[row] = []taubyte.Role{}
	}
	for _, role := range taubyte.Roles() {
		h := memberOf(t, n, a, role)
		hosts[role] = h
		for dir, id := range served {
			tr := rpc.NewTransport(h, id)
			for _, row := range rows {
				if f := strings.Fields(row); f[0] == dir {
					via := tr
					if f[2] == "/timers" { // mounted among the peers' paths
						via = rpc.NewTransport(h, served["substrate/internal/messages"])
						t.Cleanup(via.Close)
					}
					if status := call(t, via, n.Host.ID(), f[1], f[2]); status != http.StatusForbidden {
						got[row] = append(got[row], role)
					}
				}
			}
			tr.Close()
		}
	}
	var wrong []string
	for _, row := range rows {
		slices.Sort(got[row])
		slices.Sort(want[row])
		if !slices.Equal(got[row], want[row]) {
			wrong = append(wrong, fmt.Sprintf("%s: %v may, and %v should", row, got[row], want[row]))
		}
	}
	require.Empty(t, wrong)

	// What is no handler with paths.
	for id, may := range map[protocol.ID]taubyte.Role{"/taubyte/substrate/1": taubyte.RoleGateway, "/taubyte/git/1": taubyte.RoleAuth} {
		for _, role := range taubyte.Roles() {
			tr := rpc.NewTransport(hosts[role], id)
			require.Equal(t, role == may, call(t, tr, n.Host.ID(), "GET", "/") != http.StatusForbidden, "%s %s", id, role)
			tr.Close()
		}
	}

	// Whoever is no member, or none any more, reaches nothing.
	former := memberOf(t, n, a, taubyte.Roles()...)
	tr := rpc.NewTransport(former, "/taubyte/seer/1")
	t.Cleanup(tr.Close)
	require.Equal(t, http.StatusOK, call(t, tr, n.Host.ID(), "GET", "/nodes"))
	require.NoError(t, n.Auth.RevokeMember(t.Context(), former.ID().String()))
	for dir, id := range served {
		tr := rpc.NewTransport(former, id)
		require.Zero(t, call(t, tr, n.Host.ID(), "GET", "/"), dir)
		tr.Close()
	}
	require.Zero(t, call(t, tr, n.Host.ID(), "GET", "/nodes"), "nor by a stream that it had")
}

// memberOf starts a host that is connected to a node.
func memberOf(t *testing.T, n *cloud.Node, a *taubyte.Authority, roles ...taubyte.Role) *taubyte.NodeHost {
	t.Helper()
	h, err := taubyte.NewHost(t.Context(), taubyte.MemoryDatastore(), taubyte.WithAuthority(a, roles...),
		taubyte.WithPeers(peer.AddrInfo{ID: n.Host.ID(), Addrs: n.Host.Addrs()}), taubyte.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	testnet.Eventually(t, func() bool {
		_, err := h.Member(t.Context(), n.Host.ID())
		return err == nil
	}, "connected")
	return h
}

// refusal is how handlers refuse a role.
var refusal = regexp.MustCompile(`takes (one of the roles|the role|one of)|this is for workers`)

// call returns the status of an answer, 0 where there was none, and 403 where the
// caller's role is refused.
func call(t *testing.T, tr *rpc.Transport, p peer.ID, method, path string) int {
	t.Helper()
	path = holes.ReplaceAllString(path, "1")
	if strings.HasSuffix(path, "/grant") { // asked on behalf of a worker
		path += "?worker=" + p.String()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.String()+path, bytes.NewReader([]byte("{}")))
	require.NoError(t, err)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusForbidden {
		said, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		if !refusal.Match(said) { // the caller may ask; this request is nonsense
			return http.StatusBadRequest
		}
	}
	return resp.StatusCode
}
