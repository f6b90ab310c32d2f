// Command registry runs tns alone: a registry on a host and a store of its own, in
// a program that carries no other service.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

func main() {
	data := flag.String("data", "data", "where the registry keeps its state")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *data, flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
}

// run publishes the configuration in a folder and prints what the registry then
// says of it.
func run(ctx context.Context, data, folder string) error {
	store, err := taubyte.OpenDatastore(data)
	if err != nil {
		return err
	}
	defer store.Close()
	host, err := taubyte.NewHost(ctx, store)
	if err != nil {
		return err
	}
	defer host.Close()
	registry, err := tns.New(ctx, host, store, tns.WithOpenDomains())
	if err != nil {
		return err
	}
	defer registry.Close()

	project, faults := config.Compile(os.DirFS(folder))
	if project == nil {
		return fmt.Errorf("%s: %v", folder, faults)
	}
	part := tns.Part{
		Repository: "example/" + taubyte.RepositoryID(project.Name),
		Order:      uint64(time.Now().UnixMicro()), // beyond what was published before
		Config:     project,
	}
	if _, err := registry.Publish(ctx, project.ID, "main", part); err != nil {
		return err
	}
	table, err := tns.NewTable(ctx, registry)
	if err != nil {
		return err
	}
	defer table.Close()
	<-table.Ready()
	for _, r := range table.Routes() {
		fmt.Println(r.Host+r.Path, r.Method, r.Route.Resource)
	}
	summary, err := registry.Projects(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(summary)
}
