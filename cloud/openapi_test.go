package cloud_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/tns"
)

// apiDocument is what a node says of its API.
type apiDocument struct {
	Paths      map[string]map[string]*apiOperation
	Components struct {
		Schemas   map[string]any
		Responses map[string]any
	}

	schemas *jsonschema.Compiler
	// succeeded are the operations of which a good answer was seen, as "METHOD /path".
	succeeded map[string]bool
}

type apiOperation struct {
	at          string // its JSON pointer
	Summary     string
	OperationID string
	Parameters  []struct{ Name, In, Description string }
	Responses   map[string]any
	Rights      struct {
		Extent string
		Verb   taubyte.Verb
		Roles  []taubyte.Role
	} `json:"x-rights"`
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

// describe reads a node's document, which takes no token, and checks it against OpenAPI.
func describe(t *testing.T, n *cloud.Node) *apiDocument {
	t.Helper()
	resp, text := ask(t, n, "", http.MethodGet, "/openapi.json")
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", text)
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)

	specification := jsonschema.NewCompiler()
	schema, err := os.ReadFile(filepath.Join("testdata", "openapi-3.1.json"))
	require.NoError(t, err)
	rules, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	require.NoError(t, err)
	require.NoError(t, specification.AddResource("openapi.json", rules))
	valid, err := specification.Compile("openapi.json")
	require.NoError(t, err)
	require.NoError(t, valid.Validate(parsed))

	d := &apiDocument{schemas: jsonschema.NewCompiler(), succeeded: map[string]bool{}}
	require.NoError(t, json.Unmarshal(text, d))
	d.schemas.DefaultDraft(jsonschema.Draft2020)
	d.schemas.AssertFormat()
	require.NoError(t, d.schemas.AddResource("api.json", parsed))
	ids := map[string]bool{}
	for path, item := range d.Paths {
		for method, op := range item {
			op.at = "/paths/" + pointer.Replace(path) + "/" + method
			require.NotEmpty(t, op.Summary, op.at)
			require.False(t, ids[op.OperationID], "%s is there twice", op.OperationID)
			ids[op.OperationID] = true
			for _, p := range op.Parameters {
				require.NotEmpty(t, p.Description, "%s of %s", p.Name, op.at)
			}
		}
	}
	// Nothing is answered that is not described. Users of the document are told less, so
	// that a field can be added.
	for name, schema := range parsed.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any) {
		if s := schema.(map[string]any); s["additionalProperties"] == nil {
			s["additionalProperties"] = false
		}
		_, err := d.schemas.Compile("api.json#/components/schemas/" + name)
		require.NoError(t, err, "which is checked against JSON Schema")
	}

	// It is asked for once.
	tag := resp.Header.Get("ETag")
	require.NotEmpty(t, tag)
	resp, text = ask(t, n, "", http.MethodGet, "/openapi.json", "If-None-Match", tag)
	require.Equal(t, http.StatusNotModified, resp.StatusCode)
	require.Empty(t, text)
	return d
}

// ask is request with the whole answer; of what is followed, the first line. resp is nil
// where the answer does not begin soon.
func ask(t *testing.T, n *cloud.Node, token, method, path string, headers ...string) (*http.Response, []byte) {
	t.Helper()
	return askWith(t, n, token, method, path, "{}", headers...)
}

func askWith(t *testing.T, n *cloud.Node, token, method, path, body string, headers ...string) (*http.Response, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.API()+path, strings.NewReader(body))
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if ctx.Err() != nil {
		return nil, nil
	}
	require.NoError(t, err, "%s %s", method, path)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK && (strings.Contains(path, "/watch") || strings.Contains(path, "/logs")) {
		return resp, nil
	}
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err, "%s %s", method, path)
	return resp, text
}

