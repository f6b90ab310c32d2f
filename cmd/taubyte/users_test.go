package main_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/internal/githubtest"
	"github.com/taubyte/taubyte/internal/testbin"
	"github.com/taubyte/taubyte/internal/testnet"
)

const (
	shopID   = "QmYJREDH1g4quMigBJutYMBgxTwWTJhEtvcrVzrQrxWvfj"
	shopHost = "shop.example.test"
)

// shopAt makes a project in three repositories at GitHub, as tau has them.
func shopAt(t *testing.T, gh *githubtest.Server) (config, code, site *githubtest.Repository) {
	t.Helper()
	site, code, config = gh.Repository("acme/tb_website_front"), gh.Repository("acme/tb_code_shop"), gh.Repository("acme/tb_shop")
	site.Push("main", map[string]string{"index.html": "<h1>Shop</h1>"})
	code.Push("main", map[string]string{"functions/ping/go.mod": "module ping\n\ngo 1.24\n", "functions/ping/main.go": ping("PONG")})
	config.Push("main", map[string]string{
		"config.yaml":         "id: " + shopID + "\nname: shop\ndescription: \"\"\nnotification:\n  email: ops@example.com\n",
		"domains/main.yaml":   "id: QmUZkJ1XdBRjhZWk6dvauWyA4ZJBRhrQ4owLkL9gfmeWuM\nfqdn: " + shopHost + "\ncertificate:\n  type: auto\n",
		"functions/ping.yaml": "id: QmWoguKoSissCJpzs3qvNBxTWabd6m3PD4jqbvd3buqdR6\ndescription: \"\"\ntrigger:\n  type: http\n  method: GET\n  domains: [main]\n  paths: [/ping]\nsource: .\nexecution:\n  timeout: 5s\n  memory: 32MB\n  call: ping\n",
		"websites/front.yaml": "id: QmXWYu6XYBK2FFzoREqpxaHx4JsNBWRRdhUMopKGoteWjE\ndescription: \"\"\ndomains: [main]\nsource:\n  paths: [/]\n  branch: main\n  github:\n    id: \"" + strconv.FormatInt(site.ID, 10) + "\"\n    fullname: " + site.Name + "\n",
	})
	return config, code, site
}

func ping(says string) string {
	return `package main

import (
	"os"

	"github.com/taubyte/taubyte/substrate/guest/event"
)

func main() {}

//go:wasmexport ping
func ping(e uint32) uint32 {
	event.HTTP(e).WriteString("` + says + ` " + os.Getenv("GREETING"))
	return 0
}
`
}

// texts is a DNS server with TXT records, by their names without the final dot.
type texts struct {
	addr string
	mu   sync.Mutex
	all  map[string][]string
}

func (x *texts) set(name string, value ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all[name] = value
}

func (x *texts) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	x.mu.Lock()
	defer x.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	name := q.Question[0].Name
	if have, ok := x.all[strings.ToLower(strings.TrimSuffix(name, "."))]; !ok {
		m.Rcode = dns.RcodeNameError
	} else if q.Question[0].Qtype == dns.TypeTXT {
		m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: have})
	}
	_ = w.WriteMsg(m)
}

func startTexts(t *testing.T) *texts {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	x := &texts{addr: pc.LocalAddr().String(), all: map[string][]string{}}
	up, done := make(chan struct{}), make(chan struct{})
	s := &dns.Server{PacketConn: pc, Handler: x, NotifyStartedFunc: func() { close(up) }}
	go func() {
		defer close(done)
		_ = s.ActivateAndServe()
	}()
	<-up
	t.Cleanup(func() {
		_ = s.Shutdown()
		<-done
	})
	return x
}

// users is a network of three processes, two of which run auth, and who uses it.
type users struct {
	t       *testing.T
	dir     string
	started map[string]*userNode
}

type userNode struct {
	*testbin.Process
	ID, API, URL, SecureURL string
}

func (u *users) start(name string) *userNode {
	u.t.Helper()
	n := &userNode{Process: testbin.Start(u.t, nil, program(u.t), "start", "--json", "--builds", "plain", "--config", filepath.Join(u.dir, name, "taubyte.yaml"))}
	require.NoError(u.t, json.Unmarshal([]byte(n.Line()), n))
	u.started[name] = n
	return n
}

// at runs a command at a node, and returns its output and what it tells a person.
func (u *users) at(node string, code int, args ...string) (out, said string) {
	u.t.Helper()
	got, out, said := taubyte(u.t, nil, append(args, "--data", filepath.Join(u.dir, node, "data"))...)
	require.Equal(u.t, code, got, "%v at %s: %s%s", args, node, out, said)
	return out, said
}

