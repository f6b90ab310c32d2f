package abi

import "github.com/taubyte/taubyte"

// Self is who a guest is: what it may know of itself and what its log lines and
// its resources are found by.
type Self struct {
	Project     taubyte.ProjectID
	Application taubyte.ApplicationID
	Function    taubyte.ResourceID
	Name        string // of the function
	Branch      taubyte.Branch
	Commit      taubyte.Commit // of the configuration
	// Network is what it reaches others by. Nil: nobody.
	Network Network
	// Stores are where it keeps data. Nil: nowhere.
	Stores Stores
	// Called is what variables call it: its name, after that of its application.
	Called string
	// Environment is what it is given to know. Nil: nothing.
	Environment *Environment
}

// Principal is the guest as who asks the services.
func (s *Self) Principal() taubyte.Principal {
	return taubyte.Principal{
		Kind: taubyte.KindFunction, Name: s.Name, Projects: []taubyte.ProjectID{s.Project}, Branch: s.Branch,
		Application: s.Application, Resource: s.Function,
	}
}

var self = concat(
	property("selfApplication", func(s *Self) string { return string(s.Application) }),
	property("selfProject", func(s *Self) string { return string(s.Project) }),
	property("selfId", func(s *Self) string { return string(s.Function) }),
	property("selfCommit", func(s *Self) string { return string(s.Commit) }),
	property("selfBranch", func(s *Self) string { return string(s.Branch) }),
)

// property declares the pair of functions that reads one string.
func property(name string, of func(*Self) string) []decl {
	return []decl{
		{name + "Size", "i", errno(func(g *Guest, m module, a []uint64) Errno {
			return m.size(a[0], len(of(&g.self)))
		})},
		{name, "i", errno(func(g *Guest, m module, a []uint64) Errno {
			return m.put(a[0], of(&g.self))
		})},
	}
}

func concat(lists ...[]decl) []decl {
	var all []decl
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
