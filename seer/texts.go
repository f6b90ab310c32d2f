package seer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/taubyte/taubyte"
)

const (
	maxTexts    = 8192
	maxTextTime = time.Hour
	textTTL     = 1 // second: a text that is gone is gone
	// challengeLabel begins the names whose texts certificate authorities look for.
	challengeLabel = "_acme-challenge."
)

// texts are TXT records that are there for a while: what a certificate authority looks
// for. Their names may be of other zones, where those delegate _acme-challenge.<host>
// to this server.
type texts struct {
	mu    sync.Mutex
	all   map[string][]text // by name, canonical
	above map[string]int    // by name: how many names below it have texts
	count int
}

type text struct {
	value string
	ends  time.Time
}

// AddText has the DNS server answer queries for TXT records of a name with a value as
// well, for so long (an hour at most), or until RemoveText. It takes a node of role auth.
// ErrUnavailable: this node serves no DNS, or has 8,192 of them.
func (s *Service) AddText(ctx context.Context, name, value string, d time.Duration) error {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleAuth); err != nil {
		return err
	}
	if s.dns == nil {
		return fmt.Errorf("%w: this node serves no DNS", taubyte.ErrUnavailable)
	}
	if _, ok := dns.IsDomainName(name); !ok || name == "" || len(value) > 255 || value == "" || d <= 0 {
		return fmt.Errorf("%w TXT record of %q", taubyte.ErrInvalid, name)
	}
	return s.dns.texts.add(dns.CanonicalName(name), value, time.Now().Add(min(d, maxTextTime)))
}

// RemoveText ends what AddText began. It takes a node of role auth.
func (s *Service) RemoveText(ctx context.Context, name, value string) error {
	if err := taubyte.PrincipalOf(ctx).HasRole(taubyte.RoleAuth); err != nil {
		return err
	}
	if s.dns != nil {
		s.dns.texts.remove(dns.CanonicalName(name), value)
	}
	return nil
}

func (t *texts) add(name, value string, ends time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all, t.above = map[string][]text{}, map[string]int{}
	}
	t.drop(name, value)
	now := time.Now()
	for n, all := range t.all {
		for _, x := range all {
			if now.After(x.ends) {
				t.drop(n, x.value)
			}
		}
	}
	if t.count >= maxTexts {
		return fmt.Errorf("%w: this DNS server has %d texts", taubyte.ErrUnavailable, maxTexts)
	}
	if len(t.all[name]) == 0 {
		t.countAbove(name, 1)
	}
	t.all[name] = append(t.all[name], text{value, ends})
	t.count++
	return nil
}

func (t *texts) remove(name, value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(name, value)
}

// drop takes a text out. mu is held.
func (t *texts) drop(name, value string) {
	have := t.all[name]
	left := slices.DeleteFunc(slices.Clone(have), func(x text) bool { return x.value == value })
	t.count -= len(have) - len(left)
	switch {
	case len(left) > 0:
		t.all[name] = left
	case len(have) > 0:
		delete(t.all, name)
		t.countAbove(name, -1)
	}
}

// countAbove counts a name more, or less, at the names that it is below of. mu is held.
func (t *texts) countAbove(name string, by int) {
	for i, end := dns.NextLabel(name, 0); !end; i, end = dns.NextLabel(name, i) {
		if t.above[name[i:]] += by; t.above[name[i:]] == 0 {
			delete(t.above, name[i:])
		}
	}
}

// below reports whether a name below this one has texts.
func (t *texts) below(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.above[name] > 0
}

func (t *texts) of(name string) (values []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for _, x := range t.all[name] {
		if now.Before(x.ends) {
			values = append(values, x.value)
		}
	}
	return values
}

// delegated answers for a name of another zone that has no texts at the moment: a resolver
// that is sent here takes a server that refuses for a broken one, and remembers that.
func (d *dnsServer) delegated(m *dns.Msg, q dns.Question) {
	host, ok := strings.CutPrefix(strings.TrimSuffix(dns.CanonicalName(q.Name), "."), challengeLabel)
	there := Absent
	if ok {
		if there = d.hosts(host); there == Absent || there == Above {
			there = d.hosts("*." + host)
		}
	}
	switch there {
	case Served:
		d.answerText(m, q, nil)
	case Unknown:
		m.Authoritative = false
		m.Rcode = dns.RcodeServerFailure
	default:
		m.Authoritative = false
		m.Rcode = dns.RcodeRefused
	}
}

// answerText answers for a name that has texts and, but for them, nothing. One of another
// zone is where the zone begins that was delegated to this server.
func (d *dnsServer) answerText(m *dns.Msg, q dns.Question, values []string) {
	soa := d.soa(d.picture.Load())
	if name := dns.CanonicalName(q.Name); !dns.IsSubDomain(d.zone, name) {
		soa.Header().Name = name
		switch q.Qtype {
		case dns.TypeSOA:
			m.Answer = append(m.Answer, soa)
		case dns.TypeNS:
			m.Answer = append(m.Answer, &dns.NS{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: answerTTL}, Ns: "seer." + d.zone})
		}
	}
	if q.Qtype == dns.TypeTXT || q.Qtype == dns.TypeANY {
		for _, v := range values {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: textTTL}, Txt: []string{v}})
		}
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{soa}
	}
}
