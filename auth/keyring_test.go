package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
)

// feed is a watcher of certificates that the test feeds.
type feed chan []auth.Certificate

func (f feed) WatchCertificates(context.Context) (<-chan []auth.Certificate, error) { return f, nil }
func (f feed) WatchInlineCertificates(context.Context) (<-chan []auth.Certificate, error) {
	return nil, taubyte.ErrUnavailable
}

// many makes certificates, all of one key: making keys is not what is measured.
func many(t testing.TB, n int) []auth.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	all := make([]auth.Certificate, n)
	for i := range all {
		host := fmt.Sprintf("h%d.example.com", i)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		require.NoError(t, err)
		cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		// As long as a chain is: the leaf and an intermediate.
		all[i] = auth.Certificate{Hosts: []string{host}, Cert: string(cert) + string(cert), Key: text}
	}
	return all
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAKeyringFollowsWhatChanges(t *testing.T) {
	testnet.CheckLeaks(t)
	all, f := many(t, 4), make(feed)
	k := auth.NewKeyring(f, testnet.Logger(t))
	defer k.Close()
	defer close(f)
	f <- all[:3]
	testnet.Eventually(t, func() bool { return serves(k, "h2.example.com") != "" }, "served")
	before, err := k.GetCertificate(&tls.ClientHelloInfo{ServerName: "h0.example.com"})
	require.NoError(t, err)
	broken := all[1]
	broken.Key = "no key"
	f <- []auth.Certificate{all[0], broken, all[3]}
	testnet.Eventually(t, func() bool { return serves(k, "h3.example.com") != "" && serves(k, "h2.example.com") == "" }, "one came, one went")
	require.Empty(t, serves(k, "h1.example.com"))
	after, err := k.GetCertificate(&tls.ClientHelloInfo{ServerName: "h0.example.com"})
	require.NoError(t, err)
	require.Same(t, before, after, "what did not change is not parsed again")
}

// BenchmarkKeyring tells of 10,000 certificates: how long until all are served (ms/up),
// the memory that they take before any is used (MiB) and when all were (MiB-used), how
// long a look-up takes, and a change of one (ms/change).
func BenchmarkKeyring(b *testing.B) {
	all, f := many(b, 10_000), make(feed)
	before := heap()
	k := auth.NewKeyring(f, slog.New(slog.DiscardHandler))
	defer k.Close()
	defer close(f)
	last := &tls.ClientHelloInfo{ServerName: "h9999.example.com"}
	began := time.Now()
	f <- all
	for {
		if _, err := k.GetCertificate(last); err == nil {
			break
		}
	}
	up := time.Since(began)
	fresh := heap()
	hellos := make([]*tls.ClientHelloInfo, len(all))
	for i := range hellos {
		hellos[i] = &tls.ClientHelloInfo{ServerName: fmt.Sprintf("h%d.example.com", i)}
	}
	for _, h := range hellos {
		_, err := k.GetCertificate(h)
		require.NoError(b, err)
	}
	used := heap()
	one := many(b, 1)[0]
	began = time.Now()
	f <- append([]auth.Certificate{one}, all[1:]...)
	f <- append([]auth.Certificate{one}, all[1:]...) // taken when the first was worked off
	change := time.Since(began)
	i := 0
	for b.Loop() {
		_, _ = k.GetCertificate(hellos[i%1000])
		i++
	}
	b.ReportMetric(float64(up.Microseconds())/1000, "ms/up")
	b.ReportMetric(float64(change.Microseconds())/1000, "ms/change")
	b.ReportMetric(float64(fresh-before)/(1<<20), "MiB")
	b.ReportMetric(float64(used-before)/(1<<20), "MiB-used")
}

// BenchmarkStart tells how long a node of role auth that keeps 10,000 certificates takes
// until it serves (ms/up), and what they cost it in memory (MiB).
func BenchmarkStart(b *testing.B) {
	net := testnet.New(b)
	node := net.Node()
	log := auth.WithLogger(slog.New(slog.DiscardHandler))
	s, err := auth.New(b.Context(), node, node.Store, log)
	require.NoError(b, err)
	require.NoError(b, s.KeepCertificates(b.Context(), many(b, 10_000)))
	require.NoError(b, s.Close())
	var up time.Duration
	var memory uint64
	n := 0
	for b.Loop() {
		before, began := heap(), time.Now()
		s, err := auth.New(b.Context(), node, node.Store, log)
		up += time.Since(began)
		require.NoError(b, err)
		memory += heap() - before
		all, err := s.Certificates(b.Context())
		require.NoError(b, err)
		require.Len(b, all, 10_000)
		require.NoError(b, s.Close())
		n++
	}
	b.ReportMetric(float64(up.Milliseconds())/float64(n), "ms/up")
	b.ReportMetric(float64(memory)/float64(n)/(1<<20), "MiB")
}
