package config_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/tns/config"
)

// validators are the schemas as an editor has them, by kind, and the one of all under "".
func validators(t *testing.T) map[string]*jsonschema.Schema {
	all := map[string]*jsonschema.Schema{}
	add := func(kind string, text []byte) {
		parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		require.NoError(t, err)
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft2020)
		require.NoError(t, c.AddResource(kind+".json", parsed))
		all[kind], err = c.Compile(kind + ".json") // which holds it to the rules of the draft as well
		require.NoError(t, err, kind)
	}
	for _, kind := range config.Kinds() {
		text, err := config.SchemaOf(kind)
		require.NoError(t, err)
		add(kind, text)
	}
	add("", config.Schema())
	return all
}

// decoded is a YAML file as an editor sees it.
func decoded(t *testing.T, text string) any {
	var v any
	require.NoError(t, yaml.Unmarshal([]byte(text), &v), text)
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	v, err = jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	return v
}

// kindOf is the kind of a file of a configuration.
func kindOf(name string) string {
	if name == "config.yaml" {
		return "project"
	}
	if group := path.Base(path.Dir(name)); path.Base(name) != "config.yaml" {
		return group
	}
	return "application"
}

func TestSchemaTakesWhatIsValid(t *testing.T) {
	schemas := validators(t)
	require.Len(t, schemas, 12)
	_, err := config.SchemaOf("function")
	require.ErrorIs(t, err, taubyte.ErrNotFound)
	check := func(at, name, text string) {
		v := decoded(t, text)
		require.NoError(t, schemas[kindOf(name)].Validate(v), "%s %s", at, name)
		require.NoError(t, schemas[""].Validate(v), "%s %s", at, name)
	}
	projects := []string{filepath.Join("testdata", "ex1"), filepath.Join("testdata", "ex2"), filepath.Join("testdata", "ex3")}
	for _, example := range []string{"hello", "notes", "chat"} {
		projects = append(projects, filepath.Join("..", "..", "examples", example, "config"))
	}
	for _, dir := range projects {
		require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || path.Ext(name) != ".yaml" {
				return err
			}
			text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
			require.NoError(t, err)
			check(dir, name, string(text))
			return nil
		}))
	}
	for name, files := range map[string][]string{
		"config.yaml": {
			"id: " + id1 + "\nname: x\ndescription: 12\ntags:\nnotification: {email: ops@example.com}\nclouds:\n  a.example: {account: a, plan: p}\n  b.example: {}\n",
			egress(" {allow: []}"),
		},
		"functions/ping.yaml": {
			function(), function("  method: get\n  methods: [get, POST]"), timer("@every 90s", ""), timer("*/5 0-12,20 1 JAN-MAR MON", "Europe/Paris"),
			function("  paths:\n  - /\n  - /a/\n  - /items/{id}\n  - /{a}/{b...}\n  - /{$}\n  - /{_x}/{$}"), function("source: libraries/x", "  timeout: 1m30.5s", "  memory: 1GB512MB"),
			strings.ReplaceAll(function(), "  domains: [main]\n", "") + "domains: [main]\n",
			"id: " + id4 + "\nsource: .\ntrigger: {type: p2p, service: /a/v1, command: c}\nexecution: {timeout: 1s, memory: 1GB, call: c}\n",
			"id: " + id4 + "\nsource: .\ntrigger: {type: pubsub, channel: c, local: \"true\", paths: [], method: }\nexecution: {timeout: 1s, memory: 1GB, call: c}\n",
		},
		"domains/main.yaml":          {"id: " + id2 + "\nfqdn: \"*.Example.com.\"\ncertificate: {type: inline, cert: a, key: b}\n", "id: " + id2 + "\nfqdn: a.b\ncertificate:\n"},
		"databases/d.yaml":           {"id: " + id4 + "\nmatch: d\nstorage: {size: 1.5GB}\nencryption:\naccess: {network: host}\n", "id: " + id4 + "\nregex: true\nmatch: a\nstorage: {size: 1B}\n"},
		"storages/s.yaml":            {"id: " + id4 + "\nmatch: s\nstreaming: {size: 1GB, ttl: 1h}\n", "id: " + id4 + "\nmatch: s\nobject: {size: 1GB, versioning: true}\naccess: {network: all}\n"},
		"websites/w.yaml":            {"id: " + id4 + "\ndomains: [main]\npaths: [/]\nsource: {branch: main}\n", "id: " + id4 + "\ndomains: [main]\nsource: {paths: [/], github: {id: 7, fullname: a/b}}\n"},
		"libraries/l.yaml":           {"id: " + id4 + "\n", "id: " + id4 + "\nsource: {path: /, gitea: {id: \"7\", fullname: a/b}}\n"},
		"messaging/m.yaml":           {"id: " + id4 + "\nchannel: {match: c}\nbridges: {mqtt: {enable: false}, websocket: {enable: true}}\n"},
		"services/s.yaml":            {"id: " + id4 + "\nprotocol: /a/v1\n"},
		"smartops/o.yaml":            {"id: " + id4 + "\nsource: .\nexecution: {timeout: 1s, memory: 1GB, call: c}\n"},
		"applications/a/config.yaml": {"id: " + id4 + "\ndescription: x\n"},
	} {
		for _, text := range files {
			check("", name, text)
		}
	}
}

