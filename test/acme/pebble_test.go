package acme_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
)

var pebbleProgram string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pebble-*")
	if err != nil {
		panic(err)
	}
	pebbleProgram = filepath.Join(dir, "pebble")
	if runtime.GOOS == "windows" {
		pebbleProgram += ".exe"
	}
	out, err := exec.Command("go", "build", "-o", pebbleProgram, "github.com/letsencrypt/pebble/v2/cmd/pebble").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "building pebble: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// pebble is an ACME server in chaos: it rejects nonces, and reuses authorizations as it
// likes.
type pebble struct {
	t          *testing.T
	Directory  string
	management string
	rootsFile  string
	http       *http.Client
	HTTPPort   int // where it looks for HTTP-01
	TLSPort    int // and for TLS-ALPN-01
	said       *testbin.Buffer
}

type pebbleConfig struct {
	HTTPPort, TLSPort int
	DNS               string         // the resolver's address
	EAB               [2]string      // id and key, where one is required
	Profiles          map[string]any // by name
	AuthzReuse        int            // percent
}

func startPebble(t *testing.T, c pebbleConfig) *pebble {
	t.Helper()
	dir := t.TempDir()
	cert, key := selfSigned(t)
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, cert, 0o600))
	require.NoError(t, os.WriteFile(keyFile, key, 0o600))
	p := &pebble{t: t, rootsFile: certFile, HTTPPort: c.HTTPPort, TLSPort: c.TLSPort}
	api, management := fmt.Sprintf("127.0.0.1:%d", testnet.FreePort(t)), fmt.Sprintf("127.0.0.1:%d", testnet.FreePort(t))
	p.Directory, p.management = "https://"+api+"/dir", "https://"+management
	inner := map[string]any{
		"listenAddress": api, "managementListenAddress": management, "certificate": certFile, "privateKey": keyFile,
		"httpPort": c.HTTPPort, "tlsPort": c.TLSPort, "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
	}
	if c.EAB[0] != "" {
		inner["externalAccountBindingRequired"] = true
		inner["externalAccountMACKeys"] = map[string]string{c.EAB[0]: c.EAB[1]}
	}
	if c.Profiles != nil {
		inner["profiles"] = c.Profiles
	}
	raw, err := json.Marshal(map[string]any{"pebble": inner})
	require.NoError(t, err)
	config := filepath.Join(dir, "config.json")
	require.NoError(t, os.WriteFile(config, raw, 0o600))
	env := []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=20", fmt.Sprintf("PEBBLE_AUTHZREUSE=%d", c.AuthzReuse)}
	p.said = &testbin.Buffer{}
	cmd := exec.Command(pebbleProgram, "-config", config, "-dnsserver", c.DNS)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = p.said, p.said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("pebble said:\n%s", p.said)
		}
	})
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(cert))
	p.http = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	testnet.Eventually(t, func() bool {
		resp, err := p.http.Get(p.Directory)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, "pebble does not start")
	return p
}

// client is one that trusts the server, for one service.
func (p *pebble) client() *http.Client {
	return &http.Client{Transport: p.http.Transport.(*http.Transport).Clone()}
}

// get asks the management interface.
func (p *pebble) get(path string) []byte {
	p.t.Helper()
	resp, err := p.http.Get(p.management + path)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, resp.StatusCode, "%s", body)
	return body
}

// roots are those of the certificates that it issues.
func (p *pebble) roots() *x509.CertPool {
	p.t.Helper()
	pool := x509.NewCertPool()
	require.True(p.t, pool.AppendCertsFromPEM(p.get("/roots/0")))
	return pool
}

// suggest sets when the server wants a certificate renewed.
func (p *pebble) suggest(leaf *x509.Certificate, start, end time.Time) {
	p.t.Helper()
	answer, err := json.Marshal(map[string]any{"suggestedWindow": map[string]time.Time{"start": start, "end": end}})
	require.NoError(p.t, err)
	body, err := json.Marshal(map[string]string{
		"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})), "ARIResponse": string(answer),
	})
	require.NoError(p.t, err)
	resp, err := p.http.Post(p.management+"/set-renewal-info/", "application/json", bytes.NewReader(body))
	require.NoError(p.t, err)
	_ = resp.Body.Close()
	require.Equal(p.t, http.StatusOK, resp.StatusCode)
}

// selfSigned makes the server's own certificate.
func selfSigned(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pebble"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	require.NoError(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// resolver is the DNS of the tests: every name leads to one of some addresses, in turn,
// or to what a world has.
type resolver struct {
	Addr string
	txt  func(name string) []string

	mu     sync.Mutex
	addrs  []string
	next   int
	answer func(*dns.Msg) *dns.Msg // where it is set
}

// ask has all queries answered by a function.
func (r *resolver) ask(answer func(*dns.Msg) *dns.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *resolver) asked() func(*dns.Msg) *dns.Msg {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answer
}

// lead has names lead to other addresses.
func (r *resolver) lead(addrs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addrs = addrs
}

func (r *resolver) addr() net.IP {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	return net.ParseIP(r.addrs[r.next%len(r.addrs)])
}

func startDNS(t *testing.T, addrs ...string) *resolver {
	t.Helper()
	r := &resolver{addrs: addrs}
	r.Addr = serveNames(t, dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if answer := r.asked(); answer != nil {
			_ = w.WriteMsg(answer(q))
			return
		}
		m := new(dns.Msg)
		m.SetReply(q)
		switch name := q.Question[0].Name; q.Question[0].Qtype {
		case dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: r.addr()})
		case dns.TypeTXT:
			if r.txt == nil {
				break
			}
			values := r.txt(strings.ToLower(strings.TrimSuffix(name, ".")))
			if len(values) == 0 {
				m.Rcode = dns.RcodeNameError
			}
			for _, v := range values {
				var parts []string
				for ; len(v) > 255; v = v[255:] {
					parts = append(parts, v[:255])
				}
				m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: append(parts, v)})
			}
		}
		_ = w.WriteMsg(m)
	}))
	return r
}

// lookup is a net.Resolver that asks this server.
func (r *resolver) lookup() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, r.Addr)
	}}
}