// check holds an answer to a request for a described path against the document: its
// status, its content type and its body.
func (d *apiDocument) check(t *testing.T, method, path string, resp *http.Response, body []byte) {
	t.Helper()
	if resp == nil {
		return
	}
	op := d.Paths[path][strings.ToLower(method)]
	require.NotNil(t, op, "%s %s is not described", method, path)
	status := strconv.Itoa(resp.StatusCode)
	require.Contains(t, op.Responses, status, "of %s %s: %s", method, path, body)
	answer, at := op.Responses[status].(map[string]any), op.at+"/responses/"+status
	if ref, ok := answer["$ref"].(string); ok {
		at = strings.TrimPrefix(ref, "#")
		answer = d.Components.Responses[ref[strings.LastIndexByte(ref, '/')+1:]].(map[string]any)
	}
	if resp.StatusCode < 400 {
		d.succeeded[method+" "+path] = true
	}
	content, _ := answer["content"].(map[string]any)
	if len(content) == 0 {
		require.Empty(t, body, "of %s %s", method, path)
		return
	}
	media := resp.Header.Get("Content-Type")
	require.Contains(t, content, media, "of %s %s", method, path)
	require.Regexp(t, "^no-(store|cache)", resp.Header.Get("Cache-Control"), "of %s %s", method, path)
	kind, _, _ := mime.ParseMediaType(media)
	if !strings.HasSuffix(kind, "json") || body == nil {
		return
	}
	schema, err := d.schemas.Compile("api.json#" + at + "/content/" + pointer.Replace(media) + "/schema")
	require.NoError(t, err)
	lines := [][]byte{body}
	if kind == "application/x-ndjson" {
		lines = bytes.Split(body, []byte("\n"))
	}
	for _, line := range lines {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		require.NoError(t, err, "of %s %s: %s", method, path, line)
		require.NoError(t, schema.Validate(value), "of %s %s: %s", method, path, line)
	}
}

// folders are where the code of described paths is, by what stands before them.
var folders = map[string]string{
	"/v1/auth/": "auth", "/v1/acme/": "auth/acme", "/v1/seer/": "seer", "/v1/tns/": "tns", "/v1/hoarder/": "hoarder",
	"/v1/patrick/": "patrick", "/v1/monkey/": "monkey", "/v1/gateway/": "gateway", "/v1/substrate/": "substrate",
}

// rows are the described operations of services, as the tables in testdata have them.
func (d *apiDocument) rows() map[string]*apiOperation {
	all := map[string]*apiOperation{}
	for path, item := range d.Paths {
		for prefix, folder := range folders {
			if rest, ok := strings.CutPrefix(path, prefix); ok {
				for method, op := range item {
					all[folder+" "+strings.ToUpper(method)+" /"+rest] = op
				}
			}
		}
	}
	return all
}

// complete checks that the document of a node that runs everything describes what is
// registered in the code, and nothing else: paths, parameters, and the roles that may.
func (d *apiDocument) complete(t *testing.T, rights map[string][]taubyte.Role) {
	t.Helper()
	described, registered := d.rows(), []string{}
	for _, folder := range folders {
		for _, p := range patterns(t, folder) {
			if row := folder + " " + p; row != "substrate POST /timers" { // of another protocol, between nodes
				registered = append(registered, row)
			}
		}
		named := map[string]bool{}
		for row, op := range described {
			if strings.HasPrefix(row, folder+" ") {
				for _, p := range op.Parameters {
					if p.In == "query" {
						named[p.Name] = true
					}
				}
			}
		}
		require.Equal(t, asked(t, folder), slices.Sorted(maps.Keys(named)), "of %s: the parameters in queries", folder)
	}
	slices.Sort(registered)
	require.Equal(t, registered, slices.Sorted(maps.Keys(described)))
	for row, op := range described {
		want := rights[row]
		if forWorkers[row] {
			want = append(slices.Clone(want), taubyte.RolePatrick)
		}
		require.ElementsMatch(t, want, op.Rights.Roles, "%s: the roles in testdata/rights.txt", row)
	}
	// The node's own: of all paths these three take no token, deliveries because they are signed.
	own := map[string]string{}
	for path, item := range d.Paths {
		for method, op := range item {
			if !strings.HasPrefix(path, "/v1/") || op.Rights.Extent == "anybody" {
				own[strings.ToUpper(method)+" "+path] = op.Rights.Extent
			}
		}
	}
	require.Equal(t, map[string]string{
		"GET /healthz": "anybody", "GET /openapi.json": "anybody", "POST /webhooks/{provider}/{repository}": "anybody", "GET /git/{repository}/info/refs": "project",
		"POST /git/{repository}/git-upload-pack": "project", "POST /git/{repository}/git-receive-pack": "project",
	}, own)
}

// forWorkers are operations that a node of role patrick may call for a worker, which the
// table of rights does not ask.
var forWorkers = map[string]bool{"patrick POST /jobs/{id}/finish": true, "patrick POST /jobs/{id}/log": true, "patrick POST /jobs/{id}/renew": true}

var word = regexp.MustCompile(`^[a-z]+$`)

