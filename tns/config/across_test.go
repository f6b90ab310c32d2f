package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mr-tron/base58"
	"github.com/multiformats/go-multihash"
	"github.com/stretchr/testify/require"

	"github.com/taubyte/taubyte/tns/config"
)

const (
	id5 = "QmZdxm98w4MXRNFJnf5PecAwgH2DA5ZwrnKVYLBwGmPVdn"
	id6 = "QmeLwkX4jntc1MjozTkwMyDmNCB63baNoVet8bth1s9o8A"
	id7 = "QmT4ajCMTgD96GJNVxNKzyRecReKXQi57F3DyiCwdcXCej"
	id8 = "QmNXMsRosaFiBE3cQYYW5oxUDCUCrAYbdMwJKS9UekymPT"
)

// at is a function at a path of the domain main.
func at(id, method, path string) string {
	return "id: " + id + "\nsource: .\ntrigger:\n  type: http\n  methods: [" + method + "]\n  paths: [\"" + strings.ReplaceAll(path, " ", "\", \"") + "\"]\n  domains: [main]\n" +
		"execution: {timeout: 5s, memory: 32MB, call: f}\n"
}

// site is a website at a path of the domain main.
func site(id, path string) string {
	return "id: " + id + "\ndomains: [main]\npaths: [" + path + "]\n"
}

func texts(faults config.Diagnostics) string {
	var all []string
	for _, f := range faults {
		all = append(all, f.String())
	}
	return strings.Join(all, "\n")
}

