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
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/internal/testnet"
)

// feed is a watcher of certificates that the test feeds.
type feed chan auth.CertificateChange

func (f feed) WatchCertificates(context.Context) (<-chan auth.CertificateChange, error) {
	return f, nil
}

func (f feed) WatchInlineCertificates(context.Context) (<-chan auth.CertificateChange, error) {
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
		all[i] = auth.Certificate{ID: host, Hosts: []string{host}, Cert: string(cert) + string(cert), Key: text}
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
	f <- auth.CertificateChange{Set: all[:3]}
	testnet.Eventually(t, func() bool { return serves(k, "h2.example.com") != "" }, "served")
	before, err := k.GetCertificate(&tls.ClientHelloInfo{ServerName: "h0.example.com"})
	require.NoError(t, err)
	broken := all[1]
	broken.Key = "no key"
	f <- auth.CertificateChange{Set: []auth.Certificate{all[0], broken, all[3]}, Gone: []string{all[2].ID}}
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
	f <- auth.CertificateChange{Set: all}
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
	f <- auth.CertificateChange{Set: []auth.Certificate{one}}
	f <- auth.CertificateChange{} // taken when the first was worked off
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

// Nothing is kept of the hellos for names that have no certificate, however long they are.
func TestUnknownNamesLeaveNothingBehind(t *testing.T) {
	testnet.CheckLeaks(t)
	all, f := many(t, 1), make(feed)
	k := auth.NewKeyring(f, testnet.Logger(t))
	defer k.Close()
	defer close(f)
	f <- auth.CertificateChange{Set: all}
	f <- auth.CertificateChange{} // taken when the first was worked off
	before := heap()
	tail := strings.Repeat("x", 60) + "." + strings.Repeat("y", 60) + "." + strings.Repeat("z", 60) + ".example"
	const n = 50_000
	for i := range n {
		_, err := k.GetCertificate(&tls.ClientHelloInfo{ServerName: fmt.Sprintf("n%d.%s", i, tail)})
		if !errors.Is(err, taubyte.ErrNotFound) {
			t.Fatal(err)
		}
	}
	kept := int64(heap()) - int64(before)
	t.Logf("%d unknown names of %d bytes leave %d KiB", n, len(tail)+6, kept>>10)
	require.Less(t, kept, int64(4<<20), "the names alone are 10 MB")
	_, err := k.GetCertificate(&tls.ClientHelloInfo{ServerName: strings.Repeat("a.", 30<<10)})
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	require.Less(t, len(err.Error()), 300, "what a stranger sent is not repeated at length")
	require.NotEmpty(t, serves(k, "h0.example.com"))
}

// recorded is a connection on which a client said hello, and then nothing more.
type recorded struct {
	net.Conn
	hello []byte
}

func (c *recorded) Read(p []byte) (int, error) {
	if len(c.hello) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.hello)
	c.hello = c.hello[n:]
	return n, nil
}

func (c *recorded) Write(p []byte) (int, error) { return len(p), nil }
func (c *recorded) Close() error                { return nil }

// hello is what a client sends first.
func hello(b *testing.B, name string) []byte {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	go func() { _ = tls.Client(there, &tls.Config{ServerName: name}).Handshake() }()
	head := make([]byte, 5)
	_, err := io.ReadFull(here, head)
	require.NoError(b, err)
	body := make([]byte, int(head[3])<<8|int(head[4]))
	_, err = io.ReadFull(here, body)
	require.NoError(b, err)
	return append(head, body...)
}

// BenchmarkUnknownHello is what hellos for names without a certificate cost a server:
// the look-up alone among 10,000 certificates, the whole handshake, which is refused, and
// for comparison that of a bare tls.Config that has one certificate for all who come.
func BenchmarkUnknownHello(b *testing.B) {
	all, f := many(b, 10_000), make(feed)
	k := auth.NewKeyring(f, slog.New(slog.DiscardHandler))
	defer k.Close()
	defer close(f)
	f <- auth.CertificateChange{Set: all}
	f <- auth.CertificateChange{}
	names, hellos := make([]*tls.ClientHelloInfo, 64), make([][]byte, 64)
	for i := range names {
		names[i] = &tls.ClientHelloInfo{ServerName: fmt.Sprintf("Stranger%d.example.com", i)}
		hellos[i] = hello(b, names[i].ServerName)
	}
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := k.GetCertificate(names[i%len(names)]); err == nil {
				b.Fatal("found")
			}
		}
	})
	handshakes := func(conf *tls.Config) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if tls.Server(&recorded{hello: hellos[i%len(hellos)]}, conf).Handshake() == nil {
					b.Fatal("done, with a client that says nothing more")
				}
			}
		}
	}
	b.Run("handshake-keyring", handshakes(&tls.Config{GetCertificate: k.GetCertificate}))
	one, err := tls.X509KeyPair([]byte(all[0].Cert), []byte(all[0].Key))
	require.NoError(b, err)
	b.Run("handshake-bare", handshakes(&tls.Config{Certificates: []tls.Certificate{one}}))
}

