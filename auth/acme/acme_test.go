package acme_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth/acme"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

func TestARenewalIsInTimeAndSpread(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	until := from.Add(90 * 24 * time.Hour)
	days := map[int]int{}
	for i := range 1000 {
		name := fmt.Sprintf("h%d.example", i)
		at := acme.RenewAt(name, from, until)
		require.Equal(t, at, acme.RenewAt(name, from, until), "the same on each node")
		left := until.Sub(at)
		require.GreaterOrEqual(t, left, 30*24*time.Hour)
		require.LessOrEqual(t, left, 35*24*time.Hour)
		days[int(left.Hours()/12)]++
	}
	require.Len(t, days, 9, "spread over four and a half days")
	for half, n := range days {
		require.Less(t, n, 200, "half day %d", half)
	}
	require.Equal(t, from, acme.WindowAt(from, from, "x"))
	at := acme.WindowAt(from, until, "x")
	require.True(t, !at.Before(from) && at.Before(until))
}

func TestBackoffGrowsToADay(t *testing.T) {
	within, sum := 0, time.Duration(0)
	for n := range 40 {
		d := acme.Backoff(time.Minute, n, "x.example")
		require.LessOrEqual(t, d, acme.MaxBackoff*11/10)
		require.GreaterOrEqual(t, d, min(time.Minute<<min(n, 20), acme.MaxBackoff))
		if sum += d; sum < time.Hour {
			within++
		}
	}
	require.LessOrEqual(t, within, 5, "attempts in the first hour, after the first")
	require.Equal(t, 90*time.Second, acme.ParseRetry("90"))
	require.Zero(t, acme.ParseRetry("-1"))
	require.Zero(t, acme.ParseRetry("soon"))
	require.LessOrEqual(t, acme.ParseRetry("99999999999"), 7*24*time.Hour)
}

func TestRatesAreCountedInAWindow(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	var times []time.Time
	for i := range 5 {
		times = append(times, now.Add(-time.Duration(50-10*i)*time.Minute)) // 50, 40, 30, 20 and 10 minutes ago
	}
	require.Zero(t, acme.Wait(times, 6, time.Hour, now))
	require.Equal(t, 10*time.Minute+time.Second, acme.Wait(times, 5, time.Hour, now), "until the first is an hour old")
	require.Equal(t, 40*time.Minute+time.Second, acme.Wait(times, 2, time.Hour, now))
	require.Zero(t, acme.Wait(times, 5, 45*time.Minute, now))
	require.Zero(t, acme.Wait(nil, 1, time.Hour, now))
	for name, want := range map[string]string{
		"a.b.example.co.uk": "example.co.uk", "*.example.com": "example.com", "example.com": "example.com", "com": "com",
	} {
		require.Equal(t, want, acme.Registered(name))
	}
}

func TestCertificatesAreWantedForOwnedHostsOnly(t *testing.T) {
	conf := &config.Project{Resources: config.Resources{Domains: []config.Domain{
		{Common: config.Common{ID: "auto"}, FQDN: "a.example.com", CertType: "auto"},
		{Common: config.Common{ID: "inline"}, FQDN: "b.example.com", CertType: "inline"},
	}}}
	c := &tns.Change{
		Project: "QmShop", Branch: "main",
		Deployment: &tns.Deployment{Parts: map[taubyte.RepositoryID]tns.Part{"r": {Config: conf}}},
		Hosts: []tns.HostClaim{
			{Host: "a.example.com", Domain: "auto", Verified: true},
			{Host: "b.example.com", Domain: "inline", Verified: true},
			{Host: "unverified.example.com", Domain: "auto"},
			{Host: "lost.example.com", Domain: "auto", Verified: true},
			{Host: "*.wild.example.com", Domain: "auto", Verified: true},
			{Host: "shop-x.cloud.test", Domain: "auto", Generated: true, Verified: true},
			{Host: "dev--shop-x.cloud.test", Domain: "auto", Generated: true, Verified: true},
			{Host: "bad_name.example.com", Domain: "auto", Verified: true},
		},
		Conflicts: []tns.Claim{{HostClaim: tns.HostClaim{Host: "lost.example.com"}, State: tns.ClaimLost}},
	}
	require.Equal(t, []string{"a.example.com", "*.wild.example.com", "shop-x.cloud.test", "dev--shop-x.cloud.test"}, acme.Needs(c, "cloud.test", false))
	require.Equal(t, []string{"a.example.com", "*.wild.example.com", "*.cloud.test"}, acme.Needs(c, "cloud.test", true), "one for all generated names")
	require.Empty(t, acme.Needs(&tns.Change{Project: "QmShop", Hosts: c.Hosts}, "cloud.test", true), "a branch that was removed")
	for name, want := range map[string]bool{
		"example.com": true, "*.example.com": true, "xn--bcher-kva.example": true, "localhost": false, "10.0.0.1": false, "": false, "a..b": false,
		"-a.example": false, "A.example": false, "*.com.": false, "*.*.example": false, strings.Repeat("a", 64) + ".example": false,
	} {
		require.Equal(t, want, acme.ValidName(name), name)
	}
}