// What Compile says of a file alone the schema says too, in the kind's schema and in the
// one of all.
func TestSchemaRefusesWhatIsNot(t *testing.T) {
	schemas := validators(t)
	for name, files := range map[string][]string{
		"config.yaml": {
			"name: x\n", "id: 12\n", "id: QmX\n", "id: " + id1 + "\nname: 1x\n", "id: " + id1 + "\nnotification: {email: nobody}\n", "id: " + id1 + "\nnmae: x\n",
			"id: " + id1 + "\nclouds: {c.example: {plan: p}}\n", egress(""), egress(" {}"), egress(" {allow: a.example}"), "id: " + id1 + "\ndescription: [a]\n", "[]\n",
		},
		"functions/ping.yaml": {
			function("  type: ftp"), function("  method: FETCH"), function("  method: GET\n  methods: []"), function("  method: GET\n  methods: [FETCH]"), function("  paths: [ping]"), function("  paths: []"),
			function("  paths: [\"/items/{id}/\"]"), function("  paths: [\"/a{b}\"]"), function("  paths: [\"/{a...}/b\"]"), function("  paths: [\"/{1}\"]"), function("  domains: []"),
			function("source: github.com/x/y"), function("  timeout: 10"), function("  timeout: 1d"), function("  timeout: -1s"), function("  memory: 10"), function("  memory: 10 MB"),
			function("  memory: 10mb"), function("  call: \"\""), function("  type: pubsub"), function("  type: timer"), function("  type: p2p"), function("replicas: {min: 1}"), function("  type: http\n  channel: c"),
			strings.ReplaceAll(function(), "  domains: [main]\n", ""), strings.ReplaceAll(function(), "  method: GET\n", ""), strings.ReplaceAll(function(), "  paths: [/ping]\n", ""),
			strings.ReplaceAll(function(), "id: "+id3+"\n", ""), timer("soon", ""), timer("0 0 4 * * 1", ""), timer("@daily", "Local"), timer("TZ=UTC", ""),
		},
		"domains/main.yaml": {"id: " + id2 + "\nfqdn: not a host\n", "id: " + id2 + "\nfqdn: localhost\n", "id: " + id2 + "\n", "id: " + id2 + "\nfqdn: a.b\ncertificate: {type: inline, cert: x}\n", "id: " + id2 + "\nfqdn: a.b\ntags: x\n", "id: " + id2 + "\nfqdn: a.*.b\n"},
		"databases/d.yaml": {
			"id: " + id4 + "\nstorage: {size: 1GB}\n", "id: " + id4 + "\nmatch: x\n", "id: " + id4 + "\nmatch: x\nstorage: {size: 1GB}\naccess: {network: moon}\n",
			"id: " + id4 + "\nmatch: x\nstorage: {size: 1GB}\naccess: {network: subnet}\n", "id: " + id4 + "\nmatch: x\nstorage: {size: 1GB}\nencryption: {type: aes}\n", "id: " + id4 + "\nmatch: x\nregex: 1\nstorage: {size: 1GB}\n",
		},
		"storages/s.yaml":  {"id: " + id4 + "\nmatch: s\n", "id: " + id4 + "\nmatch: s\nobject: {size: 1GB}\nstreaming: {size: 1GB}\n", "id: " + id4 + "\nmatch: s\nobject: {versioning: true}\n", "id: " + id4 + "\nmatch: s\nobject: {size: 1GB, ttl: 1h}\n"},
		"websites/w.yaml":  {"id: " + id4 + "\npaths: [/]\n", "id: " + id4 + "\ndomains: [main]\n", "id: " + id4 + "\ndomains: [main]\npaths: [\"/{x}\"]\n", "id: " + id4 + "\ndomains: [main]\npaths: [/]\nsource: {github: {id: \"1\"}}\n", "id: " + id4 + "\ndomains: [main]\npaths: [/]\nsource: {github: {id: \"1\", fullname: a/b}, gitea: {id: \"1\", fullname: a/b}}\n"},
		"libraries/l.yaml": {"id: " + id4 + "\nsource: {gitlab: {id: \"1\", fullname: a/b}}\n"},
		"messaging/m.yaml": {"id: " + id4 + "\nlocal: true\n", "id: " + id4 + "\nlocal: perhaps\nchannel: {match: x}\n", "id: " + id4 + "\nchannel: {match: x}\nbridges: {mqtt: {enable: true}}\n"},
		"services/s.yaml":  {"id: " + id4 + "\n", "id: " + id4 + "\nprotocol: a\n"},
		"smartops/o.yaml":  {"id: " + id4 + "\nsource: .\nexecution: {timeout: 1s, memory: 1GB}\n"},
	} {
		for _, text := range files {
			v := decoded(t, text)
			require.Error(t, schemas[kindOf(name)].Validate(v), "%s\n%s", name, text)
			if schemas["application"].Validate(v) != nil && schemas["libraries"].Validate(v) != nil { // which have little that is theirs alone
				require.Error(t, schemas[""].Validate(v), "%s\n%s", name, text)
			}
			_, faults := config.Compile(only(name, text))
			require.Contains(t, texts(faults), name, "Compile says nothing of\n%s", text)
		}
	}
}

// only is a project in which one file is of interest.
func only(name, text string) fstest.MapFS { return project(map[string]string{name: text}) }