// Each is one fault that no file has by itself, at a file, a line and with a hint.
func TestFaultsAcrossFiles(t *testing.T) {
	app := map[string]string{"applications/x/config.yaml": "id: " + id7 + "\n", "applications/y/config.yaml": "id: " + id8 + "\n"}
	peer := func(id string) string {
		return "id: " + id + "\nsource: .\ntrigger: {type: p2p, protocol: /a/v1, command: run}\nexecution: {timeout: 5s, memory: 32MB, call: f}\n"
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string // "" = none
	}{
		{"two domains of a name", map[string]string{"domains/other.yaml": "id: " + id4 + "\nfqdn: Demo.example.com.\n"},
			"domains/other.yaml:2:7: error: fqdn is demo.example.com, which is that of domains/main (keep one"},
		{"in two applications", map[string]string{"applications/x/domains/a.yaml": "id: " + id4 + "\nfqdn: a.example.com\n", "applications/y/domains/a.yaml": "id: " + id5 + "\nfqdn: a.example.com\n"},
			"applications/y/domains/a.yaml:2:7: error: fqdn is a.example.com, which is that of applications/x/domains/a"},
		{"a wildcard beside a name of it", map[string]string{"domains/other.yaml": "id: " + id4 + "\nfqdn: \"*.example.com\"\n"}, ""},
		{"two functions at one place", map[string]string{"functions/pong.yaml": at(id4, "GET", "/ping")},
			"functions/pong.yaml:6:11: error: GET /ping on demo.example.com is that of functions/ping (GET /ping)"},
		{"the project's and an application's", map[string]string{"applications/x/functions/pong.yaml": at(id4, "get", "/a /ping")},
			"applications/x/functions/pong.yaml:6:17: error: GET /ping on demo.example.com is that of functions/ping"},
		{"of one of several methods", map[string]string{"functions/pong.yaml": at(id4, "POST, GET", "/ping")}, "GET /ping on demo.example.com"},
		{"with another method", map[string]string{"functions/pong.yaml": at(id4, "POST, HEAD", "/ping")}, ""},
		{"with a slash", map[string]string{"functions/pong.yaml": at(id4, "GET", "/ping/")}, ""},
		{"a slash that is written out", map[string]string{"functions/a.yaml": at(id4, "GET", "/a/"), "functions/b.yaml": at(id5, "GET", "/a/{$}")}, "GET /a/ on demo.example.com is that of functions/a"},
		{"a path twice in one function", map[string]string{"functions/pong.yaml": at(id4, "GET", "/a /a /{x} /{x}")}, ""},
		{"the same template", map[string]string{"functions/a.yaml": at(id4, "GET", "/items/{id}"), "functions/b.yaml": at(id5, "PUT, GET", "/items/{name}")},
			"functions/b.yaml:6:11: error: /items/{name} on demo.example.com has the paths of functions/a (GET /items/{id})"},
		{"templates that overlap", map[string]string{"functions/a.yaml": at(id4, "GET", "/{x}/new"), "functions/b.yaml": at(id5, "GET", "/items/{id}")},
			"functions/b.yaml:6:11: error: /items/{id} on demo.example.com conflicts with functions/a (GET /{x}/new): some paths are of both, and neither is the more specific (the rules are"},
		{"with other methods", map[string]string{"functions/a.yaml": at(id4, "GET", "/{x}/new"), "functions/b.yaml": at(id5, "POST", "/items/{id}")}, ""},
		{"HEAD that overlaps GET", map[string]string{"functions/a.yaml": at(id4, "GET", "/a/b"), "functions/b.yaml": at(id5, "HEAD", "/a/{x}")}, "HEAD /a/{x} on demo.example.com conflicts"},
		{"a more specific template", map[string]string{"functions/a.yaml": at(id4, "GET", "/items/{id}"), "functions/b.yaml": at(id5, "GET", "/items/{rest...}"), "functions/c.yaml": at(id6, "GET", "/items/new")}, ""},
		{"a website beside templates", map[string]string{"functions/a.yaml": at(id4, "GET", "/api/{id} /docs/{page}"), "websites/w.yaml": site(id5, "/, /docs")}, ""},
		{"a catch-all in a website's place", map[string]string{"functions/a.yaml": at(id4, "GET", "/{all...}"), "websites/w.yaml": site(id5, "/")}, "websites/w.yaml:3:9: error: / on demo.example.com has the paths of functions/a"},
		{"a catch-all for what a website does not take", map[string]string{"functions/a.yaml": at(id4, "POST", "/{all...}"), "websites/w.yaml": site(id5, "/")}, ""},
		{"a website that overlaps", map[string]string{"functions/a.yaml": at(id4, "GET", "/{x}/y"), "websites/w.yaml": site(id5, "/docs")}, "/docs/ on demo.example.com conflicts with functions/a"},
		{"two websites", map[string]string{"websites/v.yaml": site(id4, "/docs"), "websites/w.yaml": site(id5, "/docs/")}, "has the paths of websites/v (/docs/)"},
		{"an id twice", map[string]string{"functions/pong.yaml": at(id3, "GET", "/x")}, "functions/pong.yaml:1:5: error: has the id of functions/ping (each resource"},
		{"in two applications", map[string]string{"applications/x/databases/d.yaml": "id: " + id4 + "\nmatch: a\nstorage: {size: 1MB}\n", "applications/y/databases/d.yaml": "id: " + id4 + "\nmatch: a\nstorage: {size: 1MB}\n"},
			"applications/y/databases/d.yaml:1:5: error: has the id of applications/x/databases/d"},
		{"of what is built alike", map[string]string{"websites/w.yaml": site(id3, "/")}, "has the id of functions/ping"},
		{"of what is not", map[string]string{"services/s.yaml": "id: " + id3 + "\nprotocol: /a\n"}, ""},
		{"two applications of an id", map[string]string{"applications/z/config.yaml": "id: " + id7 + "\n"}, "applications/z/config.yaml:1:5: error: has the id of application x"},
		{"a command twice", map[string]string{"services/s.yaml": "id: " + id6 + "\nprotocol: /a/v1\n", "functions/a.yaml": peer(id4), "functions/b.yaml": peer(id5)}, "functions/b.yaml:3:48: error: trigger.command is that of functions/a"},
		{"a protocol twice", map[string]string{"services/a.yaml": "id: " + id4 + "\nprotocol: /a\n", "services/b.yaml": "id: " + id5 + "\nprotocol: /a\n"}, "services/b.yaml:2:11: error: protocol is that of services/a"},
		{"a database's name twice", map[string]string{"databases/a.yaml": "id: " + id4 + "\nmatch: a\nstorage: {size: 1MB}\n", "databases/b.yaml": "id: " + id5 + "\nmatch: a\nstorage: {size: 1MB}\n"}, "databases/b.yaml:2:8: error: match is that of databases/a"},
		{"an application's own", map[string]string{"databases/a.yaml": "id: " + id4 + "\nmatch: a\nstorage: {size: 1MB}\n", "applications/x/databases/b.yaml": "id: " + id5 + "\nmatch: a\nstorage: {size: 1MB}\n"}, ""},
		{"a website with wildcards", map[string]string{"websites/w.yaml": site(id5, "\"/{x}\"")}, "websites/w.yaml:3:9: error: paths has \"/{x}\", and a website's path has no wildcards"},
		{"a bad template", map[string]string{"functions/a.yaml": at(id4, "GET", "/a /items/{id}/")}, "functions/a.yaml:6:10: error: trigger.paths has the path \"/items/{id}/\", which ends in /: end it in /{$}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, text := range app {
				if c.files[name] == "" {
					c.files[name] = text
				}
			}
			p, faults := config.Compile(project(c.files))
			if c.want == "" {
				require.Empty(t, faults)
				require.NotNil(t, p)
				return
			}
			require.Nil(t, p)
			require.Len(t, faults, 1, texts(faults))
			require.Contains(t, faults[0].String(), c.want)
			require.NotEmpty(t, faults[0].Hint)
		})
	}
}

