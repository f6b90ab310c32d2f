package substrate_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/unixfs"
	"github.com/taubyte/taubyte/substrate"
	"github.com/taubyte/taubyte/substrate/internal/wasmtest"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// A registry and a substrate node in one process: what is published is served.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	store := taubyte.MemoryDatastore()
	host, err := taubyte.NewHost(ctx, store, taubyte.WithLogger(quiet))
	check(err)
	defer host.Close()
	registry, err := tns.New(ctx, host, store, tns.WithOpenDomains(), tns.WithLogger(quiet))
	check(err)
	defer registry.Close()
	node, err := substrate.New(ctx, host, store, substrate.WithLogger(quiet))
	check(err)
	defer node.Close()

	module, err := unixfs.AddFile(ctx, host.Blocks(), bytes.NewReader(wasmtest.Pong()))
	check(err)
	p := &config.Project{ID: project}
	p.Domains = []config.Domain{{Common: config.Common{ID: "d", Name: "main"}, FQDN: "hello.example.test"}}
	p.Functions = []config.Function{{
		Common: config.Common{ID: "f", Name: "ping"}, Type: config.TriggerHTTP, Method: "GET",
		Domains: []taubyte.ResourceID{"d"}, Paths: []string{"/ping"}, Source: ".", Call: "ping",
	}}
	d, err := registry.Publish(ctx, project, "main", tns.Part{
		Repository: "local/1", Commit: "c0ffee", Order: 1, Time: time.Now(), Config: p,
		Assets: map[taubyte.ResourceID]cid.Cid{"f": module},
	})
	check(err)
	check(node.Serving(ctx, project, "main", d.Sequence))

	answer := httptest.NewRecorder()
	node.ServeHTTP(answer, httptest.NewRequest("GET", "http://hello.example.test/ping", nil))
	fmt.Println(answer.Code, answer.Body)
	// Output: 200 PONG
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