// A change of one certificate is told and taken in alone, however many there are, also
// where a watch ends and another begins.
func TestAChangeOfACertificateCostsThatOne(t *testing.T) {
	net := testnet.New(t)
	s := open(t, net.Node(taubyte.RoleAuth))
	ctx := t.Context()
	all := many(t, 300) // in two changes
	for i := range all {
		all[i].ID = ""
	}
	require.NoError(t, s.KeepCertificates(ctx, all))
	cut := make(chan struct{})
	cutter := &cuts{CertificateWatcher: client(t, net.Node(taubyte.RoleGateway)), cut: cut}
	changes := make(chan auth.CertificateChange, 16)
	following, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		auth.FollowCertificates(following, cutter.WatchCertificates, func(c auth.CertificateChange) { changes <- c })
	}()
	defer func() { stop(); <-done }()
	told := map[string]bool{}
	for len(told) < len(all) {
		c := <-changes
		for _, x := range c.Set {
			require.False(t, told[x.ID], "told twice")
			told[x.ID] = true
		}
		require.Empty(t, c.Gone)
	}
	hosts := all[7].Hosts
	cert, key := certificate(t, time.Now().Add(time.Hour), hosts...)
	_, err := s.ImportCertificate(ctx, cert, key)
	require.NoError(t, err)
	c := <-changes
	require.Len(t, c.Set, 1)
	require.Equal(t, cert, c.Set[0].Cert)

	// The watch ends, and while there is none one comes and one goes.
	cutter.hold.Lock()
	close(cut)
	cert, key = certificate(t, time.Now().Add(time.Hour), "new.example")
	_, err = s.ImportCertificate(ctx, cert, key)
	require.NoError(t, err)
	require.NoError(t, s.RemoveCertificate(ctx, hosts[0]))
	cutter.hold.Unlock()
	var set, gone int
	for set+gone < 2 {
		c := <-changes
		for _, x := range c.Set {
			require.Equal(t, cert, x.Cert)
		}
		set, gone = set+len(c.Set), gone+len(c.Gone)
	}
	require.Equal(t, [2]int{1, 1}, [2]int{set, gone})
}

// cuts is a watcher whose first watch ends when the test says so.
type cuts struct {
	auth.CertificateWatcher
	cut  chan struct{}
	hold sync.Mutex // no watch begins while it is held
}

func (c *cuts) WatchCertificates(ctx context.Context) (<-chan auth.CertificateChange, error) {
	c.hold.Lock()
	defer c.hold.Unlock()
	select {
	case <-c.cut:
		return c.CertificateWatcher.WatchCertificates(ctx)
	default:
	}
	ctx, stop := context.WithCancel(ctx)
	go func() {
		defer stop()
		select {
		case <-c.cut:
		case <-ctx.Done():
		}
	}()
	return c.CertificateWatcher.WatchCertificates(ctx)
}

// lasts is a watcher that gives out the last of the first certificates.
type lasts struct {
	auth.CertificateWatcher
	last chan []auth.Certificate
}

func (l *lasts) WatchCertificates(ctx context.Context) (<-chan auth.CertificateChange, error) {
	in, err := l.CertificateWatcher.WatchCertificates(ctx)
	if err != nil {
		return nil, err
	}
	out := make(chan auth.CertificateChange)
	go func() {
		defer close(out)
		for c := range in {
			out <- c
			if !c.More {
				l.last <- c.Set
				break
			}
		}
		for c := range in {
			out <- c
		}
	}()
	return out, nil
}

// BenchmarkStart tells how long a node of role auth that keeps 10,000 certificates takes
// until it serves (ms/up), what they cost it in memory (MiB), how long a gateway on
// another node takes then until it serves all (ms/gateway), and how long after an import
// of one that gateway serves it (ms/import).
func BenchmarkStart(b *testing.B) {
	net := testnet.New(b)
	node, edge := net.Node(), net.Node(taubyte.RoleGateway)
	log := auth.WithLogger(slog.New(slog.DiscardHandler))
	s, err := auth.New(b.Context(), node, node.Store, log)
	require.NoError(b, err)
	all := many(b, 10_000)
	require.NoError(b, s.KeepCertificates(b.Context(), all))
	require.NoError(b, s.Close())
	var up, gateway, change time.Duration
	var memory uint64
	n := 0
	for b.Loop() {
		before, began := heap(), time.Now()
		s, err := auth.New(b.Context(), node, node.Store, log)
		up += time.Since(began)
		require.NoError(b, err)
		memory += heap() - before
		listed, err := s.Certificates(b.Context())
		require.NoError(b, err)
		require.Len(b, listed, len(all))
		c := auth.NewClient(edge)
		began = time.Now()
		last := &lasts{CertificateWatcher: c, last: make(chan []auth.Certificate, 1)}
		k := auth.NewKeyring(last, slog.New(slog.DiscardHandler))
		for _, x := range <-last.last {
			testnet.Eventually(b, func() bool { return serves(k, x.Hosts[0]) != "" }, "served")
		}
		gateway += time.Since(began)
		old, err := k.GetCertificate(&tls.ClientHelloInfo{ServerName: all[n].Hosts[0]})
		require.NoError(b, err)
		cert, key := certificate(b, time.Now().Add(time.Hour), all[n].Hosts...)
		began = time.Now()
		_, err = s.ImportCertificate(b.Context(), cert, key)
		require.NoError(b, err)
		for {
			c, err := k.GetCertificate(&tls.ClientHelloInfo{ServerName: all[n].Hosts[0]})
			require.NoError(b, err)
			if c != old {
				break
			}
			time.Sleep(50 * time.Microsecond)
		}
		change += time.Since(began)
		require.NoError(b, k.Close())
		require.NoError(b, c.Close())
		require.NoError(b, s.Close())
		n++
	}
	b.ReportMetric(float64(up.Milliseconds())/float64(n), "ms/up")
	b.ReportMetric(float64(gateway.Milliseconds())/float64(n), "ms/gateway")
	b.ReportMetric(float64(change.Microseconds())/1000/float64(n), "ms/import")
	b.ReportMetric(float64(memory)/float64(n)/(1<<20), "MiB")
}