// What a file may say works, is refused, or is said to have no effect.
func TestNothingIsIgnoredInSilence(t *testing.T) {
	database := func(more string) map[string]string {
		return map[string]string{"databases/d.yaml": "id: " + id4 + "\nmatch: d\nstorage: {size: 1MB}\n" + more}
	}
	storage := func(more string) map[string]string {
		return map[string]string{"storages/s.yaml": "id: " + id4 + "\nmatch: s\nobject: {size: 1MB}\n" + more}
	}
	peer := "id: " + id3 + "\nsource: .\ntrigger: {type: p2p, protocol: /a/v1, command: run}\nexecution: {timeout: 5s, memory: 32MB, call: f}\n"
	service := func(id string) string { return "id: " + id + "\nprotocol: /a/v1\n" }
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{database("encryption: {type: aes}\n"), "databases/d.yaml:4:20: error: encryption.type is not offered"},
		{database("encryption: {key: k}\n"), "databases/d.yaml:4:19: error: encryption.key is not offered"},
		{database("access: {network: subnet}\n"), "databases/d.yaml:4:19: error: access.network subnet is not offered"},
		{database("access: {network: host}\n"), ""},
		{storage("access: {network: subnet}\n"), "storages/s.yaml:4:19: error: access.network subnet is not offered"},
		{storage("access: {network: host}\n"), "storages/s.yaml:4:19: warning: access.network has no effect on a storage"},
		{storage("access: {network: all}\n"), ""},
		{map[string]string{"messaging/m.yaml": "id: " + id4 + "\nlocal: true\nchannel: {match: c}\nbridges:\n  mqtt: {enable: true}\n"}, "messaging/m.yaml:5:18: error: bridges.mqtt is not offered"},
		{map[string]string{"messaging/m.yaml": "id: " + id4 + "\nlocal: true\nchannel: {match: c}\nbridges: {mqtt: {enable: false}, websocket: {enable: true}}\n"}, ""},
		{map[string]string{"functions/ping.yaml": function("  type: http\n  local: true")}, "functions/ping.yaml:5:10: warning: trigger.local has no effect on a function"},
		{map[string]string{"functions/ping.yaml": function("  type: http\n  local: false")}, ""},
		{map[string]string{"functions/ping.yaml": function("  type: http\n  channel: c")}, "functions/ping.yaml:5:12: warning: trigger.channel has no effect where trigger.type is http (it is for pubsub)"},
		{map[string]string{"functions/ping.yaml": function("  type: http\n  channel:\n  command: \"\"")}, ""},
		{map[string]string{"functions/ping.yaml": function("source: .\nname: pong")}, "functions/ping.yaml:3:7: warning: name is \"pong\" and has no effect"},
		{map[string]string{"functions/ping.yaml": function("source: .\nname: ping")}, ""},
		{map[string]string{"domains/main.yaml": "id: " + id2 + "\nfqdn: demo.example.com\ncertificate: {cert: x}\n"}, "domains/main.yaml:3:21: warning: certificate.cert has no effect while certificate.type is auto"},
		{map[string]string{"functions/ping.yaml": "id: " + id3 + "\nsource: .\ntrigger: {type: pubsub, channel: c}\nexecution: {timeout: 5s, memory: 32MB, call: f}\n"},
			"functions/ping.yaml:3:34: warning: no messaging has the channel \"c\""},
		{map[string]string{"functions/ping.yaml": "id: " + id3 + "\nsource: .\ntrigger: {type: pubsub, channel: c}\nexecution: {timeout: 5s, memory: 32MB, call: f}\n",
			"messaging/m.yaml": "id: " + id4 + "\nchannel: {match: \"^[a-c]$\", regex: true}\n"}, ""},
		{map[string]string{"functions/ping.yaml": peer}, "functions/ping.yaml:3:32: warning: no service has the protocol \"/a/v1\": the function is never called"},
		{map[string]string{"functions/ping.yaml": peer, "services/s.yaml": service(id4)}, ""},
		{map[string]string{"functions/ping.yaml": peer, "applications/x/config.yaml": "id: " + id7 + "\n", "applications/x/services/s.yaml": service(id4)}, ""},
		{map[string]string{"applications/x/functions/peer.yaml": strings.Replace(peer, id3, id5, 1), "applications/y/config.yaml": "id: " + id8 + "\n", "applications/x/config.yaml": "id: " + id7 + "\n", "applications/y/services/s.yaml": service(id4)},
			"applications/x/functions/peer.yaml:3:32: warning: no service has the protocol"},
		{map[string]string{"services/s.yaml": service(id4), "applications/x/config.yaml": "id: " + id7 + "\n", "applications/x/services/s.yaml": service(id5)}, "applications/x/services/s.yaml:2:11: warning: protocol is that of services/s and has no effect"},
		{map[string]string{"functions/ping.yaml": peer, "services/s.yaml": service(id4), "applications/x/config.yaml": "id: " + id7 + "\n", "applications/x/functions/peer.yaml": strings.Replace(peer, id3, id5, 1)},
			"applications/x/functions/peer.yaml:3:48: warning: trigger.command is that of functions/ping and has no effect"},
		{map[string]string{"messaging/m.yaml": "id: " + id4 + "\nchannel: {match: c}\n", "applications/x/config.yaml": "id: " + id7 + "\n", "applications/x/messaging/m.yaml": "id: " + id5 + "\nchannel: {match: c}\n"},
			"applications/x/messaging/m.yaml:2:18: warning: channel.match is that of messaging/m and has no effect"},
	} {
		p, faults := config.Compile(project(c.files))
		require.Equal(t, strings.Contains(c.want, " error: "), p == nil, c.want)
		if c.want == "" {
			require.Empty(t, faults, c.files)
			continue
		}
		require.Len(t, faults, 1, texts(faults))
		require.Contains(t, faults[0].String(), c.want)
		require.NotEmpty(t, faults[0].Hint+faults[0].Message)
	}
}

