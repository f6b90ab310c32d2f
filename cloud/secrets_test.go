package cloud_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/environment"
	"github.com/taubyte/taubyte/cloud"
	"github.com/taubyte/taubyte/crdt"
	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
	"github.com/taubyte/taubyte/patrick"
	"github.com/taubyte/taubyte/tns"
	"github.com/taubyte/taubyte/tns/config"
)

// planted returns the text around a planted secret, or "".
func planted(b []byte, secrets ...string) string {
	for _, s := range secrets {
		if i := bytes.Index(b, []byte(s)); i >= 0 {
			return string(b[max(i-200, 0):min(i+200, len(b))])
		}
	}
	return ""
}

// Three nodes; a project whose build is given a secret, whose function has another, and
// whose configuration holds a private key, with which it is served. On no disk of a node
// without auth is there a byte of them, nor in a line of any log.
func TestNoSecretIsLeftLying(t *testing.T) {
	testnet.CheckLeaks(t)
	a, err := taubyte.NewAuthority()
	require.NoError(t, err)
	log := &testbin.Buffer{}
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var nodes []*cloud.Node
	var dirs []string
	start := func(roles ...taubyte.Role) *cloud.Node {
		var peers []peer.AddrInfo
		for _, n := range nodes {
			peers = append(peers, peer.AddrInfo{ID: n.Host.ID(), Addrs: n.Host.Addrs()})
		}
		dir := filepath.Join(t.TempDir(), "node")
		n, err := cloud.Open(t.Context(), dir, cloud.WithServices(roles...), cloud.WithDevelopment(), cloud.WithAuthority(a),
			cloud.WithHost(taubyte.WithPeers(peers...)), cloud.WithHTTPS("127.0.0.1:0"), cloud.WithLogger(logger))
		require.NoError(t, err)
		t.Cleanup(func() { _ = n.Close() })
		for _, p := range peers {
			testnet.Eventually(t, func() bool {
				_, err := n.Host.Member(context.Background(), p.ID)
				return err == nil
			}, "not connected")
		}
		nodes, dirs = append(nodes, n), append(dirs, dir)
		return n
	}
	control := start(taubyte.RoleAuth, taubyte.RoleTNS, taubyte.RolePatrick, taubyte.RoleSeer)
	ctx := t.Context()
	_, err = control.Auth.CreateProject(ctx, auth.Project{ID: projectA, Name: "shop"})
	require.NoError(t, err)
	_, err = control.Auth.Register(ctx, auth.Repository{ID: "local/shop", Project: projectA, Kind: auth.KindProject})
	require.NoError(t, err)
	const ofBuild, ofFunction = "planted-of-the-build", "planted-of-the-function"
	for name, value := range map[string]string{"DEPLOY_TOKEN": ofBuild, "DB_PASSWORD": ofFunction} {
		_, err = control.Auth.SetVariable(ctx, environment.Variable{Kind: environment.Secret, Project: projectA, Name: name, Value: []byte(value)})
		require.NoError(t, err)
	}
	start(taubyte.RoleMonkey, taubyte.RoleHoarder)
	run := start(taubyte.RoleSubstrate, taubyte.RoleGateway)

	cert, key := testnet.InlineCertificate(t, "inline.example")
	ofKey := strings.Fields(key)[3]

	dir := source(t, projectA)
	for name, content := range map[string]string{
		"config/domains/main.yaml":                 "id: QmRPRQww8rci6fpkK5Tp8NGjyGQUyrTgQm5j7BnFJqi4DW\nfqdn: inline.example\ncertificate:\n  type: inline\n  cert: |" + cert + "  key: |" + key,
		"config/websites/site.yaml":                "id: QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH\ndomains: [main]\nsource:\n  paths: [/]\n",
		"config/functions/ping.yaml":               "id: QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG\ntrigger:\n  type: http\n  method: GET\n  domains: [main]\n  paths: [/ping]\nsource: .\nexecution:\n  timeout: 5s\n  memory: 32MB\n  call: ping\n",
		"websites/site/.taubyte/config.yaml":       "environment:\n  secrets: [DEPLOY_TOKEN]\nworkflow: [build]\n",
		"websites/site/.taubyte/build.sh":          "echo \"deploying with $DEPLOY_TOKEN\"; env; test -n \"$DEPLOY_TOKEN\" && test -z \"$DB_PASSWORD\" && cp index.html $OUT/\n",
		"websites/site/index.html":                 "<p>hello",
		"code/functions/ping/.taubyte/config.yaml": "workflow: [build]\n",
		"code/functions/ping/.taubyte/build.sh":    "cp \"$SRC/ping.wasm\" \"$OUT/main.wasm\"\n",
		// (module (memory 1) (func (export "ping") (param i32)))
		"code/functions/ping/ping.wasm": "\x00asm\x01\x00\x00\x00\x01\x05\x01\x60\x01\x7f\x00\x03\x02\x01\x00\x05\x03\x01\x00\x01\x07\x11\x02\x04ping\x00\x00\x06memory\x02\x00\x0a\x04\x01\x02\x00\x0b",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o644))
	}
	mustGit(t, dir, "add", ".")
	mustGit(t, dir, "commit", "-qm", "all")
	mustGit(t, dir, "push", "-q", control.Remote("shop"), "main")
	var job patrick.Job
	testnet.Eventually(t, func() bool {
		page, err := control.Patrick.Jobs(ctx, patrick.Filter{})
		if err != nil || len(page.Jobs) != 1 {
			return false
		}
		job = page.Jobs[0]
		return job.State != patrick.Queued && job.State != patrick.Running
	}, "the job does not end")
	require.Equal(t, patrick.Succeeded, job.State, "%+v", job)
	serving, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	require.NoError(t, run.Substrate.Serving(serving, projectA, "main", 1))
	stats, err := run.Substrate.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, stats.Functions)

	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(strings.ReplaceAll(cert, "\n    ", "\n"))))
	site := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, run.Gateway.TLSAddr())
		},
	}}
	defer site.CloseIdleConnections()
	var resp *http.Response
	testnet.Eventually(t, func() bool {
		resp, err = site.Get("https://inline.example/")
		return err == nil
	}, "not served with the certificate of the configuration")
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "<p>hello", string(body))

	audit, err := control.Auth.AuditLog(ctx, projectA, 100)
	require.NoError(t, err)
	did := map[string]string{}
	for _, x := range audit.Accesses {
		if x.Action == "read" {
			did[x.Secret[strings.LastIndexByte(x.Secret, '/')+1:]] += x.Who + "; "
		}
	}
	require.Contains(t, did["DEPLOY_TOKEN"], "job "+string(job.ID)+", worker ")
	require.Contains(t, did["DB_PASSWORD"], run.Host.ID().String())

	secrets := []string{ofBuild, ofFunction, ofKey}
	for _, n := range nodes[1:] {
		res, err := n.Store.Query(ctx, query.Query{})
		require.NoError(t, err)
		entries, err := res.Rest()
		require.NoError(t, err)
		for _, e := range entries {
			require.Empty(t, planted(e.Value, secrets...), e.Key)
		}
	}
	for i := len(nodes) - 1; i >= 0; i-- {
		require.NoError(t, nodes[i].Close())
	}
	for _, dir := range dirs[1:] {
		require.NoError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(name)
			require.Empty(t, planted(b, secrets...), name)
			return err
		}))
	}
	require.Empty(t, planted([]byte(log.String()), secrets...), "in a log")
}

