package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/tns/config"
)

// canonical brings values to what JSON makes of them, with lists in order.
func canonical(t *testing.T, v any) any {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	var out any
	require.NoError(t, json.Unmarshal(raw, &out))
	var order func(any)
	order = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, x := range v {
				order(x)
			}
		case []any:
			sort.Slice(v, func(i, j int) bool { return fmt.Sprint(v[i]) < fmt.Sprint(v[j]) })
		}
	}
	order(out)
	return out
}

func TestGoldenProjects(t *testing.T) {
	for _, name := range []string{"ex1", "ex2", "ex3"} {
		t.Run(name, func(t *testing.T) {
			p, faults := config.Compile(os.DirFS(filepath.Join("testdata", name)))
			require.False(t, faults.HasErrors(), "%v", faults)
			if name == "ex2" { // a storage at a host, which says nothing here
				require.Len(t, faults, 1, "%v", faults)
				require.Contains(t, faults[0].String(), "applications/backend/storages/pictures.yaml:5:14: warning: access.network has no effect on a storage")
				faults = nil
			}
			require.Empty(t, faults)
			raw, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			require.NoError(t, err)
			var want map[string]any
			require.NoError(t, json.Unmarshal(raw, &want))
			require.Equal(t, canonical(t, want["object"]), canonical(t, p.Object()))
			require.Equal(t, canonical(t, want["indexes"]), canonical(t, p.Indexes("main")))

			again := new(config.Project)
			raw, err = json.Marshal(p)
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(raw, again))
			require.Equal(t, canonical(t, p), canonical(t, again), "the model survives JSON")
			require.Equal(t, canonical(t, p.Indexes("main")), canonical(t, again.Indexes("main")))
		})
	}
}

const (
	id1 = "QmRPRQww8rci6fpkK5Tp8NGjyGQUyrTgQm5j7BnFJqi4DW"
	id2 = "QmZVgwcxiZxnv1R5tyq7mkgEhcDNayt7pDLHmCx4SpVrbb"
	id3 = "QmNd5VLWVAHAp8kupPhStyAfx5PnDqVcHrJF34uW3L97fp"
	id4 = "QmYJREDH1g4quMigBJutYMBgxTwWTJhEtvcrVzrQrxWvfj"
)

