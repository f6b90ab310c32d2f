package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/taubyte/taubyte"
)

const draft = "https://json-schema.org/draft/2020-12/schema"

// Kinds are the kinds of files of a configuration, by which SchemaOf has a schema for
// each: "project" (config.yaml), "application" (the config.yaml of one), and the groups
// of resources.
func Kinds() []string { return slices.Sorted(maps.Keys(schemas())) }

// SchemaOf returns the JSON Schema (draft 2020-12) of the files of a kind, for editors:
//
//	# yaml-language-server: $schema=functions.json
//
// It is strict: keys that nothing reads are refused, and so is what Compile says of a file
// alone, down to the fields that a trigger's type demands. Whether a time of day or a
// regular expression is one, and all that spans files, is Compile's. The error is
// taubyte.ErrNotFound where there is no such kind.
func SchemaOf(kind string) ([]byte, error) {
	schema, ok := schemas()[kind]
	if !ok {
		return nil, fmt.Errorf("%w: no kind of configuration file %q, one of %s", taubyte.ErrNotFound, kind, strings.Join(Kinds(), ", "))
	}
	schema["$schema"] = draft
	return schemaJSON(schema), nil
}

// Schema returns one JSON Schema for all files of a configuration: a file is of one of
// the kinds, which are the definitions under "$defs". An editor that is told of the kind
// (see SchemaOf) has better messages.
func Schema() []byte {
	var kinds []any
	for _, kind := range Kinds() {
		kinds = append(kinds, map[string]any{"$ref": "#/$defs/" + kind})
	}
	return schemaJSON(map[string]any{
		"$schema": draft,
		"title":   "A file of a Taubyte project's configuration",
		"$defs":   schemas(),
		"anyOf":   kinds,
	})
}

func schemaJSON(v any) []byte {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // maps of plain values
	}
	return append(out, '\n')
}