// A node whose registry an earlier version has left with a private key in it: auth has it
// after the next start, and serves it.
func TestOldKeysAreMoved(t *testing.T) {
	testnet.CheckLeaks(t)
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "node")
	open := func() *cloud.Node {
		n, err := cloud.Open(ctx, dir, cloud.WithServices(taubyte.RoleAuth, taubyte.RoleTNS), cloud.WithVerifiedOnly(false), cloud.WithLogger(testnet.Logger(t)))
		require.NoError(t, err)
		t.Cleanup(func() { _ = n.Close() })
		return n
	}
	n := open()
	require.NoError(t, n.TNS.Close())
	cert, key := testnet.InlineCertificate(t, "old.example")
	plain := func(pem string) string { return strings.TrimSpace(strings.ReplaceAll(pem, "\n    ", "\n")) + "\n" }
	raw, err := json.Marshal(tns.Deployment{Project: projectA, Branch: "main", Sequence: 1, Time: time.Now().UTC(), Parts: map[taubyte.RepositoryID]tns.Part{
		"local/shop": {Repository: "local/shop", Commit: "c", Order: 1, Config: &config.Project{ID: projectA, Resources: config.Resources{Domains: []config.Domain{
			{Common: config.Common{ID: "d", Name: "old"}, FQDN: "old.example", CertType: "inline", CertFile: plain(cert), KeyFile: plain(key)},
		}}}},
	}})
	require.NoError(t, err)
	sum, err := multihash.Sum(raw, multihash.SHA2_256, -1)
	require.NoError(t, err)
	block, err := blocks.NewBlockWithCid(raw, cid.NewCidV1(cid.Raw, sum))
	require.NoError(t, err)
	require.NoError(t, n.Host.Blocks().Blockstore().Put(ctx, block))
	registry, err := crdt.Open(ctx, n.Host, n.Store, "tns", crdt.WithWriters(taubyte.RoleTNS))
	require.NoError(t, err)
	require.NoError(t, registry.Put(ctx, datastore.RawKey("/history/"+projectA+"/main/0000000000000001/"+block.Cid().String()), []byte(`{"time":"2026-01-02T03:04:05Z"}`)))
	require.NoError(t, registry.Close())
	require.NoError(t, n.Store.Delete(ctx, datastore.NewKey("/tns/keys-moved"))) // as it never was there
	require.NoError(t, n.Close())

	n = open()
	testnet.Eventually(t, func() bool {
		all, err := n.Auth.Certificates(ctx)
		return err == nil && len(all) == 1 && all[0].Hosts[0] == "old.example" && all[0].Project == projectA
	}, "auth does not serve it")
	testnet.Eventually(t, func() bool {
		res, err := n.Store.Query(ctx, query.Query{})
		require.NoError(t, err)
		entries, err := res.Rest()
		require.NoError(t, err)
		return !slices.ContainsFunc(entries, func(e query.Entry) bool { return planted(e.Value, strings.Fields(key)[3]) != "" })
	}, "it is left in the store")
}