// read runs a command with --json at a node.
func (u *users) read(node string, into any, args ...string) {
	u.t.Helper()
	out, _ := u.at(node, 0, append(args, "--json")...)
	require.NoError(u.t, json.Unmarshal([]byte(out), into), "%v: %s", args, out)
}

// soon waits until a command's output at a node has a text, or has it no more.
func (u *users) soon(node, text string, there bool, args ...string) {
	u.t.Helper()
	var out string
	testnet.Eventually(u.t, func() bool {
		out, _ = u.at(node, 0, args...)
		return strings.Contains(out, text) == there
	}, "%v at %s: %q is there: %t", args, node, text, there)
}

// get asks the gateway for a path of the shop.
func (u *users) get(path string) (int, string) {
	u.t.Helper()
	return get(u.t, u.started["edge"].URL+path, shopHost)
}

func (u *users) served(path string, status int, want string) {
	u.t.Helper()
	var got int
	var body string
	testnet.Eventually(u.t, func() bool {
		got, body = u.get(path)
		return got == status && strings.Contains(body, want)
	}, "%s answers %d and %q", path, status, want)
}

// certificate returns whose certificate the gateway shows for the shop, "" for none.
func (u *users) certificate() string {
	u.t.Helper()
	addr := strings.TrimPrefix(u.started["edge"].SecureURL, "https://")
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", addr, &tls.Config{ServerName: shopHost, InsecureSkipVerify: true}) //nolint:gosec // it signs itself
	if err != nil {
		return ""
	}
	defer c.Close()
	return strings.Join(c.ConnectionState().PeerCertificates[0].DNSNames, ",")
}

