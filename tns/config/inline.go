package config

import (
	"net/url"

	"github.com/taubyte/taubyte"
)

// KeyReference is what the registry has as the KeyFile of a domain with an inline
// certificate: where package auth keeps the private key.
//
//	secret:inline/<project>/<branch, escaped>/<domain>
func KeyReference(p taubyte.ProjectID, b taubyte.Branch, domain taubyte.ResourceID) string {
	return "secret:inline/" + string(p) + "/" + url.PathEscape(string(b)) + "/" + string(domain)
}
