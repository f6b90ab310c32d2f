// Package cloud puts services together: any choice of the eight on one host, one
// store and one data folder, which is what a node of the reference server is.
//
//	node, err := cloud.Open(ctx, "data", cloud.WithDevelopment())
//	defer node.Close()
//	project, err := node.Project(ctx, "examples/hello")
//	result, err := project.Deploy(ctx, nil)
//	fmt.Println(result.Routes)
//
// Nothing in it is needed to use a service: a program that wants one of them, or
// wants them differently, calls the constructors of the packages itself. It is the
// one package that knows all services, and no service knows it.
//
// # One process or many
//
// WithServices chooses what a node runs. Services find those of other nodes over
// the network, and those beside them without it. ReadConfig reads the same
// choices from a file. What a service can besides is said to it by its own options:
//
//	cloud.Open(ctx, "data", cloud.WithSeer(seer.WithPlace("rack 7")), cloud.WithMonkey(monkey.WithTimeout(time.Hour)))
//
// # What a node offers to the outside
//
// A gateway listens for the cloud's users (WithHTTP). Every node listens for its
// operators (WithAPI): the handlers of its services under /v1/<service>/, behind
// a bearer token that the data folder holds, and, where auth and patrick run, git
// repositories under /git/. What of it this node serves is described at /openapi.json.
//
// # Development
//
// WithDevelopment makes a cloud for one machine: hosts under "localhost" are
// generated, every host name of a project is taken as its own, and Project
// deploys a folder of this machine through git, as a push from anywhere would.
package cloud
