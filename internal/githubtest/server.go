package githubtest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"
)

//go:embed testdata/api.github.com.json
var description []byte

// prefix is where an Enterprise server has its API.
const prefix = "/api/v3"

// Server is a GitHub Enterprise server. Its fields may be set before it is used.
type Server struct {
	// URL is the server's, for github.WithEnterprise.
	URL string
	// Now is the server's clock.
	Now func() time.Time
	// Limit is how many requests a token has in an hour.
	Limit int
	// Fault, where it is set, may answer a request of the API in the server's place, and
	// reports whether it has.
	Fault func(w http.ResponseWriter, r *http.Request) bool
	// HideHostKeys has /meta publish none, as Enterprise servers do.
	HideHostKeys bool

	t      testing.TB
	doc    *openapi3.T
	router routers.Router
	ssh    *sshServer

	mu      sync.Mutex
	lastID  int64
	tokens  map[string]*token
	repos   map[int64]*Repository
	app     *rsa.PublicKey
	counted map[string]int // requests by "METHOD path", those that count against a limit
	free    map[string]int // and those that do not
}

type token struct {
	login   string
	scopes  string // of OAuth
	app     bool   // of an installation
	used    int
	resetAt time.Time
}

// New starts a server, which ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(description)
	require.NoError(t, err)
	doc.Servers = openapi3.Servers{{URL: prefix}}
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	s := &Server{
		Now: time.Now, Limit: 5000, t: t, doc: doc, router: router,
		lastID: 1000, tokens: map[string]*token{}, repos: map[int64]*Repository{}, counted: map[string]int{}, free: map[string]int{},
	}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	s.URL = web.URL
	s.ssh = startSSH(t, s)
	return s
}

// User makes a user and returns a token of theirs, which has every scope.
func (s *Server) User(login string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := "ghp_" + hex.EncodeToString(random(18))
	s.tokens[text] = &token{login: login, scopes: "repo, admin:repo_hook"}
	return text
}

