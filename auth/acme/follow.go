package acme

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/certificate"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/tns"
)

// branch is what makes a deployment's place.
type branch struct {
	project taubyte.ProjectID
	branch  taubyte.Branch
}

// again calls follow until ctx ends, with a pause that grows while nothing comes.
func again(ctx context.Context, follow func() (heard bool)) {
	for wait := 100 * time.Millisecond; ctx.Err() == nil; wait = min(wait*2, 5*time.Second) {
		if follow() {
			wait = 100 * time.Millisecond
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// followHosts keeps the plan to what tns serves.
func (s *Service) followHosts(ctx context.Context) {
	wanted, token := map[branch][]string{}, ""
	again(ctx, func() (heard bool) {
		watching, stop := context.WithCancel(ctx)
		defer stop()
		changes, err := s.opts.registry.Watch(watching, token)
		if err != nil {
			s.opts.log.Debug("registry not followed", "err", err)
			return false
		}
		fresh := map[branch]bool{}
		whole := true // until a change says that it goes on where the last watch ended
		for c := range changes {
			if !heard && token != "" && resumes(token, c.Token) {
				whole = false
			}
			heard, token = true, c.Token
			if c.Ready {
				if whole { // what was removed meanwhile is not told of
					for b := range wanted {
						if !fresh[b] {
							s.wantOf(wanted, b, nil)
						}
					}
				}
				continue
			}
			b := branch{c.Project, c.Branch}
			fresh[b] = true
			s.wantOf(wanted, b, needs(&c, s.opts.zone, has(s.opts.methods, DNS01)))
		}
		return heard
	})
}

// resumes reports whether two tokens are of one life of one registry.
func resumes(before, now string) bool {
	a, _, _ := strings.Cut(before, "-")
	b, _, _ := strings.Cut(now, "-")
	return a == b
}

func (s *Service) wantOf(wanted map[branch][]string, b branch, now []string) {
	before := wanted[b]
	for _, name := range now {
		if !slices.Contains(before, name) {
			s.plan.want(name, true)
		}
	}
	for _, name := range before {
		if !slices.Contains(now, name) {
			s.plan.want(name, false)
		}
	}
	if wanted[b] = now; len(now) == 0 {
		delete(wanted, b)
	}
}

// needs lists the certificates of a branch: for names whose ownership was shown, that no
// other project has, and that bring none of their own.
func needs(c *tns.Change, zone string, wildcard bool) (all []string) {
	if c.Deployment == nil {
		return nil
	}
	inline := map[taubyte.ResourceID]bool{}
	if conf := c.Deployment.Config(); conf != nil {
		domains := slices.Clone(conf.Domains)
		for _, a := range conf.Applications {
			domains = append(domains, a.Domains...)
		}
		for _, d := range domains {
			inline[d.ID] = d.CertType == "inline"
		}
	}
	for _, h := range c.Hosts {
		name := h.Host
		lost := slices.ContainsFunc(c.Conflicts, func(l tns.Claim) bool { return l.Host == h.Host })
		if !h.Verified && !h.Generated || lost || inline[h.Domain] || !validName(name) {
			continue
		}
		if label, ok := strings.CutSuffix(name, "."+zone); ok && zone != "" && wildcard && !strings.Contains(label, ".") {
			name = "*." + zone
		}
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// validName reports whether an authority may certify a name.
func validName(name string) bool {
	rest := strings.TrimPrefix(name, "*.")
	if len(rest) == 0 || len(name) > 253 || !strings.Contains(rest, ".") {
		return false
	}
	for _, label := range strings.Split(rest, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return strings.Trim(rest[strings.LastIndexByte(rest, '.')+1:], "0123456789") != "" // an IP address is no name
}

// info is what the plan needs to know of a certificate.
type info struct {
	Certificate
	id   string    // of ARI
	text string    // PEM
	seen time.Time // by this node
}

// newer orders the certificates of one name.
func (c *info) newer(o *info) bool {
	switch {
	case o == nil:
		return true
	case !c.NotBefore.Equal(o.NotBefore):
		return c.NotBefore.After(o.NotBefore)
	case !c.NotAfter.Equal(o.NotAfter):
		return c.NotAfter.After(o.NotAfter)
	}
	return c.text > o.text
}

func readInfo(c auth.Certificate) (*info, error) {
	block, _ := pem.Decode([]byte(c.Cert))
	if block == nil {
		return nil, fmt.Errorf("%w certificate: no PEM", taubyte.ErrInvalid)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w certificate: %w", taubyte.ErrInvalid, err)
	}
	id, err := certificate.MakeARICertID(leaf)
	if err != nil || len(leaf.AuthorityKeyId) == 0 {
		id = "" // its authority can't be asked
	}
	issuer := leaf.Issuer.CommonName
	if issuer == "" {
		issuer = leaf.Issuer.String()
	}
	return &info{id: id, text: c.Cert, Certificate: Certificate{
		Hosts: c.Hosts, Issuer: issuer, Serial: fmt.Sprintf("%x", leaf.SerialNumber), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
	}}, nil
}

// followCertificates keeps the plan to what auth has. Those of configurations are not
// this package's to renew.
func (s *Service) followCertificates(ctx context.Context) {
	read := map[string]*info{} // by id
	of := map[string]map[*info]bool{}
	auth.FollowCertificates(ctx, s.opts.certs.WatchCertificates, func(c auth.CertificateChange) {
		touched := map[string]bool{}
		drop := func(id string) {
			in := read[id]
			if in == nil {
				return
			}
			delete(read, id)
			for _, h := range in.Hosts {
				delete(of[h], in)
				touched[h] = true
			}
		}
		for _, id := range c.Gone {
			drop(id)
		}
		for _, cert := range c.Set {
			drop(cert.ID)
			in, err := readInfo(cert)
			if err != nil {
				s.opts.log.Warn("certificate not readable", "hosts", cert.Hosts, "err", err)
				continue
			}
			read[cert.ID] = in
			for _, h := range cert.Hosts {
				if of[h] == nil {
					of[h] = map[*info]bool{}
				}
				of[h][in], touched[h] = true, true
			}
		}
		for h := range touched {
			var best *info
			for in := range of[h] {
				if in.newer(best) {
					best = in
				}
			}
			s.plan.hold(h, best)
			if best == nil {
				delete(of, h)
			}
		}
		if !c.More {
			s.known.Store(true)
		}
	})
}
