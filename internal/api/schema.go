package api

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// object is a JSON object of the document. Its keys are written in order.
type object = map[string]any

// shapes are the types whose values encode themselves, each with the one that they are
// encoded like.
type shapes map[reflect.Type]reflect.Type

func (s shapes) set(v, shape any) { s[reflect.TypeOf(v)] = reflect.TypeOf(shape) }

// schemas makes JSON Schemas of Go types, as encoding/json encodes their values. Named
// structs are components, which others refer to.
type schemas struct {
	shapes     shapes
	components object
	names      map[string]reflect.Type
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// known are types whose encoding their methods don't tell.
var known = map[reflect.Type]func() object{
	reflect.TypeFor[time.Time]():       func() object { return object{"type": "string", "format": "date-time"} },
	reflect.TypeFor[time.Duration]():   func() object { return object{"type": "integer", "format": "int64", "description": "nanoseconds"} },
	reflect.TypeFor[json.RawMessage](): func() object { return object{} },
	reflect.TypeFor[peer.ID]():         func() object { return object{"type": "string", "description": "a peer ID"} },
	reflect.TypeFor[multiaddr.Multiaddr](): func() object {
		return object{"type": "string", "description": "a multiaddress"}
	},
	reflect.TypeFor[cid.Cid](): func() object {
		return object{
			"type": []string{"object", "null"}, "description": "a link to content: a CID", "required": []string{"/"},
			"properties": object{"/": object{"type": "string"}}, "additionalProperties": false,
		}
	},
}

// of returns a type's schema.
func (s *schemas) of(t reflect.Type) object {
	if shape, ok := s.shapes[t]; ok {
		return s.of(shape)
	}
	if make, ok := known[t]; ok {
		return make()
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return nullable(s.of(t.Elem()))
	case t.Kind() == reflect.Interface:
		return object{}
	case t.Implements(jsonMarshaler):
		panic(fmt.Sprintf("%s encodes itself: Mux.EncodedAs says how", t))
	case t.Implements(textMarshaler):
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Int8, reflect.Int16, reflect.Int32:
		return object{"type": "integer", "format": "int32"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return object{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return object{"type": []string{"string", "null"}, "contentEncoding": "base64"}
		}
		return object{"type": []string{"array", "null"}, "items": s.of(t.Elem())}
	case reflect.Array:
		return object{"type": "array", "items": s.of(t.Elem()), "minItems": t.Len(), "maxItems": t.Len()}
	case reflect.Map:
		return object{"type": []string{"object", "null"}, "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		if t.Name() == "" {
			return s.structure(t)
		}
		return s.component(t)
	}
	panic(fmt.Sprintf("%s has no encoding in JSON", t))
}

// unnamed are the characters that a component's name may not have.
var unnamed = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

func (s *schemas) component(t reflect.Type) object {
	name := unnamed.ReplaceAllString(t.String(), "_")
	if other, ok := s.names[name]; ok && other != t {
		name = unnamed.ReplaceAllString(strings.TrimPrefix(t.PkgPath(), "github.com/taubyte/taubyte/"), ".") + "." + t.Name()
	}
	if _, ok := s.names[name]; !ok {
		s.names[name] = t
		s.components[name] = s.structure(t)
	}
	return object{"$ref": "#/components/schemas/" + name}
}

func (s *schemas) structure(t reflect.Type) object {
	properties, required := object{}, map[string]bool{}
	s.fields(t, properties, required)
	out := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		out["required"] = slices.Sorted(maps.Keys(required))
	}
	return out
}

// fields adds those of a struct, and of the structs that it embeds: what it has itself
// hides theirs.
func (s *schemas) fields(t reflect.Type, properties object, required map[string]bool) {
	var embedded []reflect.Type
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			e := f.Type
			if e.Kind() == reflect.Pointer {
				e = e.Elem()
			}
			if e.Kind() == reflect.Struct {
				embedded = append(embedded, e)
				continue
			}
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		if _, ok := properties[name]; ok {
			continue
		}
		schema := s.of(f.Type)
		rules := strings.Split(options, ",")
		if slices.Contains(rules, "string") {
			schema = object{"type": "string"}
		}
		if slices.Contains(rules, "omitempty") || slices.Contains(rules, "omitzero") {
			schema = present(schema)
		} else {
			required[name] = true
		}
		properties[name] = schema
	}
	for _, e := range embedded {
		s.fields(e, properties, required)
	}
}

// nullable adds null to a schema, and present takes it away.
func nullable(schema object) object {
	switch t := schema["type"].(type) {
	case string:
		schema["type"] = []string{t, "null"}
	case nil:
		if schema["$ref"] != nil {
			return object{"anyOf": []any{schema, object{"type": "null"}}}
		}
	}
	return schema
}

func present(schema object) object {
	if types, ok := schema["type"].([]string); ok {
		schema["type"] = types[0]
	}
	if either, ok := schema["anyOf"].([]any); ok {
		return either[0].(object)
	}
	return schema
}