// Few files may ask for very many routes; comparing them ends all the same.
func TestManyRoutesAreBounded(t *testing.T) {
	var domains, paths strings.Builder
	files := map[string]string{}
	for i := range 500 {
		fmt.Fprintf(&paths, "\"/x%d/{a}\", ", i)
	}
	for i := range 50 {
		files[fmt.Sprintf("domains/d%d.yaml", i)] = fmt.Sprintf("id: %s\nfqdn: d%d.example.com\n", numbered(i), i)
		fmt.Fprintf(&domains, "d%d, ", i)
	}
	for i := range 10 {
		files[fmt.Sprintf("functions/f%d.yaml", i)] = "id: " + numbered(100+i) + "\nsource: .\ntrigger: {type: http, method: GET, paths: [" + strings.ReplaceAll(paths.String(), "/x", fmt.Sprintf("/f%d-", i)) +
			"], domains: [" + domains.String() + "]}\nexecution: {timeout: 5s, memory: 32MB, call: f}\n"
	}
	_, faults := config.Compile(project(files))
	require.Len(t, faults, 1, texts(faults))
	require.Contains(t, texts(faults), "beyond")
}

// numbered is an id, another for each number.
func numbered(i int) string {
	sum, err := multihash.Sum([]byte(fmt.Sprint(i)), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return base58.Encode(sum)
}
