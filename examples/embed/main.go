// Command embed runs a whole cloud inside a program and deploys a folder to it.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/taubyte/taubyte/cloud"
)

func main() {
	data := flag.String("data", "data", "where the cloud keeps its state")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	node, err := cloud.Open(ctx, *data, cloud.WithDevelopment())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	project, err := node.Project(ctx, flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	result, err := project.Deploy(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range result.Routes {
		fmt.Println(r.URL)
	}
	<-ctx.Done()
}
