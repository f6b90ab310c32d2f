package cloud

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/acme"
)

// ACMEConfig says how certificates are ordered: see package auth/acme.
type ACMEConfig struct {
	// Directory is the URL of the certificate authority's ACME directory. The default is
	// that of Let's Encrypt.
	Directory string `yaml:"directory,omitempty"`
	// Roots is a file of PEM certificates that the authority's own server is trusted by,
	// for one that is not public.
	Roots string `yaml:"roots,omitempty"`
	Email string `yaml:"email,omitempty"`
	// Account is the external account that the authority's account is bound to.
	Account *ExternalAccount `yaml:"account,omitempty"`
	Profile string           `yaml:"profile,omitempty"`
	// Methods are ways to show control of a name: http-01, tls-alpn-01, dns-01. The
	// default is the first two.
	Methods []acme.Method `yaml:"methods,omitempty"`
	// Orders bounds how many are made in 3 hours by the whole network, and
	// OrdersOfDomain in a week for one registered domain. The defaults are acme.Limits'.
	Orders         int `yaml:"orders,omitempty"`
	OrdersOfDomain int `yaml:"orders_of_domain,omitempty"`
}

// ExternalAccount is an account that a certificate authority has given out.
type ExternalAccount struct {
	ID string `yaml:"id"`
	// Key is the file that holds the account's MAC key, in base64url.
	Key string `yaml:"key"`
}

// acme translates the configuration, reading the files that it names.
func (c *Config) acme() ([]acme.Option, error) {
	a := c.ACME
	var opts []acme.Option
	if a.Directory != "" {
		opts = append(opts, acme.WithDirectory(a.Directory))
	}
	if a.Email != "" {
		opts = append(opts, acme.WithEmail(a.Email))
	}
	if a.Profile != "" {
		opts = append(opts, acme.WithProfile(a.Profile))
	}
	if len(a.Methods) > 0 {
		opts = append(opts, acme.WithMethods(a.Methods...))
	}
	if a.Orders < 0 || a.OrdersOfDomain < 0 {
		return nil, fmt.Errorf("%w acme: a negative number of orders", taubyte.ErrInvalid)
	}
	opts = append(opts, acme.WithLimits(acme.Limits{Orders: a.Orders, Domain: a.OrdersOfDomain}))
	if a.Account != nil {
		key, err := os.ReadFile(c.path(a.Account.Key))
		if err != nil {
			return nil, fmt.Errorf("acme: the external account's key: %w", err)
		}
		opts = append(opts, acme.WithExternalAccount(a.Account.ID, strings.TrimSpace(string(key))))
	}
	if a.Roots != "" {
		pem, err := os.ReadFile(c.path(a.Roots))
		if err != nil {
			return nil, fmt.Errorf("acme: roots: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(bytes.TrimSpace(pem)) {
			return nil, fmt.Errorf("%w acme: %s holds no PEM certificate", taubyte.ErrInvalid, a.Roots)
		}
		opts = append(opts, acme.WithHTTPClient(&http.Client{Timeout: time.Minute, Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second,
		}}))
	}
	return opts, nil
}
