package auth

import (
	"fmt"
	"strings"

	"github.com/taubyte/taubyte"
)

// A Challenge is what a gateway answers a certificate authority that wants to see that
// a host leads here: by HTTP-01 (RFC 8555, 8.3) on its plain listener, by TLS-ALPN-01
// (RFC 8737) on its TLS listener.
type Challenge struct {
	Host  string `json:"host"`
	Token string `json:"token"`
	// Authorization is the key authorization: the token, a dot, and the thumbprint of
	// the account's key. It is no secret.
	Authorization string `json:"authorization"`
}

// Check returns what is wrong with a challenge.
func (c Challenge) Check() error {
	const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	switch {
	case c.Host == "" || len(c.Host) > 253 || c.Host != strings.ToLower(c.Host):
		return fmt.Errorf("%w challenge: host %q", taubyte.ErrInvalid, c.Host)
	case len(c.Token) < 16 || len(c.Token) > 256 || strings.Trim(c.Token, base64url) != "":
		return fmt.Errorf("%w challenge: token %q", taubyte.ErrInvalid, c.Token)
	case !strings.HasPrefix(c.Authorization, c.Token+".") || len(c.Authorization) > 512:
		return fmt.Errorf("%w challenge: key authorization %q", taubyte.ErrInvalid, c.Authorization)
	}
	return nil
}
