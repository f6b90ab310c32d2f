package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/acme"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// Hellos for names that nobody has are refused by the alert that says so. They order
// nothing and leave nothing behind, and a known host is served meanwhile. What does order
// is that the registry has a host, before anybody asks for it.
func TestAFloodOfHellosOrdersNothing(t *testing.T) {
	b := newBench(t, gateway.WithTLS("127.0.0.1:0"))
	b.substrate(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })
	s, err := auth.New(t.Context(), b.edge, b.edge.Store, auth.WithLogger(testnet.Logger(t)))
	require.NoError(t, err)
	defer s.Close()
	cert, key, pool := selfSigned(t)
	_, err = s.ImportCertificate(t.Context(), cert, key)
	require.NoError(t, err)
	var asked atomic.Int64 // whatever is ordered begins here
	authority := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "closed", http.StatusServiceUnavailable)
	}))
	defer authority.Close()
	orders, err := acme.New(t.Context(), b.edge, b.edge.Store, acme.WithLogger(testnet.Logger(t)),
		acme.WithDirectory(authority.URL), acme.WithHTTPClient(authority.Client()))
	require.NoError(t, err)
	defer orders.Close()
	wanted := func() (hosts []string) {
		all, err := orders.Certificates(t.Context())
		require.NoError(t, err)
		for _, c := range all {
			hosts = append(hosts, c.Hosts...)
		}
		return hosts
	}

	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", b.gateway.TLSAddr())
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true, DialContext: dial,
	}}
	served := func() error {
		resp, err := client.Get("https://" + site + "/fn")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "here" {
			return fmt.Errorf("%s %q: %w", resp.Status, body, err)
		}
		return nil
	}
	testnet.Eventually(t, func() bool { return served() == nil && len(wanted()) == 1 }, "the known host is served")

	// One hello is made and its name changed: what clients compute is not what is shown.
	const someName = "x00000000.example.net"
	pattern := firstFlight(t, someName)
	hello := func(name string) (answer []byte, err error) {
		conn, err := dial(t.Context(), "", "")
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := conn.Write(bytes.Replace(pattern, []byte(someName), []byte(name), 1)); err != nil {
			return nil, err
		}
		return io.ReadAll(conn)
	}
	flood := func(from, to int) {
		var next atomic.Int64
		next.Store(int64(from))
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for n := next.Add(1); n <= int64(to); n = next.Add(1) {
					answer, err := hello(fmt.Sprintf("x%08d.example.net", n*7919))
					if err != nil || !bytes.Equal(answer, unrecognizedName) {
						t.Errorf("hello %d: %x, %v", n, answer, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	flood(0, 200) // what is made once
	before, began := heap(), time.Now()
	done, answers := make(chan struct{}), 0
	go func() { defer close(done); flood(200, 2200) }()
	for over := false; !over; answers++ {
		require.NoError(t, served())
		select {
		case <-done:
			over = true
		default:
		}
	}
	took, kept := time.Since(began), int64(heap())-int64(before)
	t.Logf("2,000 hellos in %s, %d KiB more; %d requests of a known host meanwhile", took.Round(time.Millisecond), kept>>10, answers)
	require.Less(t, kept, int64(8<<20))
	require.Equal(t, []string{site}, wanted())
	require.Zero(t, asked.Load(), "no order")

	_, err = b.tns.Publish(t.Context(), "other", "main", tns.Part{Repository: "local/y", Commit: "c", Config: &config.Project{ID: "other", Resources: config.Resources{
		Domains: []config.Domain{{Common: config.Common{ID: "o"}, FQDN: "fresh.example.com", CertType: "auto"}},
		Functions: []config.Function{{Common: config.Common{ID: "g", Name: "g"}, Type: "http", Method: "GET",
			Domains: []taubyte.ResourceID{"o"}, Paths: []string{"/"}, Source: "."}},
	}}})
	require.NoError(t, err)
	testnet.Eventually(t, func() bool { return asked.Load() > 0 }, "ordered, though nobody has come")
	require.Len(t, wanted(), 2)
	conn, err := tls.Dial("tcp", b.gateway.TLSAddr(), &tls.Config{ServerName: "fresh.example.com", RootCAs: pool})
	if err == nil {
		_ = conn.Close()
	}
	require.ErrorContains(t, err, "unrecognized name", "until there is a certificate")
}

// unrecognizedName is a record with that alert, fatal (RFC 6066).
var unrecognizedName = []byte{21, 3, 3, 0, 2, 2, 112}

// firstFlight is what a client sends first.
func firstFlight(t *testing.T, name string) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	var client sync.WaitGroup
	defer client.Wait()
	defer there.Close()
	client.Go(func() { _ = tls.Client(there, &tls.Config{ServerName: name}).Handshake() })
	head := make([]byte, 5)
	_, err := io.ReadFull(here, head)
	require.NoError(t, err)
	body := make([]byte, int(head[3])<<8|int(head[4]))
	_, err = io.ReadFull(here, body)
	require.NoError(t, err)
	return append(head, body...)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
