package tns_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"testing/fstest"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

var quiet = slog.New(slog.DiscardHandler)

var hello = fstest.MapFS{
	"config.yaml":       {Data: []byte("id: QmYJREDH1g4quMigBJutYMBgxTwWTJhEtvcrVzrQrxWvfj\nname: hello\n")},
	"domains/main.yaml": {Data: []byte("id: QmZVgwcxiZxnv1R5tyq7mkgEhcDNayt7pDLHmCx4SpVrbb\nfqdn: hello.example.com\n")},
	"functions/ping.yaml": {Data: []byte(`id: QmNd5VLWVAHAp8kupPhStyAfx5PnDqVcHrJF34uW3L97fp
source: .
trigger: {type: http, method: GET, paths: [/ping], domains: [main]}
execution: {timeout: 5s, memory: 32MB, call: ping}
`)},
}

// A registry alone, in a program that runs no other service: a configuration is
// compiled and published, and a table says where requests go.
func Example() {
	ctx := context.Background()
	store := taubyte.MemoryDatastore()
	host, err := taubyte.NewHost(ctx, store)
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	registry, err := tns.New(ctx, host, store)
	if err != nil {
		log.Fatal(err)
	}
	defer registry.Close()

	project, faults := config.Compile(hello)
	if faults.HasErrors() {
		log.Fatal(faults)
	}
	deployment, err := registry.Publish(ctx, project.ID, "main", tns.Part{
		Repository: "local/hello", Commit: "3f0c1d9", Order: 1, Config: project,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("deployment", deployment.Sequence, "of commit", deployment.Commit())

	table, err := tns.NewTable(ctx, registry)
	if err != nil {
		log.Fatal(err)
	}
	defer table.Close()
	<-table.Ready()
	match := table.Lookup("Hello.example.com:443", "/ping", "GET")
	fmt.Println(match.Route.Function.Name, match.Route.Function.Call)
	match = table.Lookup("hello.example.com", "/ping", "POST")
	fmt.Println(match.Status == tns.NoMethod, match.Allow)
	// Output:
	// deployment 1 of commit 3f0c1d9
	// ping ping
	// true GET, HEAD
}

// Two projects want one host: who was first has it, until another shows that the name
// is theirs.
func ExampleService_Verify() {
	ctx := context.Background()
	store := taubyte.MemoryDatastore()
	host, err := taubyte.NewHost(ctx, store)
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	registry, err := tns.New(ctx, host, store, tns.WithLogger(quiet))
	if err != nil {
		log.Fatal(err)
	}
	defer registry.Close()

	for _, id := range []taubyte.ProjectID{"first", "second"} {
		c := &config.Project{ID: id}
		c.Domains = []config.Domain{{Common: config.Common{ID: "d"}, FQDN: "www.example.com"}}
		if _, err := registry.Publish(ctx, id, "main", tns.Part{Repository: "local/x", Order: 1, Config: c}); err != nil {
			log.Fatal(err)
		}
	}
	conflicts, _ := registry.Conflicts(ctx, "second")
	fmt.Println(conflicts[0])
	if err := registry.Verify(ctx, "second", "www.example.com", true); err != nil {
		log.Fatal(err)
	}
	claims, _ := registry.Claims(ctx, "www.example.com")
	for _, c := range claims {
		fmt.Println(c.Project, c.State)
	}
	// Output:
	// host www.example.com is served for project first
	// second served
	// first lost
}
