package config

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// Schema returns a JSON Schema (draft 2020-12) for editors: definitions under
// "$defs", one for config.yaml ("project"), one for an application's ("application")
// and one for the files of each group. Rules that span fields are Compile's alone.
func Schema() []byte {
	defs := map[string]any{
		"project": jsonObject(append(projectFields(),
			field{at: "clouds", json: map[string]any{"type": "object"}},
			field{at: "egress.allow", json: jsonEgress})),
		"application": jsonObject(common()),
	}
	for group, fields := range groups() {
		defs[group] = jsonObject(fields)
	}
	names := slices.Sorted(maps.Keys(defs))
	var kinds []any
	for _, n := range names {
		kinds = append(kinds, map[string]any{"$ref": "#/$defs/" + n})
	}
	out, err := json.MarshalIndent(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "A file of a Taubyte project's configuration",
		"$defs":   defs,
		"anyOf":   kinds,
	}, "", "  ")
	if err != nil {
		panic(err) // maps of plain values
	}
	return append(out, '\n')
}

// jsonObject nests the dotted paths of fields.
func jsonObject(fields []field) map[string]any {
	root := map[string]any{"type": "object", "properties": map[string]any{}}
	put := func(at string, schema map[string]any, required bool) {
		n := root
		parts := strings.Split(at, ".")
		for i, key := range parts {
			props := n["properties"].(map[string]any)
			if required {
				list, _ := n["required"].([]string)
				if !slices.Contains(list, key) {
					n["required"] = append(list, key)
				}
			}
			if i == len(parts)-1 {
				props[key] = schema
				return
			}
			next, ok := props[key].(map[string]any)
			if !ok {
				next = map[string]any{"type": "object", "properties": map[string]any{}}
				props[key] = next
			}
			n = next
		}
	}
	for _, f := range fields {
		put(f.at, f.json, f.required && f.legacy == "" && len(f.when) == 0)
		if f.legacy != "" {
			old := maps.Clone(f.json)
			old["deprecated"] = true
			put(f.legacy, old, false)
		}
	}
	return root
}
