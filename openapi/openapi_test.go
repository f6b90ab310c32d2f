package openapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/openapi"
	"github.com/taubyte/taubyte/tns"
)

// A program embeds one service, and serves its description.
func TestOneServiceIsDescribed(t *testing.T) {
	net := testnet.New(t)
	registry, err := tns.New(t.Context(), net.Node(), taubyte.MemoryDatastore())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	info := openapi.Info{Title: "Registry", Version: "1"}
	description, err := openapi.Handler(info, openapi.Service{Name: "tns", Prefix: "/registry", Handler: registry.Handler()})
	require.NoError(t, err)

	get := func(headers ...string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/openapi.json", nil)
		for i := 0; i+1 < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		description.ServeHTTP(w, r)
		return w
	}
	answer := get()
	require.Equal(t, http.StatusOK, answer.Code)
	var document struct {
		OpenAPI string
		Info    struct{ Title string }
		Paths   map[string]map[string]struct{ Security []any }
	}
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &document))
	require.Equal(t, "3.1.0", document.OpenAPI)
	require.Equal(t, "Registry", document.Info.Title)
	require.Contains(t, document.Paths, "/registry/projects/{project}/branches/{branch}")
	for path, item := range document.Paths {
		require.True(t, strings.HasPrefix(path, "/registry/"), path)
		for _, op := range item {
			require.Nil(t, op.Security, "the program says itself who may")
		}
	}
	require.NotContains(t, answer.Body.String(), "securitySchemes")
	require.Equal(t, http.StatusNotModified, get("If-None-Match", answer.Header().Get("ETag")).Code)
	require.Equal(t, http.StatusOK, get("If-None-Match", `"another"`).Code)

	_, err = openapi.Handler(info, openapi.Service{Name: "mine", Handler: http.NotFoundHandler()})
	require.ErrorIs(t, err, taubyte.ErrInvalid)
	_, err = openapi.Handler(info, openapi.Service{Name: "a", Handler: registry.Handler()}, openapi.Service{Name: "b", Handler: registry.Handler()})
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}
