package cloud_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/gateway"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

func options(t *testing.T, text string) ([]cloud.Option, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "taubyte.yaml")
	require.NoError(t, os.WriteFile(file, []byte("data: data\nservices: [tns, seer, gateway]\n"+text), 0o600))
	c, err := cloud.ReadConfig(file)
	if err != nil {
		return nil, err
	}
	return c.Options()
}

func TestLimitsThatAreNone(t *testing.T) {
	for text, says := range map[string]string{
		"limits: {requests: 0}":                       "requests is 0: it takes 1 to",
		"limits: {sockets: -1}":                       "sockets is -1",
		"limits: {connections: 1000000000}":           "connections is 1000000000",
		"limits: {min_rate: 0}":                       "min_rate is 0",
		"limits: {min_rate: lots}":                    "cannot unmarshal",
		"limits: {grace: 10ms}":                       "grace is 10ms: it takes 1s to 1h",
		"limits: {grace: soon}":                       "cannot unmarshal",
		"limits: {streams: 10}":                       "field streams not found",
		"limits: {sockets: 200, connections: 100}":    "200 sockets need as many connections",
		"services: [tns]\nlimits: {connections: 100}": "already defined",
	} {
		_, err := options(t, text)
		require.ErrorIs(t, err, taubyte.ErrInvalid, text)
		require.ErrorContains(t, err, says, text)
	}
	file := filepath.Join(t.TempDir(), "taubyte.yaml")
	require.NoError(t, os.WriteFile(file, []byte("data: data\nservices: [tns]\nlimits: {connections: 100}\n"), 0o600))
	c, err := cloud.ReadConfig(file)
	require.NoError(t, err)
	_, err = c.Options()
	require.ErrorContains(t, err, "the gateway, which is not among the services")
	_, err = cloud.Open(t.Context(), t.TempDir(), cloud.WithGatewayLimits(gateway.Limits{Requests: -1}))
	require.ErrorIs(t, err, taubyte.ErrInvalid)
}

// The gateway of a node goes by the limits of its configuration file.
func TestLimitsOfTheConfigurationFile(t *testing.T) {
	testnet.CheckLeaks(t)
	opts, err := options(t, "limits: {requests: 100, sockets: 10, connections: 20, min_rate: 512, grace: 2s}")
	require.NoError(t, err)
	n, err := cloud.Open(t.Context(), filepath.Join(t.TempDir(), "node"), append(opts, cloud.WithLogger(testnet.Logger(t)))...)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()

	// Of 20 connections a client alone has a fifth.
	for range 4 {
		c, err := net.Dial("tcp", strings.TrimPrefix(n.URL(), "http://"))
		require.NoError(t, err)
		defer c.Close()
	}
	testnet.Eventually(t, func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(n.URL(), "http://"))
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		_, err = c.Read(make([]byte, 1))
		return err == io.EOF
	}, "a connection too many is closed")
}

func TestCertificatesOfTheConfigurationFile(t *testing.T) {
	for text, says := range map[string]string{
		"certificates: [{cert: a.pem}]":                    "number 1 has no cert or no key",
		"certificates: [{cert: a.pem, keys: b.pem}]":       "field keys not found",
		"certificates: {cert: a.pem, key: b.pem}":          "cannot unmarshal",
		"certificates: [{key: a.pem}]\nhttps: 127.0.0.1:0": "number 1 has no cert or no key",
	} {
		_, err := options(t, text)
		require.ErrorIs(t, err, taubyte.ErrInvalid, text)
		require.ErrorContains(t, err, says, text)
	}
	opts, err := options(t, "certificates: [{cert: a.pem, key: b.pem}]")
	require.NoError(t, err)
	_, err = cloud.Open(t.Context(), t.TempDir(), opts...)
	require.ErrorContains(t, err, "served by HTTPS")
}

func TestImagesOfTheConfigurationFile(t *testing.T) {
	_, err := options(t, "images:\n  klakegg/hugo: {toolchain: shell, path: [/opt/hugo/bin], folders: [/opt/hugo], env: {HUGO_ENV: production}}\n  \"*\": {path: [/opt/bin]}\n")
	require.NoError(t, err)
	_, err = options(t, "images:\n  klakegg/hugo: {programs: [hugo]}\n")
	require.ErrorContains(t, err, "field programs not found")
}

// Without development a host name takes proof, unless the configuration says otherwise;
// whoever does not get one is told by the answer.
func TestWhoseHostsAreServed(t *testing.T) {
	for _, c := range []struct {
		config string
		opts   []cloud.Option
		served bool
	}{
		{"", nil, false},
		{"development: true", nil, true},
		{"verified-only: false", nil, true},
		{"development: true\nverified-only: true", nil, false},
		{"verified-only: true", []cloud.Option{cloud.WithVerifiedOnly(false)}, true},
	} {
		file := filepath.Join(t.TempDir(), "taubyte.yaml")
		require.NoError(t, os.WriteFile(file, []byte("data: data\nservices: [tns]\n"+c.config), 0o600))
		conf, err := cloud.ReadConfig(file)
		require.NoError(t, err)
		opts, err := conf.Options()
		require.NoError(t, err)
		n, err := cloud.Open(t.Context(), filepath.Join(t.TempDir(), "node"), append(append(opts, cloud.WithLogger(testnet.Logger(t))), c.opts...)...)
		require.NoError(t, err)
		project := &config.Project{ID: projectA, Name: "shop"}
		project.Domains = []config.Domain{{Common: config.Common{ID: "d", Name: "d"}, FQDN: "shop.example.com"}}
		d, err := n.TNS.Publish(t.Context(), projectA, "main", tns.Part{Repository: "local/shop", Commit: "c", Order: 1, Config: project})
		require.NoError(t, err)
		require.Equal(t, c.served, len(d.Conflicts) == 0, c.config)
		require.NoError(t, n.Close())
	}
}