// No hello is needed for an order: it is due when the host is known, when its certificate
// is gone, and when the wait after a failure is over.
func TestWhatIsMissingIsDueByItself(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	by, err := peer.Decode("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
	require.NoError(t, err)
	const host = "a.example.com"
	p := acme.NewPlan(&now)
	require.Empty(t, p.Due())
	p.Want(host)
	require.Equal(t, []string{host}, p.Due(), "at once")

	require.NoError(t, p.Ended(host, 1, by, 3, now.Add(8*time.Minute)))
	now = now.Add(8*time.Minute - time.Second)
	require.Empty(t, p.Due(), "a failure waits")
	now = now.Add(time.Second)
	require.Equal(t, []string{host}, p.Due())

	require.NoError(t, p.Ended(host, 2, by, 0, time.Time{}))
	p.Hold(host, true)
	now = now.Add(24 * time.Hour)
	require.Empty(t, p.Due(), "there is one")
	p.Hold(host, false)
	require.Equal(t, []string{host}, p.Due(), "one that was removed is ordered anew")
}

// A node that is asked to renew does, whoever's the certificate is otherwise, and does not
// wait for what failed before; but it waits after what fails then.
func TestWhatANodeIsAskedToRenewItOrders(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	by, err := peer.Decode("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
	require.NoError(t, err)
	const host = "a.example.com"
	p := acme.NewPlan(&now)
	p.Others(true)
	require.False(t, p.Force(host), "not wanted")
	p.Want(host)
	require.Empty(t, p.Due(), "another's")
	require.NoError(t, p.Ended(host, 1, by, 12, now.Add(24*time.Hour)))
	require.True(t, p.Force(host))
	require.Equal(t, []string{host}, p.Due())

	require.NoError(t, p.Ended(host, 2, by, 13, now.Add(24*time.Hour)))
	now = now.Add(24*time.Hour - time.Second)
	require.Empty(t, p.Due(), "it failed again")
	now = now.Add(time.Second)
	require.Equal(t, []string{host}, p.Due())
}

func TestBadOptionsAreRefused(t *testing.T) {
	net := testnet.New(t)
	n := net.Node()
	for what, o := range map[string]acme.Option{
		"method": acme.WithMethods("smoke-signals"), "no method": acme.WithMethods(), "plain": acme.WithDirectory("http://example.com/dir"),
		"half an account": acme.WithExternalAccount("id", ""),
	} {
		_, err := acme.New(t.Context(), n, n.Store, o)
		require.ErrorIs(t, err, taubyte.ErrInvalid, what)
	}
	s, err := acme.New(t.Context(), n, n.Store, acme.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	require.ErrorIs(t, s.Renew(t.Context(), "nobody.example.com"), taubyte.ErrNotFound)
	require.ErrorIs(t, s.Renew(t.Context(), "no name"), taubyte.ErrInvalid)
	all, err := s.Certificates(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
	_, err = s.Certificates(taubyte.WithPrincipal(t.Context(), taubyte.Principal{}))
	require.ErrorIs(t, err, taubyte.ErrForbidden)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
}

func FuzzRecordKey(f *testing.F) {
	f.Add("/orders/_.cloud.test/00000000000000000042/grant/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
	f.Add("/orders/a.example/00000000000000000042/end/3/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
	f.Add("/orders//x/grant/")
	f.Fuzz(func(t *testing.T, key string) {
		if back, err := acme.ParseKey(key); err == nil && back != key {
			t.Fatalf("%q is read as %q", key, back)
		}
	})
}
