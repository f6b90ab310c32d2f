package acme_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte/auth"
	"github.com/taubyte/taubyte/auth/acme"
	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
)

// A new user: three nodes by "taubyte start", a push, a host of the zone and one of the
// user's own, served by HTTPS.
func TestThreeNodesAsANewUserStartsThem(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	n := newNetwork(t, nil)
	n.dns.lead(gatewayAddrs[0])
	var mu sync.Mutex
	texts := map[string][]string{}
	n.dns.txt = func(name string) []string {
		mu.Lock()
		defer mu.Unlock()
		return texts[name]
	}
	program := testbin.Build(t, filepath.Join("..", "..", "cmd", "taubyte"))
	dir := filepath.Join(t.TempDir(), "net")
	run := func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		out, err := cmd.Output()
		said := ""
		if e, ok := err.(*exec.ExitError); ok {
			said = string(e.Stderr)
		}
		require.NoError(t, err, "taubyte %v: %s%s", args, out, said)
		return string(out)
	}
	listen := func() string { return fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", testnet.FreePort(t)) }
	run(".", "init", dir, "--zone", zone,
		"--node", "one=auth,tns,seer,hoarder,patrick@"+listen(), "--node", "two=auth,seer,tns@"+listen(),
		"--node", "three=monkey,substrate,gateway@"+listen())
	data := map[string]string{}
	for _, name := range []string{"one", "two", "three"} {
		file := filepath.Join(dir, name, "taubyte.yaml")
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var c map[string]any
		require.NoError(t, yaml.Unmarshal(raw, &c))
		c["api"] = fmt.Sprintf("127.0.0.1:%d", testnet.FreePort(t))
		if name == "three" {
			c["http"], c["https"] = fmt.Sprintf("127.0.0.1:%d", n.pebble.HTTPPort), fmt.Sprintf("127.0.0.1:%d", n.pebble.TLSPort)
		} else {
			c["resolver"] = n.dns.Addr
			c["acme"] = map[string]any{"directory": n.pebble.Directory, "roots": n.pebble.rootsFile, "email": "admin@example.com"}
		}
		raw, err = yaml.Marshal(c)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, raw, 0o600))
		data[name] = filepath.Join(dir, name, c["data"].(string))
		p := testbin.Start(t, nil, program, "start", "--json", "--config", file)
		require.Contains(t, p.Line(), `"api"`)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%s said:\n%s", name, p.Said())
			}
		})
	}

	// The project: a website, under a name of the zone and one of the user's own.
	generated, own := "shop-"+lower(projectA[len(projectA)-8:])+"."+zone, "www.example.com"
	src := t.TempDir()
	for name, text := range map[string]string{
		"config/config.yaml":        "id: " + projectA + "\nname: shop\n",
		"config/domains/gen.yaml":   "id: QmdQPaT9dojUHaQmi92VE8xWbnWdbaGA21ncZVrU7UmKKL\nfqdn: " + generated + "\n",
		"config/domains/own.yaml":   "id: QmWATWQ7fVPP2EFGu71UkfnqhYXDYH566qy47CnJDgvs8u\nfqdn: " + own + "\n",
		"config/websites/site.yaml": "id: QmaHkqiQ11sjo5rDMYe4eReb2wCsvaY4Y9mzGcCSWaVGmn\ndomains: [gen, own]\nsource:\n    paths: [/]\n",
		"websites/site/index.html":  "<!doctype html><title>shop</title>welcome\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(src, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(src, name), []byte(text), 0o644))
	}
	var info struct {
		API string `json:"api"`
	}
	raw, err := os.ReadFile(filepath.Join(data["one"], "node.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &info))
	token, err := os.ReadFile(filepath.Join(data["one"], "token"))
	require.NoError(t, err)
	remote := strings.Replace(info.API, "http://", "http://x:"+strings.TrimSpace(string(token))+"@", 1) + "/git/shop.git"
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-qm", "first"}, {"push", "-q", remote, "main"}} {
		cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@localhost"}, args...)...)
		cmd.Dir = src
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "git %s: %s", args[0], out)
	}

	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: n.pebble.roots()},
		DialContext: (&net.Dialer{Resolver: n.dns.lookup()}).DialContext,
	}}
	page := func(host string) (string, error) {
		resp, err := client.Get(fmt.Sprintf("https://%s:%d/", host, n.pebble.TLSPort))
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	began := time.Now()
	eventually := func(what string, cond func() bool) {
		t.Helper()
		for deadline := time.Now().Add(90 * time.Second); !cond(); time.Sleep(50 * time.Millisecond) {
			require.True(t, time.Now().Before(deadline), what)
		}
	}
	eventually("the generated name is served by HTTPS", func() bool {
		body, err := page(generated)
		return err == nil && strings.Contains(body, "welcome")
	})
	t.Logf("served by HTTPS %s after the push", time.Since(began).Round(time.Millisecond))
	_, err = page(own)
	require.Error(t, err, "nobody has shown whose it is")

	// The user's own host: the record that "domains add" prints.
	var d auth.Domain
	require.NoError(t, json.Unmarshal([]byte(run(".", "domains", "add", own, "--project", projectA, "--data", data["two"], "--json")), &d))
	require.Equal(t, auth.DelegationOf(own, zone), *d.Delegation)
	mu.Lock()
	texts[d.Record] = []string{d.Token}
	mu.Unlock()
	delegation := "_acme-challenge." + own + ". CNAME _acme-challenge." + own + "." + zone + ".\n"
	require.Contains(t, run(".", "domains", "add", own, "--project", projectA, "--data", data["two"]), delegation)
	require.Contains(t, run(".", "domains", "check", own, "--project", projectA, "--data", data["two"]), "owned")
	eventually("the user's host is served by HTTPS", func() bool {
		body, err := page(own)
		return err == nil && strings.Contains(body, "welcome")
	})
	require.Contains(t, run(".", "domains", "list", "--data", data["one"]), "owned")

	testnet.Eventually(t, func() bool {
		var all []acme.Certificate
		require.NoError(t, json.Unmarshal([]byte(run(".", "certs", "list", "--data", data["two"], "--json")), &all))
		return len(all) == 2 && all[0].State == acme.StateServed && all[1].State == acme.StateServed
	}, "both are listed")
	text := run(".", "certs", "list", "--data", data["one"])
	require.Contains(t, text, own)
	require.Contains(t, text, generated)
	require.Equal(t, 2, issued(n))

	// No private key lies on any disk in clear.
	require.NoError(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(raw), "PRIVATE KEY") {
			t.Errorf("%s holds a private key", path)
		}
		return nil
	}))
}