// App makes a GitHub App that is installed everywhere, and returns its private key. Its
// id is 7, and that of its installation 8.
func (s *Server) App() []byte {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(s.t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.app = &key.PublicKey
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

// Requests returns how many requests were made that count against the limit, and how
// many that do not.
func (s *Server) Requests() (counted, free int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.counted {
		counted += n
	}
	for _, n := range s.free {
		free += n
	}
	return counted, free
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func (s *Server) newIDLocked() int64 {
	s.lastID++
	return s.lastID
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, prefix+"/") {
		s.serveGit(w, r)
		return
	}
	if s.Fault != nil && s.Fault(w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	in, err := s.request(r)
	if err != nil {
		s.t.Errorf("GitHub's description does not know this request: %s %s: %v", r.Method, r.URL, err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	s.answer(answer, r, in.PathParams)
	if answer.Code < 300 {
		err := openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: in, Status: answer.Code, Header: answer.Header(),
			Body: io.NopCloser(bytes.NewReader(answer.Body.Bytes())), Options: &openapi3filter.Options{IncludeResponseStatus: true},
		})
		if err != nil {
			s.t.Errorf("GitHub's description does not know this answer: %s %s: %v", r.Method, r.URL, err)
		}
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

// request checks a request.
func (s *Server) request(r *http.Request) (*openapi3filter.RequestValidationInput, error) {
	route, params, err := s.router.FindRoute(r)
	if err != nil {
		return nil, err
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	return in, openapi3filter.ValidateRequest(r.Context(), in)
}

// answer keeps the limits, and answers 304 to who has what there is.
func (s *Server) answer(w *httptest.ResponseRecorder, r *http.Request, params map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	shown := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	t := s.tokens[shown]
	if t == nil && !strings.HasPrefix(r.URL.Path, prefix+"/app/") {
		fail(w, http.StatusUnauthorized, "Bad credentials")
		return
	}
	name := r.Method + " " + r.URL.Path
	if t == nil {
		s.counted[name]++
		s.api(w, r, t, params)
		return
	}
	now := s.Now()
	if !now.Before(t.resetAt) {
		t.used, t.resetAt = 0, now.Add(time.Hour).Truncate(time.Second)
	}
	w.Header().Set("X-RateLimit-Limit", strconv.Itoa(s.Limit))
	w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(t.resetAt.Unix(), 10))
	if t.scopes != "" {
		w.Header().Set("X-OAuth-Scopes", t.scopes)
	}
	remaining := func() { w.Header().Set("X-RateLimit-Remaining", strconv.Itoa(s.Limit-t.used)) }
	if t.used >= s.Limit {
		remaining()
		s.t.Errorf("%s after the limit was used up", name)
		fail(w, http.StatusForbidden, "API rate limit exceeded for user ID 1.")
		return
	}
	inner := httptest.NewRecorder()
	s.api(inner, r, t, params)
	maps.Copy(w.Header(), inner.Header())
	if r.Method == http.MethodGet && inner.Code == http.StatusOK {
		sum := sha256.Sum256(append(inner.Body.Bytes(), inner.Header().Get("Link")...))
		etag := `W/"` + hex.EncodeToString(sum[:16]) + `"`
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			s.free[name]++
			remaining()
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	s.counted[name]++
	t.used++
	remaining()
	w.WriteHeader(inner.Code)
	_, _ = w.Write(inner.Body.Bytes())
}

func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message, "documentation_url": "https://docs.github.com/rest"})
}

// reply answers with what the schema of the answer asks for, and the fields that are
// known.
func (s *Server) reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// object makes one of a schema, with every field that it asks for.
func (s *Server) object(schema string, fields map[string]any) map[string]any {
	made, _ := instance(s.doc.Components.Schemas[schema].Value).(map[string]any)
	maps.Copy(made, fields)
	return made
}

func instance(schema *openapi3.Schema) any {
	switch {
	case schema.Nullable:
		return nil
	case len(schema.AllOf) > 0:
		made := map[string]any{}
		for _, part := range schema.AllOf {
			if m, ok := instance(part.Value).(map[string]any); ok {
				maps.Copy(made, m)
			}
		}
		return made
	case len(schema.OneOf) > 0:
		return instance(schema.OneOf[0].Value)
	case len(schema.AnyOf) > 0:
		return instance(schema.AnyOf[0].Value)
	case len(schema.Enum) > 0:
		return schema.Enum[0]
	case schema.Type.Is("object"), len(schema.Properties) > 0:
		made := map[string]any{}
		for _, name := range schema.Required {
			if p := schema.Properties[name]; p != nil {
				made[name] = instance(p.Value)
			}
			if made[name] == "text" && strings.HasSuffix(name, "_at") {
				made[name] = "2026-01-02T03:04:05Z" // some are described as mere text
			}
		}
		return made
	case schema.Type.Is("array"):
		return []any{}
	case schema.Type.Is("integer"), schema.Type.Is("number"):
		return 1
	case schema.Type.Is("boolean"):
		return false
	}
	switch schema.Format {
	case "uri":
		return "https://example.com/thing"
	case "date-time":
		return "2026-01-02T03:04:05Z"
	case "email":
		return "octo@example.com"
	}
	return "text"
}

// page is the part of a list that a request asks for, with a link to the next.
func page[T any](s *Server, w http.ResponseWriter, r *http.Request, all []T) []T {
	per, number := 30, 1
	if n, err := strconv.Atoi(r.URL.Query().Get("per_page")); err == nil && n > 0 {
		per = min(n, 100)
	}
	if n, err := strconv.Atoi(r.URL.Query().Get("page")); err == nil && n > 0 {
		number = n
	}
	from, to := min((number-1)*per, len(all)), min(number*per, len(all))
	if to < len(all) {
		next := *r.URL
		q := next.Query()
		q.Set("page", strconv.Itoa(number+1))
		next.RawQuery = q.Encode()
		w.Header().Set("Link", fmt.Sprintf(`<%s%s>; rel="next"`, s.URL, next.String()))
	}
	return append([]T{}, all[from:to]...)
}
