package tns

import (
	"github.com/ipfs/go-cid"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// A Route is where requests for a host and path go. Exactly one of Function and
// Website is set. It is immutable and shared: callers only read it.
type Route struct {
	Project     taubyte.ProjectID
	Application taubyte.ApplicationID
	Branch      taubyte.Branch
	Commit      taubyte.Commit
	Resource    taubyte.ResourceID
	Function    *config.Function
	Website     *config.Website
	// Prefix is the path under which a website was matched; it is not part of
	// the name of the file.
	Prefix string
	// Asset is the root of the module to run or of the website's files; of a
	// function whose source is a library, the library's. cid.Undef while
	// nothing was built.
	Asset cid.Cid
	// Deployment is the whole that the route is a part of.
	Deployment *Deployment
}
