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
)

// texts are TXT records that are there for a while: what a certificate authority looks
// for. Their names may be of other zones, where those delegate _acme-challenge.<host>
// to this server.
type texts struct {
	mu    sync.Mutex
	all   map[string][]text // by name, canonical
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
		t.all = map[string][]text{}
	}
	t.drop(name, value)
	if t.count >= maxTexts {
		now := time.Now()
		for n, all := range t.all {
			for _, x := range all {
				if now.After(x.ends) {
					t.drop(n, x.value)
				}
			}
		}
	}
	if t.count >= maxTexts {
		return fmt.Errorf("%w: this DNS server has %d texts", taubyte.ErrUnavailable, maxTexts)
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
	if t.all[name] = left; len(left) == 0 {
		delete(t.all, name)
	}
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

// answerText answers for a name that has texts and, but for them, nothing.
func (d *dnsServer) answerText(m *dns.Msg, q dns.Question, values []string) {
	if q.Qtype == dns.TypeTXT || q.Qtype == dns.TypeANY {
		for _, v := range values {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: textTTL}, Txt: []string{v}})
		}
		return
	}
	soa := d.soa(d.picture.Load())
	if !dns.IsSubDomain(d.zone, strings.ToLower(q.Name)) {
		soa.Header().Name = dns.CanonicalName(q.Name) // the zone that was delegated begins at the name
	}
	m.Ns = []dns.RR{soa}
}
