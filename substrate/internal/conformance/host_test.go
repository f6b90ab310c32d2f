package conformance_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/hoarder"
	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/internal/unixfs"
	"github.com/taubyte/taubyte/substrate"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

const (
	project taubyte.ProjectID = "QmRPRQww8rci6fpkK5Tp8NGjyGQUyrTgQm5j7BnFJqi4DW"
	domain  string            = "conformance.example.test"
)

// A cloud is a substrate node with a registry and stores beside it.
type cloud struct {
	testing.TB
	node    *testnet.Node
	tns     *tns.Service
	service *substrate.Service
	config  *config.Project
	assets  map[taubyte.ResourceID]cid.Cid
	order   uint64
	log     *testbin.Buffer // its guests' output included
}

// logged waits until the node has logged a text.
func (c *cloud) logged(text string) {
	c.Helper()
	testnet.Eventually(c, func() bool { return strings.Contains(c.log.String(), text) }, "%q is not logged", text)
}

func newCloud(t testing.TB, opts ...substrate.Option) *cloud {
	t.Helper()
	c := &cloud{TB: t, node: testnet.New(t).Node(), assets: map[taubyte.ResourceID]cid.Cid{}, log: &testbin.Buffer{}}
	log := slog.New(slog.NewTextHandler(c.log, nil))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.log)
		}
	})
	var err error
	c.tns, err = tns.New(t.Context(), c.node, c.node.Store, tns.WithOpenDomains(), tns.WithZone("example.test"), tns.WithLogger(log))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.tns.Close()) })
	h, err := hoarder.New(t.Context(), c.node, c.node.Store, hoarder.WithLogger(log))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	opts = append([]substrate.Option{substrate.WithLogger(log), substrate.WithCacheDir(filepath.Join(shared, "code")), substrate.WithEgress(netip.MustParsePrefix("127.0.0.0/8"))}, opts...)
	c.service, err = substrate.New(t.Context(), c.node, c.node.Store, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.service.Close()) })

	c.config = &config.Project{ID: project, Name: "conformance"}
	common := func(name string) config.Common {
		return config.Common{ID: taubyte.ResourceID("id-" + name), Name: name}
	}
	c.config.Domains = []config.Domain{{Common: common("domain"), FQDN: domain, CertType: "auto"}}
	c.config.Databases = []config.Database{{Common: common("notes"), Match: "notes", Size: 1 << 20}, {Common: common("some"), Match: "^some.*", UseRegex: true, Size: 1 << 20}}
	c.config.Storages = []config.Storage{
		{Common: common("files"), Type: "object", Match: "files", Versioning: true, Size: 1 << 30},
		{Common: common("plain"), Type: "object", Match: "plain", Size: 1 << 20},
	}
	c.config.Messaging = []config.Messaging{{Common: common("rooms"), Match: "^rooms/.*", Regex: true, WebSocket: true}}
	c.config.Services = []config.Service{{Common: common("greeting"), Protocol: "/greeting/v1"}}
	return c
}

// at is the paths below its name that a function has.
func at(paths ...string) func(*config.Function) {
	return func(f *config.Function) {
		f.Paths = nil
		for _, p := range paths {
			f.Paths = append(f.Paths, "/"+f.Name+"/"+p)
		}
	}
}

// on is the trigger of a function that is no HTTP request, and its entry point.
func on(trigger, call string) func(*config.Function) {
	return func(f *config.Function) {
		f.Type, f.Call, f.Method, f.Domains, f.Paths = trigger, call, "", nil, nil
	}
}

// function adds a function to the project, with the path /name unless that is changed.
func (c *cloud) function(name string, module []byte, change ...func(*config.Function)) {
	c.Helper()
	f := config.Function{
		Common: config.Common{ID: taubyte.ResourceID("id-" + name), Name: name},
		Type:   config.TriggerHTTP, Method: "POST", Domains: []taubyte.ResourceID{"id-domain"}, Paths: []string{"/" + name},
		Source: ".", Timeout: 20 * time.Second, Memory: 64 << 20, Call: "handle",
	}
	for _, do := range change {
		do(&f)
	}
	c.config.Functions = append(c.config.Functions, f)
	c.asset(f.ID, module)
}

func (c *cloud) library(name string, module []byte) {
	c.Helper()
	l := config.Library{Common: config.Common{ID: taubyte.ResourceID("id-" + name), Name: name}}
	c.config.Libraries = append(c.config.Libraries, l)
	c.asset(l.ID, module)
}

func (c *cloud) asset(id taubyte.ResourceID, module []byte) {
	c.Helper()
	root, err := unixfs.AddFile(c.Context(), c.node.Blocks(), bytes.NewReader(module))
	require.NoError(c, err)
	c.assets[id] = root
}

// deploy publishes what was added and waits until it is served, or never will be.
func (c *cloud) deploy() error { return c.deployAs(project, "main", domain) }

// deployAs is deploy of a project and branch under a host of its own.
func (c *cloud) deployAs(p taubyte.ProjectID, branch taubyte.Branch, host string) error {
	c.Helper()
	c.order++
	copied := *c.config
	copied.ID = p
	copied.Domains = slices.Clone(copied.Domains)
	copied.Domains[0].FQDN = host
	d, err := c.tns.Publish(c.Context(), p, branch, tns.Part{
		Repository: "local/1", Commit: taubyte.Commit(fmt.Sprintf("%040d", c.order)), Order: c.order, Time: time.Now(), Config: &copied, Assets: c.assets,
	})
	require.NoError(c, err)
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Minute)
	defer cancel()
	return c.service.Serving(ctx, p, branch, d.Sequence)
}

// post calls a function over HTTP.
func (c *cloud) post(path, body string, header ...string) *httptest.ResponseRecorder {
	return c.postTo(domain, path, body, header...)
}

func (c *cloud) postTo(host, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "http://"+host+path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.service.ServeHTTP(w, r)
	return w
}

// answers checks what a function answers.
func (c *cloud) answers(path, want string) {
	c.Helper()
	w := c.post(path, "")
	require.Equal(c, "200 "+want, fmt.Sprintf("%d %s", w.Code, w.Body))
}

// far is a server that guests reach.
func far(t testing.TB) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Method", r.Method)
		w.Header()["X-Got"] = r.Header["X-Sent"]
		_, _ = fmt.Fprintf(w, "far got %q", body)
	}))
	t.Cleanup(s.Close)
	return s
}
