package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/api"
	"github.com/taubyte/taubyte/internal/rpc"
)

var errFull = fmt.Errorf("%w: full", taubyte.ErrConflict)

type base struct {
	ID string `json:"id"`
}

type thing struct {
	base
	Name   string            `json:"name,omitempty"`
	Data   []byte            `json:"data"`
	Tags   []string          `json:"tags,omitempty"`
	Parts  []thing           `json:"parts"`
	Made   time.Time         `json:"made,omitzero"`
	Lasts  time.Duration     `json:"lasts"`
	Next   *thing            `json:"next"`
	Labels map[string]uint32 `json:"labels"`
	Of     odd               `json:"of"`
	Quoted int               `json:"quoted,string"`
	Hidden int               `json:"-"`
}

// odd encodes itself.
type odd struct{ n int }

func (o odd) MarshalJSON() ([]byte, error) { return json.Marshal(fmt.Sprint(o.n)) }

func things() *api.Mux {
	mux := api.New(rpc.Codes{{Name: "full", Err: errFull}})
	mux.EncodedAs(odd{}, "")
	mux.Handle("GET /things", api.Operation{Summary: "Lists things.", Rights: api.Everybody()}, api.Answer(func(*http.Request) ([]thing, error) {
		return nil, nil
	}))
	mux.Handle("POST /things", api.Operation{Summary: "Adds a thing.", Rights: api.Everything(taubyte.VerbAdminister).Guarded()}, api.Call(1<<10, func(_ *http.Request, in thing) (thing, error) {
		return in, errFull
	}))
	mux.Handle("GET /things/{id}", api.Operation{
		Summary: "Returns a thing.", Path: api.Texts{"id": "Its ID."}, Rights: api.Project(taubyte.VerbRead, taubyte.RoleTNS),
		Query: []api.Parameter{{Name: "n", Text: "A number.", Type: uint32(0)}},
	}, api.Answer(func(r *http.Request) (thing, error) {
		return thing{base: base{r.PathValue("id")}}, nil
	}))
	mux.Handle("DELETE /things/{id}", api.Operation{
		Summary: "Removes a thing.", Path: api.Texts{"id": "Its ID."}, Rights: api.Nodes(taubyte.RoleTNS).Guarded(),
	}, api.Act(func(*http.Request) error { return errors.New("broken") }))
	return mux
}

func TestAnswersAreAlike(t *testing.T) {
	mux := things()
	for _, c := range []struct {
		method, path, body string
		p                  taubyte.Principal
		status             int
		answer             string
	}{
		{"GET", "/things", "", taubyte.Administrator(), 200, "[]\n"},
		{"GET", "/other", "", taubyte.Administrator(), 404, `{"code":"no-path","message":"there is no path \"/other\" here"}`},
		{"PUT", "/things", "", taubyte.Administrator(), 405, `{"code":"no-method","message":"/things is not for \"PUT\" (GET, HEAD, POST are)"}`},
		{"POST", "/things", "{}", taubyte.Administrator(), 409, `{"code":"full","message":"conflict: full"}`},
		{"POST", "/things", "", taubyte.Administrator(), 400, `"code":"invalid"`},
		{"POST", "/things", `{"name": "` + strings.Repeat("x", 1<<10) + `"}`, taubyte.Administrator(), 413, `"code":"too-large"`},
		{"POST", "/things", "", taubyte.Principal{}, 403, `"code":"forbidden"`}, // before it is read
		{"DELETE", "/things/1", "", taubyte.Administrator(), 403, `"code":"forbidden"`},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(taubyte.WithPrincipal(t.Context(), c.p), c.method, c.path, strings.NewReader(c.body))
		mux.ServeHTTP(w, r)
		require.Equal(t, c.status, w.Code, "%s %s", c.method, c.path)
		require.Contains(t, w.Body.String(), c.answer)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"), "%s %s", c.method, c.path)
		want := "application/json"
		if c.status >= 400 {
			want = rpc.ErrorType
		}
		require.Equal(t, want, w.Header().Get("Content-Type"))
	}
}

func TestSchemasFollowFromTypes(t *testing.T) {
	text, err := api.Document(api.Info{Title: "Things", Version: "1", Token: "a token"}, api.Mount{Name: "things", Prefix: "/v1", Mux: things()})
	require.NoError(t, err)
	var document struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct{ Schemas map[string]json.RawMessage }
	}
	require.NoError(t, json.Unmarshal(text, &document))
	require.JSONEq(t, `{
		"type": "object", "required": ["data", "id", "labels", "lasts", "next", "of", "parts", "quoted"],
		"properties": {
			"id": {"type": "string"},
			"name": {"type": "string"},
			"data": {"type": ["string", "null"], "contentEncoding": "base64"},
			"tags": {"type": "array", "items": {"type": "string"}},
			"parts": {"type": ["array", "null"], "items": {"$ref": "#/components/schemas/api_test.thing"}},
			"made": {"type": "string", "format": "date-time"},
			"lasts": {"type": "integer", "format": "int64", "description": "nanoseconds"},
			"next": {"anyOf": [{"$ref": "#/components/schemas/api_test.thing"}, {"type": "null"}]},
			"labels": {"type": ["object", "null"], "additionalProperties": {"type": "integer", "minimum": 0}},
			"of": {"type": "string"},
			"quoted": {"type": "string"}
		}
	}`, string(document.Components.Schemas["api_test.thing"]))
	require.JSONEq(t, `{
		"operationId": "thingsGetThingsId", "tags": ["things"], "summary": "Returns a thing.",
		"description": "For tokens that may read the project. Nodes with one of these roles may: tns.",
		"security": [{"token": ["read"]}], "x-rights": {"extent": "project", "verb": "read", "roles": ["tns"]},
		"parameters": [
			{"name": "id", "in": "path", "required": true, "description": "Its ID.", "schema": {"type": "string"}},
			{"name": "n", "in": "query", "required": false, "description": "A number.", "schema": {"type": "integer", "minimum": 0}}
		],
		"responses": {
			"200": {"description": "Done.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/api_test.thing"}}}},
			"400": {"$ref": "#/components/responses/Invalid"},
			"401": {"$ref": "#/components/responses/Unauthenticated"},
			"403": {"$ref": "#/components/responses/Forbidden"},
			"404": {"$ref": "#/components/responses/NotFound"},
			"429": {"$ref": "#/components/responses/TooManyAttempts"},
			"500": {"$ref": "#/components/responses/Failed"},
			"503": {"$ref": "#/components/responses/Unavailable"},
			"504": {"$ref": "#/components/responses/Late"}
		}
	}`, string(document.Paths["/v1/things/{id}"]["get"]))
}

func TestAPathIsDescribedWhole(t *testing.T) {
	act := api.Act(func(*http.Request) error { return nil })
	rights := api.Anybody()
	for _, op := range []api.Operation{
		{},
		{Summary: "Does it."},
		{Summary: "Does it.", Rights: rights},
		{Summary: "Does it.", Rights: rights, Path: api.Texts{"other": "?"}},
		{Summary: "Does it.", Rights: rights, Path: api.Texts{"id": "Its ID.", "other": "?"}},
	} {
		require.Panics(t, func() { api.New(nil).Handle("GET /{id}", op, act) })
	}
	require.NotPanics(t, func() {
		api.New(nil).Handle("GET /{id}", api.Operation{Summary: "Does it.", Rights: rights, Path: api.Texts{"id": "Its ID."}}, act)
	})
}
