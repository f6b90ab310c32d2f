package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/acme"
)

func certsCommand() command {
	return command{
		name: "certs", args: "list | renew HOST | import CERT KEY | rm HOST",
		summary: "list, renew, import or remove certificates, at a node that runs auth; CERT and KEY are files in PEM, the chain with the host's certificate first",
		verbs:   []string{"list", "renew HOST", "import CERT KEY", "rm HOST"},
		prepare: func(fs *flag.FlagSet) func(*invocation) error {
			return asking(fs, func(inv *invocation, c *api) error {
				args := inv.args
				switch inv.verb {
				case "list":
					return listCerts(inv, c)
				case "rm":
					if err := c.call(http.MethodDelete, "/v1/auth/certificates/"+url.PathEscape(args[0]), nil, nil); err != nil {
						return err
					}
					return told(inv, map[string]any{"removed": args[0]}, "the certificate for "+args[0]+" is removed")
				case "renew":
					if err := c.call(http.MethodPost, "/v1/acme/certificates/"+url.PathEscape(args[0])+"/order", nil, nil); err != nil {
						return err
					}
					return told(inv, map[string]any{"ordered": args[0]}, "a certificate for "+args[0]+" is being ordered")
				}
				return importCert(inv, c, args[0], args[1])
			})
		},
	}
}

// listedCert is a certificate that is ordered, or that a project's configuration has.
type listedCert struct {
	acme.Certificate
	Project taubyte.ProjectID `json:"project,omitempty"`
}

// listCerts asks what orders certificates, where something does, and what keeps them.
func listCerts(inv *invocation, c *api) error {
	var all []listedCert
	err := c.call(http.MethodGet, "/v1/acme/certificates", nil, &all)
	ordering := err == nil
	if err != nil && !errors.Is(err, taubyte.ErrUnavailable) {
		return err
	}
	kept := []auth.CertificateInfo{}
	if err := c.call(http.MethodGet, "/v1/auth/certificates", nil, &kept); err != nil {
		return err
	}
	if inv.asJSON && !ordering {
		return inv.json(kept)
	}
	for _, i := range kept {
		if ordering && i.Project == "" {
			continue // it is among the others
		}
		state := acme.StateServed
		if time.Now().After(i.NotAfter) {
			state = acme.StateExpired
		}
		all = append(all, listedCert{acme.Certificate{Hosts: i.Hosts, Issuer: i.Issuer, NotBefore: i.NotBefore, NotAfter: i.NotAfter, State: state}, i.Project})
	}
	if inv.asJSON {
		return inv.json(all)
	}
	var rows [][]string
	for _, i := range all {
		row := certRow(i.Certificate)
		if i.Project != "" {
			row[len(row)-1] = "of the configuration of " + string(i.Project)
		}
		rows = append(rows, row)
	}
	return inv.table([]string{"HOSTS", "STATE", "UNTIL", "NEXT", "ISSUER", ""}, rows)
}

func certRow(c acme.Certificate) []string {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.Local().Format(time.DateTime)
	}
	why := c.Error
	if c.Failures > 0 {
		why = fmt.Sprintf("%d failed: %s", c.Failures, c.Error)
	}
	return []string{strings.Join(c.Hosts, ","), string(c.State), at(c.NotAfter), at(c.Next), c.Issuer, why}
}

func importCert(inv *invocation, c *api, certFile, keyFile string) error {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return fmt.Errorf("%w certificate: %w", taubyte.ErrInvalid, err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("%w key: %w", taubyte.ErrInvalid, err)
	}
	var hosts []string
	if err := c.call(http.MethodPost, "/v1/auth/certificates", map[string]string{"cert": string(cert), "key": string(key)}, &hosts); err != nil {
		return err
	}
	return told(inv, map[string]any{"imported": hosts}, "the certificate for "+strings.Join(hosts, ", ")+" is served")
}
