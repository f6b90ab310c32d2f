// Package config compiles a project's configuration: a folder of YAML files that
// describe functions, websites, domains and the other resources of a project.
//
//	project, faults := config.Compile(os.DirFS("config"))
//	for _, f := range faults {
//		fmt.Println(f) // functions/ping.yaml:7:5: error: …
//	}
//
// All faults are reported at once, each with its place and, where one is known,
// what to do about it. Places of an older schema are still read, and a key that
// nothing reads is a warning.
//
// # Files
//
// config.yaml at the root is the project. A resource is a file
// "<group>/<name>.yaml": its name is the file's. applications/<name>/ holds a
// config.yaml and groups of its own. The groups are functions, websites,
// libraries, domains, databases, storages, messaging, services and smartops.
//
// # References
//
// Domains, libraries and smart operations are named by name and resolved to ids:
// in the resource's own application first, then in the project. A resource of the
// project does not see those of an application.
//
// Within a file YAML's anchors, aliases and merge keys ("<<: *base") mean what they
// mean elsewhere.
//
// # Paths
//
// A path of a function may have wildcards, by the rules of http.ServeMux:
//
//	trigger:
//	  type: https
//	  methods: [GET, HEAD]
//	  domains: [main]
//	  paths:
//	  - /items/{id}
//	  - /files/{name...}
//	  - /old/{$}
//
// (Within brackets YAML wants quotes: ["/items/{id}"].)
// "{id}" is one segment, "{name...}" all that is left, and "/old/{$}" the path "/old/",
// which may be written so as well: a path that ends in a slash is that path alone. Of two
// paths the more specific one is taken, whatever their order; two that have some paths
// in common while each has others are an error. A website has all paths below its own.
//
// # Faults across files
//
// Two domains of one host name, two functions at one method and path of a host, two
// resources of one id and two stores of one name are errors in the later of the two
// files, in the order of the project's own resources and then the applications'. What a
// file asks for and nothing offers (encryption, the network "subnet", MQTT) is an error,
// and what has no effect where it stands a warning.
//
// # Timers
//
// A function whose trigger.type is timer runs by the clock:
//
//	trigger:
//	  type: timer
//	  schedule: 30 4 * * 1-5      # or @hourly, @daily, @every 90s
//	  timezone: Europe/Paris      # UTC unless it is said
//
// # What functions may reach
//
// Everything public, unless config.yaml lists what:
//
//	egress:
//	  allow: [api.example.com, "*.example.org", 192.0.2.0/24]
//
// An empty list is nothing at all.
//
// # One repository
//
// A website or library whose source names no provider is part of the project's own
// repository, under websites/<name> or libraries/<name>: a project needs one
// repository, not one for each website. One that names a provider must name the
// repository's id and full name as well.
package config