// project is a small valid project, whose files a test changes.
func project(change map[string]string) fstest.MapFS {
	files := map[string]string{
		"config.yaml":         "id: " + id1 + "\nname: demo\n",
		"domains/main.yaml":   "id: " + id2 + "\nfqdn: demo.example.com\n",
		"functions/ping.yaml": function(""),
	}
	for name, text := range change {
		files[name] = text
	}
	fsys := fstest.MapFS{}
	for name, text := range files {
		if text != "" {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return fsys
}

// function is a valid function; a line of edits replaces the line with its key.
func function(edits ...string) string {
	lines := []string{"id: " + id3, "source: .", "trigger:", "  type: http", "  method: GET", "  paths: [/ping]", "  domains: [main]",
		"execution:", "  timeout: 5s", "  memory: 32MB", "  call: ping"}
	for _, e := range edits {
		key, _, ok := strings.Cut(e, ":")
		if !ok {
			continue
		}
		done := false
		for i, l := range lines {
			if strings.HasPrefix(l, key+":") {
				lines[i], done = e, true
			}
		}
		if !done {
			lines = append(lines, e)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// timer is a function that runs by the clock.
func timer(schedule, zone string) string {
	trigger := "  type: timer\n  schedule: \"" + schedule + "\"\n"
	if zone != "" {
		trigger += "  timezone: " + zone + "\n"
	}
	return "id: " + id3 + "\nsource: .\ntrigger:\n" + trigger + "execution: {timeout: 5s, memory: 32MB, call: tick}\n"
}

func egress(text string) string { return "id: " + id1 + "\negress:" + text + "\n" }

func TestRules(t *testing.T) {
	website := func(source string) string {
		return "id: " + id4 + "\ndomains: [main]\nsource:\n  paths: [/]\n" + source
	}
	storage := func(text string) string { return "id: " + id4 + "\nmatch: s\n" + text }
	cases := []struct {
		name  string
		files map[string]string
		want  string // part of the one fault; "" = none
	}{
		{"valid", nil, ""},
		{"no project", map[string]string{"config.yaml": ""}, "config.yaml: error: can't be read"},
		{"no id", map[string]string{"config.yaml": "name: x\n"}, "config.yaml:1:1: error: id is missing"},
		{"bad id", map[string]string{"config.yaml": "id: 12\n"}, "config.yaml:1:5: error: id is \"12\", which is no CID"},
		{"bad name", map[string]string{"config.yaml": "id: " + id1 + "\nname: 1x\n"}, "config.yaml:2:7: error: name must be a name"},
		{"bad email", map[string]string{"config.yaml": "id: " + id1 + "\nnotification:\n  email: nobody\n"}, "config.yaml:3:10: error: notification.email must be an e-mail"},
		{"half a cloud", map[string]string{"config.yaml": "id: " + id1 + "\nclouds:\n  c.example:\n    plan: p\n"}, "both account and plan"},
		{"broken yaml", map[string]string{"domains/other.yaml": "a: [\n"}, "domains/other.yaml:"},
		{"not a map", map[string]string{"domains/other.yaml": "- a\n"}, "must be a map of keys"},
		{"a key twice", map[string]string{"domains/main.yaml": "id: " + id2 + "\nfqdn: a.b\nfqdn: c.d\n"}, "domains/main.yaml:3:1: error: fqdn stands here twice"},
		{"a folder in a group", map[string]string{"domains/x/y.yaml": "id: 1\n"}, "domains/x: error: is a folder"},
		{"an id twice", map[string]string{"domains/two.yaml": "id: " + id2 + "\nfqdn: a.example.com\n"}, "has the id of domains/main"},
		{"unknown trigger", map[string]string{"functions/ping.yaml": function("  type: ftp")}, "functions/ping.yaml:4:9: error: trigger.type must not be \"ftp\" (one of http, https, pubsub, p2p, timer)"},
		{"unknown method", map[string]string{"functions/ping.yaml": function("  method: FETCH")}, "must be an HTTP method"},
		{"relative path", map[string]string{"functions/ping.yaml": function("  paths: [ping]")}, "has the path \"ping\" (paths begin with /)"},
		{"no paths", map[string]string{"functions/ping.yaml": function("  paths: []")}, "is an empty list"},
		{"unknown domain", map[string]string{"functions/ping.yaml": function("  domains: [none]")}, "functions/ping.yaml:7:13: error: there is no domain \"none\""},
		{"foreign source", map[string]string{"functions/ping.yaml": function("source: github.com/x/y")}, "error: source must not be"},
		{"unknown library", map[string]string{"functions/ping.yaml": function("source: libraries/none")}, "there is no library \"none\""},
		{"bare number as duration", map[string]string{"functions/ping.yaml": function("  timeout: 10")}, "is \"10\", which is no duration"},
		{"days", map[string]string{"functions/ping.yaml": function("  timeout: 1d")}, "no duration"},
		{"negative duration", map[string]string{"functions/ping.yaml": function("  timeout: -1s")}, "negative"},
		{"size without unit", map[string]string{"functions/ping.yaml": function("  memory: 10")}, "no size"},
		{"size with a space", map[string]string{"functions/ping.yaml": function("  memory: 10 MB")}, "no size"},
		{"wrong unit", map[string]string{"functions/ping.yaml": function("  memory: 10mb")}, "unknown unit"},
		{"negative size", map[string]string{"functions/ping.yaml": function("  memory: -1MB")}, "negative"},
		{"huge size", map[string]string{"functions/ping.yaml": function("  memory: 99EB")}, "too large"},
		{"empty required", map[string]string{"functions/ping.yaml": function("  call: \"\"")}, "execution.call is empty"},
		{"pubsub without channel", map[string]string{"functions/ping.yaml": function("  type: pubsub")}, "trigger.channel is missing"},
		{"timer without a schedule", map[string]string{"functions/ping.yaml": function("  type: timer")}, "functions/ping.yaml:4:3: error: trigger.schedule is missing"},
		{"timer that is no cron", map[string]string{"functions/ping.yaml": timer("soon", "")}, "functions/ping.yaml:5:13: error: trigger.schedule is \"soon\", which is no schedule"},
		{"timer with seconds", map[string]string{"functions/ping.yaml": timer("0 0 4 * * 1", "")}, "expected exactly 5 fields"},
		{"timer on a day that never comes", map[string]string{"functions/ping.yaml": timer("0 0 31 2 *", "")}, "a day that never comes"},
		{"timer every instant", map[string]string{"functions/ping.yaml": timer("@every 999ms", "")}, "no interval of a second or more (as in @every 90s"},
		{"timer of an unknown name", map[string]string{"functions/ping.yaml": timer("@reboot", "")}, "which is no schedule"},
		{"timer with a zone in its schedule", map[string]string{"functions/ping.yaml": timer("TZ=UTC", "")}, "write it under trigger.timezone"},
		{"timer nowhere", map[string]string{"functions/ping.yaml": timer("@daily", "Europe/Atlantis")}, "functions/ping.yaml:6:13: error: trigger.timezone is \"Europe/Atlantis\", which is no time zone (as in UTC"},
		{"timer wherever the node is", map[string]string{"functions/ping.yaml": timer("@daily", "Local")}, "no time zone"},
		{"egress that says nothing", map[string]string{"config.yaml": egress("")}, "config.yaml:2:8: error: egress must be a map, not empty"},
		{"egress without a list", map[string]string{"config.yaml": egress(" {}")}, "egress.allow is missing"},
		{"egress with nothing as a list", map[string]string{"config.yaml": egress(" {allow: }")}, "egress.allow must be a list"},
		{"egress with text as a list", map[string]string{"config.yaml": egress(" {allow: a.example}")}, "egress.allow must be a list"},
		{"egress to a port", map[string]string{"config.yaml": egress("\n  allow:\n  - a.example\n  - a.example:80")}, "config.yaml:5:5: error: egress.allow has \"a.example:80\", which is no destination"},
		{"egress to a URL", map[string]string{"config.yaml": egress(" {allow: [\"https://a.example\"]}")}, "no range of addresses"},
		{"egress into a range", map[string]string{"config.yaml": egress(" {allow: [192.0.2.7/24]}")}, "the range is 192.0.2.0/24"},
		{"egress to any", map[string]string{"config.yaml": egress(" {allow: [\"*\"]}")}, "no destination"},
		{"egress to a list", map[string]string{"config.yaml": egress(" {allow: [[a.example]]}")}, "must be text"},
		{"merge of text", map[string]string{"config.yaml": "id: " + id1 + "\n<<: x\n"}, "config.yaml:2:5: error: << must name a map, not \"x\""},
		{"merge of itself", map[string]string{"config.yaml": "id: " + id1 + "\nnotification: &n\n  <<: *n\n"}, "is merged into itself"},
		{"smart op that is not there", map[string]string{"functions/ping.yaml": function("tags: [\"smartops:none\"]")}, "there is no smart operation \"none\""},
		{"bad host name", map[string]string{"domains/main.yaml": "id: " + id2 + "\nfqdn: not a host\n"}, "no host name"},
		{"inline without a key", map[string]string{"domains/main.yaml": "id: " + id2 + "\nfqdn: a.b\ncertificate: {type: inline, cert: x}\n"}, "certificate.key is missing"},
		{"website in the project's repository", map[string]string{"websites/w.yaml": website("")}, ""},
		{"website at github", map[string]string{"websites/w.yaml": website("  github: {id: \"1\", fullname: a/b}\n")}, ""},
		{"website without a full name", map[string]string{"websites/w.yaml": website("  github: {id: \"1\"}\n")}, "source.github.fullname is missing"},
		{"website at two providers", map[string]string{"websites/w.yaml": website("  github: {id: \"1\", fullname: a/b}\n  gitea: {id: \"1\", fullname: a/b}\n")}, "two providers"},
		{"database without match", map[string]string{"databases/d.yaml": "id: " + id4 + "\nstorage: {size: 1GB}\n"}, "match is missing"},
		{"database with a bad expression", map[string]string{"databases/d.yaml": "id: " + id4 + "\nmatch: \"[\"\nregex: true\nstorage: {size: 1GB}\n"}, "databases/d.yaml:2:8: error: match is no regular expression"},
		{"database without size", map[string]string{"databases/d.yaml": "id: " + id4 + "\nmatch: x\n"}, "storage.size is missing"},
		{"unknown network", map[string]string{"databases/d.yaml": "id: " + id4 + "\nmatch: x\nstorage: {size: 1GB}\naccess: {network: moon}\n"}, "one of all, subnet, host"},
		{"storage of no kind", map[string]string{"storages/s.yaml": storage("")}, "either object or streaming"},
		{"storage of both kinds", map[string]string{"storages/s.yaml": storage("object: {size: 1GB}\nstreaming: {size: 1GB}\n")}, "either object or streaming"},
		{"storage without size", map[string]string{"storages/s.yaml": storage("object: {versioning: true}\n")}, "object.size is missing"},
		{"messaging without match", map[string]string{"messaging/m.yaml": "id: " + id4 + "\nlocal: true\n"}, "channel.match is missing"},
		{"service without protocol", map[string]string{"services/s.yaml": "id: " + id4 + "\n"}, "protocol is missing"},
		{"list instead of text", map[string]string{"config.yaml": "id: " + id1 + "\ndescription: [a]\n"}, "must be text, not a list"},
		{"text instead of list", map[string]string{"domains/main.yaml": "id: " + id2 + "\nfqdn: a.b\ntags: x\n"}, "must be a list"},
		{"text instead of truth", map[string]string{"messaging/m.yaml": "id: " + id4 + "\nlocal: perhaps\nchannel: {match: x}\n"}, "must be true or false"},
		{"an application in an application", map[string]string{"applications/a/config.yaml": "id: " + id1 + "\n", "applications/a/applications/b/config.yaml": "id: " + id2 + "\n"}, "holds applications"},
		{"an application's domain from outside", map[string]string{"domains/main.yaml": "", "applications/a/config.yaml": "id: " + id1 + "\n", "applications/a/domains/main.yaml": "id: " + id2 + "\nfqdn: a.b\n"}, "there is no domain"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, faults := config.Compile(project(c.files))
			if c.want == "" {
				require.Empty(t, faults)
				require.NotNil(t, p)
				return
			}
			require.Nil(t, p)
			require.True(t, faults.HasErrors())
			require.Len(t, faults, 1, "%v", faults)
			require.Contains(t, faults[0].String(), c.want)
		})
	}
}

func TestAllFaultsAtOnceAndWarnings(t *testing.T) {
	_, faults := config.Compile(project(map[string]string{
		"config.yaml":         "name: demo\nnmae: x\n",
		"functions/ping.yaml": function("  timeout: x", "  memory: y", "  domains: [none]", "replicas: {min: 1}"),
		"functions/old.yml":   "id: 1\n",
	}))
	var texts []string
	for _, f := range faults {
		texts = append(texts, f.String())
	}
	all := strings.Join(texts, "\n")
	require.Len(t, faults, 7, all)
	for _, want := range []string{"id is missing", "did you mean name?", "timeout", "memory", "no domain", "replicas is not known", "functions/old.yml: warning"} {
		require.Contains(t, all, want)
	}
}

func TestTimers(t *testing.T) {
	for schedule, zone := range map[string]string{
		"*/5 0-12,20 1 JAN-MAR MON": "Europe/Paris", "0 0 29 2 *": "America/New_York", "@hourly": "UTC", "@daily": "",
		"@weekly": "", "@monthly": "", "@yearly": "", "@every 1s": "", "@every 1h30m": "Asia/Tokyo",
	} {
		p, faults := config.Compile(project(map[string]string{"functions/ping.yaml": timer(schedule, zone)}))
		require.Empty(t, faults, schedule)
		f := p.Functions[0]
		require.Equal(t, config.TriggerTimer, f.Type)
		require.Equal(t, schedule, f.Schedule)
		if zone == "" {
			zone = "UTC"
		}
		require.Equal(t, zone, f.Timezone)
	}
	p, faults := config.Compile(project(nil))
	require.Empty(t, faults)
	require.Empty(t, p.Functions[0].Timezone, "other triggers have none")
}

func TestEgress(t *testing.T) {
	compile := func(text string) *config.Egress {
		p, faults := config.Compile(project(map[string]string{"config.yaml": text}))
		require.Empty(t, faults)
		raw, err := json.Marshal(p)
		require.NoError(t, err)
		again := new(config.Project)
		require.NoError(t, json.Unmarshal(raw, again))
		require.Equal(t, p.Egress, again.Egress)
		return p.Egress
	}
	require.Nil(t, compile("id: "+id1+"\n"), "everything public")
	require.Equal(t, []string{}, compile(egress(" {allow: []}")).Allow, "nothing")
	require.Equal(t, []string{"api.example.com", "*.example.org", "192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32"},
		compile(egress(" {allow: [API.example.com., \"*.Example.org\", 192.0.2.0/24, \"2001:db8::/32\", 198.51.100.7, api.example.com]}")).Allow)
}

func TestMergeKeys(t *testing.T) {
	p, faults := config.Compile(project(map[string]string{
		"functions/ping.yaml": "id: " + id3 + "\nsource: .\n" +
			"execution: &exec\n  <<: [{timeout: 7s}, {timeout: 9s, memory: 1GB}]\n  memory: 32MB\n  call: &call ping\n" +
			"trigger: {type: http, method: GET, domains: [main], paths: [/ping]}\ntags: [*call]\n",
		"smartops/op.yaml": "id: " + id4 + "\nsource: .\nexecution:\n  <<: {<<: {timeout: 1s, memory: 1MB, call: deep}, call: near}\n",
	}))
	require.Empty(t, faults)
	f := p.Functions[0]
	require.Equal(t, 7*time.Second, f.Timeout, "the first of several counts")
	require.EqualValues(t, 32_000_000, f.Memory, "and what the map says itself before all")
	require.Equal(t, []string{"ping"}, f.Tags)
	require.Equal(t, "near", p.SmartOps[0].Call)
	require.Equal(t, time.Second, p.SmartOps[0].Timeout)

	// Few lines that ask for very many keys.
	var b strings.Builder
	b.WriteString("id: " + id1 + "\nx: &x {")
	for i := range 2000 {
		fmt.Fprintf(&b, "k%d: 1, ", i)
	}
	b.WriteString("}\ny: [")
	for range 1000 {
		b.WriteString("{<<: *x}, ")
	}
	b.WriteString("]\n")
	p, faults = config.Compile(project(map[string]string{"config.yaml": b.String()}))
	require.Nil(t, p)
	require.Contains(t, fmt.Sprint(faults), "merges more than 100000 keys")
}

func TestLegacyPlaces(t *testing.T) {
	legacy := strings.ReplaceAll(function(), "  domains: [main]\n", "") + "domains: [main]\n"
	p, faults := config.Compile(project(map[string]string{
		"functions/ping.yaml": legacy,
		"functions/peer.yaml": "id: " + id4 + "\nsource: .\ntrigger: {type: p2p, service: /a/v1, command: c}\nexecution: {timeout: 1s, memory: 1GB512MB, call: c}\n",
		"services/a.yaml":     "id: " + id4 + "\nprotocol: /a/v1\n",
		"databases/d.yaml":    "id: " + id4 + "\nmatch: x\nuseRegex: true\nstorage: {size: 1.5GB}\nencryption:\n",
	}))
	require.Empty(t, faults)
	require.Equal(t, "/a/v1", p.Functions[0].Service)
	require.Equal(t, int64(1_512_000_000), p.Functions[0].Memory)
	require.Len(t, p.Functions[1].Domains, 1)
	require.True(t, p.Databases[0].UseRegex)
	require.Equal(t, int64(1_500_000_000), p.Databases[0].Size)
}

func TestHostNamesAreLowerCase(t *testing.T) {
	p, faults := config.Compile(project(map[string]string{"domains/main.yaml": "id: " + id2 + "\nfqdn: Api.Example.COM\n"}))
	require.Empty(t, faults)
	require.Equal(t, "api.example.com", p.Domains[0].FQDN)
	require.Contains(t, p.Indexes("main"), "domains/com/example/api/links")
}

func TestClouds(t *testing.T) {
	fsys := project(map[string]string{"config.yaml": "id: " + id1 + "\nclouds:\n  here.example: {account: a, plan: p}\n  there.example: {account: x, plan: y}\n"})
	p, faults := config.Compile(fsys, config.WithCloud("here.example"))
	require.Empty(t, faults)
	require.Equal(t, "a", p.Account)
	require.Equal(t, "p", p.Plan)
}

func TestSchemaIsJSON(t *testing.T) {
	var s struct {
		Defs map[string]struct {
			Properties map[string]any
		} `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(config.Schema(), &s))
	require.Len(t, s.Defs, 11)
	require.Contains(t, s.Defs["functions"].Properties, "trigger")
	require.Contains(t, fmt.Sprint(s.Defs["functions"].Properties["trigger"]), "timezone")
	require.Contains(t, s.Defs["project"].Properties, "egress")
}

func FuzzCompile(f *testing.F) {
	f.Add("id: "+id1+"\n", function(), "id: "+id2+"\nfqdn: a.b\n")
	f.Add(egress(" {allow: [a.b, 1.2.3.0/24]}"), timer("*/5 * * * *", "Europe/Paris"), "x: &x {<<: *x}\n")
	f.Add("a: &a {b: &b {<<: *a}, <<: [*b, {c: d}]}\n", timer("@every 5m", "Local"), "")
	f.Add("a: &a [*a]\n", "trigger: &t {type: *t}\n", "x: {<<: *y}\n")
	f.Fuzz(func(t *testing.T, project, function, domain string) {
		p, faults := config.Compile(fstest.MapFS{
			"config.yaml":                      {Data: []byte(project)},
			"functions/f.yaml":                 {Data: []byte(function)},
			"domains/main.yaml":                {Data: []byte(domain)},
			"storages/s.yaml":                  {Data: []byte(function)},
			"applications/a/config.yaml":       {Data: []byte(domain)},
			"applications/a/websites/w.yaml":   {Data: []byte(function)},
			"applications/a/messaging/m.yaml":  {Data: []byte(domain)},
			"applications/a/databases/db.yaml": {Data: []byte(function)},
		})
		if (p == nil) != faults.HasErrors() {
			t.Fatalf("project %v with %v", p, faults)
		}
		if p != nil {
			p.Indexes("main")
		}
	})
}

// A function may have several methods, in one key or in two.
func TestMethods(t *testing.T) {
	for trigger, want := range map[string][]string{
		"method: GET": {"GET"}, "method: get\n  methods: [GET, post]": {"GET", "POST"}, "methods: [PUT, PATCH]": {"PUT", "PATCH"}, "methods: [GET, get]": {"GET"},
		"methods: []": nil, "methods: [FETCH]": nil, "methods: GET": nil, "description: none": nil,
	} {
		p, faults := config.Compile(fstest.MapFS{
			"config.yaml":         {Data: []byte("id: QmRPRQww8rci6fpkK5Tp8NGjyGQUyrTgQm5j7BnFJqi4DW\nname: p\n")},
			"domains/main.yaml":   {Data: []byte("id: QmRPRQww8rci6fpkK5Tp8NGjyGQUyrTgQm5j7BnFJqi4DW\nfqdn: www.example.com\n")},
			"functions/some.yaml": {Data: []byte("id: QmRPRQww8rci6fpkK5Tp8NGjyGQUyrTgQm5j7BnFJqi4DW\ntrigger:\n  type: http\n  domains: [main]\n  paths: [/some]\n  " + trigger + "\nsource: .\nexecution:\n  timeout: 5s\n  memory: 64MB\n  call: f\n")},
		})
		if want == nil {
			require.True(t, faults.HasErrors(), trigger)
			continue
		}
		require.Empty(t, faults, trigger)
		require.Equal(t, want, p.Functions[0].AllMethods(), trigger)
	}
}