// call asks a node's API as its administrator, as a program would.
func (u *users) call(node, path string, in, out any) error {
	token, err := os.ReadFile(filepath.Join(u.dir, node, "data", "token"))
	if err != nil {
		return err
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, u.started[node].API+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := (&http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s: %s", path, resp.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// front stands before the gateway, as the provider reaches it.
func (u *users) front() http.Handler {
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		to, err := url.Parse(u.started["edge"].URL)
		if err != nil {
			u.t.Error(err)
		}
		r.SetURL(to)
	}}
}

// Each command about projects, repositories, tokens, secrets, domains and certificates,
// as people type them on a network of three processes, two of which run auth.
func TestUsersOfANetwork(t *testing.T) {
	t.Parallel()
	gh, txt := githubtest.New(t), startTexts(t)
	config, code, site := shopAt(t, gh)
	u := &users{t: t, dir: filepath.Join(t.TempDir(), "cluster"), started: map[string]*userNode{}}
	hooks := httptest.NewServer(u.front())
	t.Cleanup(hooks.Close)
	credential := filepath.Join(t.TempDir(), "github")
	require.NoError(t, os.WriteFile(credential, []byte(gh.User("acme")+"\n"), 0o600))
	exit, _, said := taubyte(t, nil, "init", u.dir, "--zone", "cloud.example.test",
		"--node", "control=auth,tns,patrick,seer@"+freeAddr(t), "--node", "build=auth,tns,patrick,monkey,hoarder@"+freeAddr(t), "--node", "edge=substrate,gateway,hoarder@"+freeAddr(t))
	require.Zero(t, exit, said)
	for _, name := range []string{"control", "build", "edge"} {
		file := filepath.Join(u.dir, name, "taubyte.yaml")
		anyPorts(t, file)
		more := fmt.Sprintf("resolver: %q\nwebhooks: %q\nlogs: https://api.example.test\nproviders:\n  github: {url: %q, token-file: %q}\n", txt.addr, hooks.URL, gh.URL, credential)
		if name == "edge" {
			more = "https: 127.0.0.1:0\n"
		}
		more += "verified-only: false\n" // the shop is there before its owner shows that it is
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append(text, more...), 0o600))
		u.start(name)
	}

	// Projects.
	id, said := u.at("control", 0, "projects", "create", "blog")
	id = strings.TrimSpace(id)
	require.Contains(t, said, "id: "+id)
	u.soon("build", id, true, "projects", "list")
	u.at("control", 3, "projects", "create", " ")
	u.at("build", 0, "projects", "delete", "blog")
	u.soon("control", id, false, "projects")

	// What is wrong is said in words that help.
	for _, c := range []struct {
		node string
		code int
		args string
		want string
	}{
		{"edge", 6, "projects list", "this node does not run auth"},
		{"edge", 6, "token list", "this node does not run auth"},
		{"control", 6, "routes", "this node does not run gateway"},
		{"control", 6, "certs renew " + shopHost, "has acme in its configuration"},
		{"control", 2, "repo add", "add takes PROVIDER/REPOSITORY"},
		{"control", 2, "domains fly", `there is no "fly", only list, add, check, rm`},
		{"control", 4, "projects import github/acme/none", "404"},
		{"control", 4, "projects import gitea/acme/tb_shop", "it has github, local"},
		{"control", 3, "projects import acme", "<provider>/<owner>/<name>"},
		{"control", 4, "repo list --project none", `project "none"`},
		{"control", 3, "certs import none.pem none.key", "none.pem"},
		{"control", 4, "secrets list", "no project yet"},
	} {
		_, said := u.at(c.node, c.code, strings.Fields(c.args)...)
		require.Contains(t, said, c.want, c.args)
	}

	// A project at GitHub: its repositories are found from its configuration, and built.
	var imported struct {
		Project      struct{ ID, Name string }
		Repositories []struct{ ID, Kind string }
		Jobs         []struct{ ID string }
	}
	u.read("control", &imported, "projects", "import", "github/acme/tb_shop")
	require.Equal(t, shopID, imported.Project.ID)
	require.Len(t, imported.Repositories, 3)
	require.Len(t, imported.Jobs, 3)
	u.served("/ping", http.StatusOK, "PONG")
	u.served("/", http.StatusOK, "<h1>Shop</h1>")
	for _, r := range []*githubtest.Repository{config, code, site} {
		require.Len(t, r.Keys(), 1, r.Name)
		require.Len(t, r.Webhooks(), 1, r.Name)
	}
	u.soon("build", "tb_website_front", true, "repo", "list", "--project", "shop")
	u.soon("build", "main", true, "projects", "list")

	t.Run("a push at the provider", func(t *testing.T) {
		commit := code.Push("main", map[string]string{"functions/ping/main.go": ping("PUSHED")}) // which a webhook tells of
		u.served("/ping", http.StatusOK, "PUSHED")
		testnet.Eventually(t, func() bool {
			all := code.Statuses(commit)
			return len(all) > 0 && all[len(all)-1].State == "success" && strings.HasPrefix(all[len(all)-1].TargetURL, "https://api.example.test/v1/patrick/jobs/")
		}, "the commit says that it is deployed")
		// One that no webhook told of is found by comparing branches, by whose turn it is.
		commit = site.Push("next", map[string]string{"index.html": "<h1>Next</h1>"})
		site.Branches(commit, "main")
		for _, node := range []string{"control", "build"} {
			require.NoError(t, u.call(node, "/v1/patrick/reconcile", nil, nil))
		}
		u.served("/", http.StatusOK, "<h1>Next</h1>")
	})

	t.Run("variables and secrets", func(t *testing.T) {
		value := filepath.Join(t.TempDir(), "value")
		require.NoError(t, os.WriteFile(value, []byte("planted"), 0o600))
		u.at("build", 0, "env", "set", "GREETING", "--project", "shop", "--file", value)
		u.served("/ping", http.StatusOK, "PUSHED planted")
		testnet.Eventually(t, func() bool { // what is set at one node is known to the other a moment later
			var all []struct{ Name, Value string }
			u.read("control", &all, "env", "list")
			return len(all) == 1 && all[0].Name == "GREETING" && all[0].Value == "planted"
		}, "the variable is listed at the other node")
		u.at("control", 0, "env", "rm", "GREETING")
		testnet.Eventually(t, func() bool { _, body := u.get("/ping"); return body == "PUSHED " }, "it is gone")
		u.at("control", 0, "secrets", "set", "KEY", "--file", value)
		u.soon("build", "KEY", true, "secrets", "list")
		out, said := u.at("build", 0, "secrets", "list", "--json")
		require.NotContains(t, out+said, "planted")
		u.at("build", 0, "secrets", "rm", "KEY")
		u.at("build", 4, "secrets", "rm", "KEY")
	})

	t.Run("tokens", func(t *testing.T) {
		reader, said := u.at("control", 0, "token", "create", "ci", "--project", "shop")
		require.Contains(t, said, "may read "+shopID)
		owner, _ := u.at("build", 0, "token", "create", "boss", "--project", "shop", "--verb", "administer")
		id := strings.Split(reader, "_")[1]
		as := func(token string, code int, args ...string) string {
			t.Helper()
			got, out, said := taubyte(t, []string{"TAUBYTE_TOKEN=" + strings.TrimSpace(token)}, append(args, "--api", u.started["build"].API)...)
			require.Equal(t, code, got, "%v: %s%s", args, out, said)
			return out + said
		}
		u.soon("build", "ci", true, "token", "list")
		got, out, said := taubyte(t, []string{"TAUBYTE_DATA=" + filepath.Join(u.dir, "build", "data")}, "token", "list")
		require.Zero(t, got, said)
		require.Contains(t, out, "ci")
		require.Contains(t, as(reader, 0, "projects", "list"), "shop")
		require.Contains(t, as(reader, 0, "repo", "list"), "tb_code_shop")
		as(reader, 0, "domains", "list")
		for _, may := range []string{"projects create x", "projects delete shop", "repo rm github/acme/tb_shop", "token create x --project shop",
			"domains add x.example.test", "certs list", "env rm X", "secrets rm X", "member list", "projects import github/acme/tb_shop"} {
			require.Contains(t, as(reader, 8, strings.Fields(may)...), "forbidden", may)
		}
		require.Contains(t, as("", 8, "projects", "list"), "$TAUBYTE_TOKEN")
		// Who administers one project adds what is his own at the provider, and nothing else.
		require.Contains(t, as(owner, 8, "repo", "add", "github/acme/tb_code_shop", "--kind", "code"), "without a credential of your own")
		as(owner, 0, "repo", "add", "github/acme/tb_code_shop", "--kind", "code", "--credential", credential)
		u.at("control", 0, "token", "revoke", id)
		u.soon("build", "revoked", true, "token", "list")
		require.Contains(t, as(reader, 8, "projects", "list"), "revoked")
	})

	t.Run("domains", func(t *testing.T) {
		records, said := u.at("control", 0, "domains", "add", shopHost)
		require.Contains(t, said, "TXT")
		record, delegation, _ := strings.Cut(strings.TrimSpace(records), "\n")
		require.Equal(t, "_acme-challenge."+shopHost+". CNAME _acme-challenge."+shopHost+".cloud.example.test.", delegation)
		u.soon("build", "pending", true, "domains", "list")
		out, _ := u.at("build", 0, "domains", "check", shopHost)
		require.Contains(t, out, "is pending")
		name, rest, _ := strings.Cut(record, ". TXT ")
		txt.set(name, strings.Split(strings.Trim(rest, `"`), `" "`)...)
		out, _ = u.at("build", 0, "domains", "check", shopHost)
		require.Contains(t, out, "is owned")
		u.soon("control", "owned", true, "domains", "list", "--project", "shop")
		u.at("control", 3, "domains", "add", "console.cloud.example.test")
		u.at("control", 4, "domains", "rm", "other.example.test")
	})

	t.Run("certificates", func(t *testing.T) {
		cert, key := testnet.InlineCertificate(t, shopHost)
		dir := t.TempDir()
		certFile, keyFile := filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
		for file, text := range map[string]string{certFile: cert, keyFile: key} { // YAML indents it
			require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(text, "\n    ", "\n")), 0o600))
		}
		require.NotEqual(t, shopHost, u.certificate())
		u.at("control", 0, "certs", "import", certFile, keyFile)
		testnet.Eventually(t, func() bool { return u.certificate() == shopHost }, "the gateway shows it")
		u.soon("build", shopHost, true, "certs", "list")
		u.at("control", 3, "certs", "import", keyFile, certFile)
		u.at("build", 0, "certs", "rm", shopHost)
		testnet.Eventually(t, func() bool { return u.certificate() != shopHost }, "the gateway shows it no more")
		u.at("build", 4, "certs", "rm", shopHost)
	})

	t.Run("a node is down", func(t *testing.T) {
		u.started["control"].Kill()
		_, said := u.at("control", 6, "projects", "list")
		require.Contains(t, said, "no node runs on")
		u.at("build", 0, "projects", "list")
		u.at("build", 0, "token", "create", "meanwhile", "--project", "shop")
		u.start("control")
		u.soon("control", "meanwhile", true, "token", "list")
	})

	// A repository leaves, a project is deleted; what comes back is built again.
	u.at("control", 0, "repo", "rm", "github/acme/tb_website_front")
	require.Empty(t, site.Keys())
	u.soon("build", "tb_website_front", false, "repo", "list")
	u.at("build", 0, "projects", "delete", "shop")
	u.served("/ping", http.StatusNotFound, "")
	require.Empty(t, append(code.Keys(), config.Keys()...))
	u.soon("control", shopID, false, "projects", "list")
	u.at("control", 0, "projects", "import", "github/acme/tb_shop")
	u.at("control", 0, "repo", "rotate", "github/acme/tb_shop")
	u.at("control", 4, "repo", "rotate", "github/acme/none")
	u.served("/ping", http.StatusOK, "PUSHED")
	u.served("/", http.StatusOK, "<h1>Next</h1>")
}