// asked are the names that the handlers of a folder look up in queries.
func asked(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", folder, "*.go"))
	require.NoError(t, err)
	names := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || f.Sel.Name != "Get" && f.Sel.Name != "Has" {
				return true
			}
			switch of := f.X.(type) {
			case *ast.Ident:
				ok = of.Name == "q"
			case *ast.CallExpr:
				query, is := of.Fun.(*ast.SelectorExpr)
				ok = is && query.Sel.Name == "Query"
			default:
				ok = false
			}
			if ok {
				if name := fold(call.Args[0], nil); word.MatchString(name) {
					names[name] = true
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(names))
}

// asksOther are requests of which the table of principals asks another than the right is for:
// what a request is about stands in its body, which is empty there, or the request is
// for everything.
var asksOther = map[string]string{
	"auth GET /domains":              "asks for all",
	"auth GET /secrets/audit":        "asks for all",
	"auth POST /additions":           "names no project",
	"auth POST /certificates/inline": "names no project",
	"auth POST /domains":             "names no project",
	"auth POST /imports":             "names no project",
	"auth POST /projects":            "names no project",
	"auth POST /repositories":        "names no project",
	"substrate GET /serving":         "names no project",
	"patrick POST /push":             "of a repository that nobody has registered",
}

// mayBeUsed checks that the document says of each operation which tokens may call it, as
// testdata/principals.txt does.
func (d *apiDocument) mayBeUsed(t *testing.T, rows []string) {
	t.Helper()
	described := d.rows()
	for _, line := range rows {
		row, names, _ := strings.Cut(line, ":")
		op := described[row]
		require.NotNil(t, op, row)
		if asksOther[row] != "" {
			continue
		}
		want := []string{}
		for name, verb := range map[string]taubyte.Verb{"reader": taubyte.VerbRead, "deployer": taubyte.VerbDeploy, "owner": taubyte.VerbAdminister} {
			switch op.Rights.Extent {
			case "project":
				if verb.Includes(op.Rights.Verb) {
					want = append(want, name, "all-"+name)
				}
			case "everything":
				if verb.Includes(op.Rights.Verb) {
					want = append(want, "all-"+name)
				}
			case "every":
				want = append(want, name, "all-"+name)
			}
		}
		if op.Rights.Extent == "every" {
			want = append(want, "stranger")
		}
		require.ElementsMatch(t, want, strings.Fields(names), row)
	}
}

// elsewhere are operations that take more than a node alone: what their good answers look
// like follows from the type of the function that serves them.
var elsewhere = map[string]string{
	"POST /v1/auth/additions":                 "takes a git provider",
	"POST /v1/auth/imports":                   "takes a git provider",
	"POST /v1/auth/repositories/{id}/webhook": "takes a git provider",
	"POST /webhooks/{provider}/{repository}":  "takes a git provider",
	"POST /v1/auth/repositories/{id}/key":     "takes a git provider",
	"POST /git/{repository}/git-upload-pack":  "git's own",
	"POST /git/{repository}/git-receive-pack": "git's own",
}

// goodAnswers has the administrator call what the table of principals has called with
// nothing: every operation that users have is answered well once.
func goodAnswers(t *testing.T, n *cloud.Node, doc *apiDocument) {
	t.Helper()
	shopOf(t, n)
	cert, key := testnet.InlineCertificate(t, "shop.example.com")
	plain := strings.NewReplacer("    ", "")
	cert, key = plain.Replace(cert), plain.Replace(key)

	// A job that has run, and content that is kept.
	repository, err := n.Auth.Heads(t.Context(), "local/shop")
	require.NoError(t, err)
	lease, err := n.Patrick.Claim(t.Context())
	require.NoError(t, err)
	require.NoError(t, n.Patrick.Log(t.Context(), lease, -1, []byte("it builds\n")))
	require.NoError(t, n.Patrick.Finish(t.Context(), lease, patrick.Outcome{State: patrick.Succeeded}))
	hash, err := multihash.Sum([]byte("a website"), multihash.SHA2_256, -1)
	require.NoError(t, err)
	website, err := blocks.NewBlockWithCid([]byte("a website"), cid.NewCidV1(cid.Raw, hash))
	require.NoError(t, err)
	require.NoError(t, n.Host.Blocks().AddBlock(t.Context(), website))
	require.NoError(t, n.Hoarder.Keep(t.Context(), website.Cid(), hoarder.KeepOptions{Project: projectA}))

	text := func(v any) string {
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		return string(raw)
	}
	head := "/v1/tns/projects/" + projectA + "/branches/main"
	const project, branch = "/v1/auth/projects/{id}", "/v1/tns/projects/{project}/branches/{branch}"
	for _, c := range []struct{ method, path, asked, body string }{
		{"GET", "/openapi.json", "", ""},
		{"GET", "/healthz", "", ""},
		{"GET", "/git/{repository}/info/refs", "/git/shop.git/info/refs?service=git-upload-pack", ""},
		{"POST", "/v1/auth/projects", "", `{"name": "one more"}`},
		{"POST", "/v1/auth/tokens", "", `{"name": "ci", "verb": "read", "all": true}`},
		{"POST", "/v1/auth/repositories", "", text(auth.Repository{ID: "local/tools", Project: projectA, Kind: auth.KindLibrary, Name: "tools"})},
		{"PUT", project + "/variables", "/v1/auth/projects/" + projectA + "/variables", `{"kind": "env", "name": "COLOUR", "value": "cmVk"}`},
		{"GET", project + "/variables", "/v1/auth/projects/" + projectA + "/variables?kind=env", ""},
		{"DELETE", project + "/variables", "/v1/auth/projects/" + projectA + "/variables?kind=env&name=COLOUR", ""},
		{"POST", "/v1/auth/domains", "", text(auth.Domain{Project: projectA, Host: "shop.example.com"})},
		{"GET", "/v1/auth/domains", "", ""},
		{"POST", "/v1/auth/domains/{host}/projects/{project}/check", "/v1/auth/domains/shop.example.com/projects/" + projectA + "/check", ""},
		{"DELETE", "/v1/auth/domains/{host}/projects/{project}", "/v1/auth/domains/shop.example.com/projects/" + projectA, ""},
		{"POST", "/v1/auth/certificates", "", text(auth.Certificate{Cert: cert, Key: key})},
		{"GET", "/v1/auth/certificates", "", ""},
		{"DELETE", "/v1/auth/certificates/{id}", "/v1/auth/certificates/shop.example.com", ""},
		{"POST", "/v1/auth/certificates/inline", "", text(auth.InlineCertificate{Project: projectA, Branch: "main", Domain: "d", Host: "shop.example.com", Cert: cert, Key: key})},
		{"POST", "/v1/auth/members", "", `{"name": "edge", "roles": ["gateway"]}`},
		{"GET", "/v1/auth/members", "", ""},
		{"POST", "/v1/auth/members/{id}/renewal", "/v1/auth/members/" + n.Host.ID().String() + "/renewal", ""},
		{"DELETE", "/v1/auth/members/{id}", "/v1/auth/members/edge", ""},
		{"POST", "/v1/auth/network/rotation", "", `{"kind": "swarm"}`},
		{"GET", "/v1/seer/nodes/{id}", "/v1/seer/nodes/" + n.Host.ID().String(), ""},
		{"GET", "/v1/seer/nodes/{id}/usage", "/v1/seer/nodes/" + n.Host.ID().String() + "/usage", ""},
		{"GET", "/v1/hoarder/items/{root}", "/v1/hoarder/items/" + website.Cid().String(), ""},
		{"GET", "/v1/patrick/jobs/{id}", "/v1/patrick/jobs/" + string(lease.Job.ID), ""},
		{"GET", "/v1/patrick/jobs/{id}/logs", "/v1/patrick/jobs/" + string(lease.Job.ID) + "/logs", ""},
		{"POST", "/v1/patrick/push", "", text(auth.Push{Repository: "local/shop", Branch: "main", Commit: repository["main"]})},
		{"POST", branch + "/parts", head + "/parts", text(tns.Part{Repository: "local/shop", Commit: "807ce53a54ea72d453e2fca8862a3d1531b59265", Order: 1, Time: time.Now()})},
		{"GET", branch, head, ""},
		{"GET", branch + "/history", head + "/history", ""},
		{"GET", branch + "/diff", head + "/diff?from=1&to=1", ""},
		{"POST", branch + "/rollback", head + "/rollback?sequence=1", ""},
		{"GET", "/v1/substrate/serving", "/v1/substrate/serving?sequence=1&branch=main&project=" + projectA, ""},
	} {
		asked := cmp.Or(c.asked, c.path)
		resp, said := askWith(t, n, n.Token(), c.method, asked, c.body)
		require.NotNil(t, resp, "%s %s", c.method, asked)
		assert.Less(t, resp.StatusCode, 400, "%s %s: %s", c.method, asked, said)
		doc.check(t, c.method, c.path, resp, said)
	}
	var not []string
	for path, item := range doc.Paths {
		for method, op := range item {
			name := strings.ToUpper(method) + " " + path
			if op.Rights.Extent != "nodes" && !doc.succeeded[name] && elsewhere[name] == "" {
				not = append(not, name)
			}
		}
	}
	slices.Sort(not)
	require.Empty(t, not)
}