// The schemas of values. What Compile takes without quotes is taken here.
var (
	jsonText     = map[string]any{"type": []any{"string", "number", "boolean"}}
	jsonSome     = map[string]any{"type": []any{"string", "number", "boolean"}, "pattern": `\S`}
	jsonBool     = map[string]any{"enum": []any{true, false, "true", "false", "True", "False", "TRUE", "FALSE"}}
	jsonList     = map[string]any{"type": "array", "items": jsonText}
	jsonItems    = map[string]any{"type": "array", "minItems": 1, "items": jsonText}
	jsonID       = map[string]any{"type": "string", "pattern": `^(Qm[1-9A-HJ-NP-Za-km-z]{44}|b[a-z2-7]{20,})$`, "description": "a CID (Qm…), made once"}
	jsonName     = map[string]any{"type": "string", "pattern": variableName.String()}
	jsonEmail    = map[string]any{"type": "string", "pattern": `^[^@\s]+@[^@\s]+$`}
	jsonFQDN     = map[string]any{"type": "string", "maxLength": 254, "pattern": `^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)+[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$`, "description": "a host name (www.example.com), or all below one (*.example.com)"}
	jsonPaths    = map[string]any{"type": "array", "minItems": 1, "items": map[string]any{"type": "string", "pattern": `^/[^{}]*$`}, "description": "a website has everything below its paths"}
	jsonTemplate = map[string]any{"type": "array", "minItems": 1, "description": "paths, as in /items, /items/{id}, /files/{rest...} or /{$}; one that ends in / is that path alone", "items": map[string]any{
		"type": "string", "pattern": `^(/[^{}]*|(/([^/{}]+|\{[\p{L}_][\p{L}\p{Nd}_]*\}))*/([^/{}]+|\{[\p{L}_][\p{L}\p{Nd}_]*(\.\.\.)?\}|\{\$\}))$`,
	}}
	jsonDur      = map[string]any{"type": "string", "pattern": `^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`, "description": "a duration: 10s, 1m30s"}
	jsonSize     = map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?([kKMGTPE]?B|[KMGTPE]iB))+$`, "description": "a size: 64MiB, 1.5GB"}
	jsonZone     = map[string]any{"type": "string", "pattern": `^[A-Za-z][A-Za-z0-9_+/-]*$`, "not": map[string]any{"const": "Local"}, "description": "a time zone: UTC, Europe/Paris"}
	jsonSource   = map[string]any{"type": "string", "pattern": `^(\.|libraries/.+)$`, "description": "\".\" for the function's own code, or libraries/<name>"}
	jsonProtocol = map[string]any{"type": "string", "pattern": protocolName.String(), "description": "a protocol: /name/v1"}
	jsonMethod   = map[string]any{"type": "string", "pattern": anyCase(methods), "description": "an HTTP method"}
	jsonMethods  = map[string]any{"type": "array", "minItems": 1, "items": jsonMethod, "description": "the HTTP methods of a function that has several, beside method"}
	jsonSchedule = map[string]any{"type": "string", "pattern": `^\s*(@[a-z]+( .+)?|\S+(\s+\S+){4})\s*$`, "description": "five fields of cron (0 4 * * 1-5), @hourly, @daily, @weekly, @monthly, @yearly, or @every 90s"}
	jsonNone     = map[string]any{"enum": []any{""}, "description": "not offered", "deprecated": true}
	jsonFalse    = map[string]any{"enum": []any{false, "false", "False", "FALSE"}, "description": "not offered", "deprecated": true}
	jsonBlank    = map[string]any{"enum": []any{nil, "", []any{}}}
	jsonYes      = map[string]any{"enum": []any{true, "true", "True", "TRUE"}}
	jsonEgress   = map[string]any{
		"type": "object", "required": []string{"allow"}, "additionalProperties": false,
		"properties": map[string]any{"allow": map[string]any{"type": "array", "items": map[string]any{"type": "string"}, "description": "host names, *.host names and ranges of addresses that functions may reach; everything public where egress is absent"}},
	}
	jsonClouds = map[string]any{
		"type": "object", "description": "the project's account and plan, by the name of a cloud",
		"additionalProperties": map[string]any{
			"type": "object", "additionalProperties": false, "properties": map[string]any{"account": jsonSome, "plan": jsonSome},
			"dependentRequired": map[string]any{"account": []string{"plan"}, "plan": []string{"account"}},
		},
	}
)

func jsonEnum(values ...any) map[string]any { return map[string]any{"enum": values} }

// anyCase is a pattern of words in any case.
func anyCase(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte('|')
		}
		for _, c := range w {
			fmt.Fprintf(&b, "[%c%c]", c, c+'a'-'A')
		}
	}
	return "^(" + b.String() + ")$"
}

// schemas are the schemas by kind.
func schemas() map[string]map[string]any {
	all := map[string]map[string]any{
		"project":     jsonObject(append(projectFields(), field{at: "clouds", json: jsonClouds}, field{at: "egress", json: jsonEgress, inner: true})),
		"application": jsonObject(common()),
	}
	for group, fields := range groups() {
		all[group] = jsonObject(fields)
	}
	all[groupFunctions]["allOf"] = triggerRules(groups()[groupFunctions])
	for _, group := range []string{groupWebsites, groupLibraries} {
		source := all[group]["properties"].(map[string]any)["source"].(map[string]any)
		source["not"] = map[string]any{"required": providers}
	}
	all[groupWebsites]["allOf"] = []any{eitherPlace("paths", "source.paths")}
	certificate := all[groupDomains]["properties"].(map[string]any)["certificate"].(map[string]any)
	certificate["if"] = map[string]any{"required": []string{"type"}, "properties": map[string]any{"type": map[string]any{"const": "inline"}}}
	certificate["then"] = map[string]any{"required": []string{"cert", "key"}}
	regex := func(key string) any {
		return map[string]any{"required": []string{key}, "properties": map[string]any{key: jsonYes}}
	}
	all[groupDatabases]["anyOf"] = []any{map[string]any{"required": []string{"match"}}, regex("regex"), regex("useRegex")}
	all[groupStorages]["oneOf"] = []any{map[string]any{"required": []string{"object"}}, map[string]any{"required": []string{"streaming"}}}
	for kind, schema := range all {
		schema["title"] = "A file of the kind " + kind
	}
	return all
}

// triggerRules are what the type of a function's trigger demands, and makes useless.
func triggerRules(fields []field) []any {
	var rules []any
	for _, trigger := range triggers {
		then := []any{}
		for _, f := range fields {
			places := []string{f.at}
			if f.legacy != "" {
				places = append(places, f.legacy)
			}
			switch {
			case len(f.when) == 0:
			case !slices.Contains(f.when, trigger):
				for _, at := range places {
					then = append(then, nested(at, jsonBlank, false))
				}
			default:
				for _, at := range places {
					then = append(then, nested(at, nullable(f.json), false))
				}
				if f.required {
					then = append(then, eitherPlace(places...))
				}
			}
		}
		if slices.Contains(isHTTP, trigger) {
			then = append(then, eitherPlace("trigger.method", "trigger.methods"))
		}
		rules = append(rules, map[string]any{
			"if":   nested("trigger.type", map[string]any{"const": trigger}, true),
			"then": map[string]any{"allOf": then},
		})
	}
	return rules
}

// eitherPlace demands a value at one of several paths.
func eitherPlace(places ...string) map[string]any {
	var either []any
	for _, at := range places {
		either = append(either, nested(at, map[string]any{"not": map[string]any{"type": "null"}}, true))
	}
	return map[string]any{"anyOf": either}
}

// nested is a schema of what stands at a dotted path.
func nested(at string, schema map[string]any, required bool) map[string]any {
	first, rest, more := strings.Cut(at, ".")
	if more {
		schema = nested(rest, schema, required)
	}
	out := map[string]any{"properties": map[string]any{first: schema}}
	if required {
		out["required"] = []string{first}
		out["type"] = "object"
	}
	return out
}

// nullable lets a key that need not be there have no value.
func nullable(schema map[string]any) map[string]any {
	schema = maps.Clone(schema)
	switch t := schema["type"].(type) {
	case string:
		schema["type"] = []any{t, "null"}
	case []any:
		schema["type"] = append(slices.Clone(t), "null")
	}
	if values, ok := schema["enum"].([]any); ok {
		schema["enum"] = append(slices.Clone(values), nil)
	}
	return schema
}

// jsonObject nests the dotted paths of fields.
func jsonObject(fields []field) map[string]any {
	object := func() map[string]any {
		return map[string]any{"type": "object", "properties": map[string]any{}, "additionalProperties": false}
	}
	root := object()
	put := func(f *field, at string, schema map[string]any, required bool) {
		n := root
		parts := strings.Split(at, ".")
		for i, key := range parts {
			props := n["properties"].(map[string]any)
			if last := i == len(parts)-1; required || f.inner && last && i > 0 {
				list, _ := n["required"].([]string)
				if !slices.Contains(list, key) {
					n["required"] = append(list, key)
				}
			}
			if i == len(parts)-1 {
				if !f.required && !f.inner {
					schema = nullable(schema)
				}
				props[key] = schema
				return
			}
			next, ok := props[key].(map[string]any)
			if !ok {
				next = object()
				props[key] = next
			}
			n = next
		}
	}
	for _, f := range fields {
		if len(f.when) > 0 { // see triggerRules
			f.json = map[string]any{}
		}
		put(&f, f.at, f.json, f.required && f.legacy == "" && len(f.when) == 0)
		if f.legacy != "" {
			old := maps.Clone(f.json)
			old["deprecated"] = true
			put(&f, f.legacy, old, false)
		}
	}
	for _, p := range root["properties"].(map[string]any) {
		blankMaps(p)
	}
	return root
}

// blankMaps lets maps in which nothing is required be empty.
func blankMaps(schema any) {
	s, _ := schema.(map[string]any)
	props, ok := s["properties"].(map[string]any)
	if !ok {
		return
	}
	if s["required"] == nil {
		s["type"] = []any{"object", "null"}
	}
	for _, p := range props {
		blankMaps(p)
	}
}
