package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/taubyte/taubyte"
	"github.com/taubyte/taubyte/internal/rpc"
)

// Info is what a document says of the whole API.
type Info struct {
	Title, Version, Text string
	// Token says what bearer token a request shows. "": the program knows in another
	// way who asks.
	Token string
}

// A Mount is where a service is served. Name groups its paths.
type Mount struct {
	Name, Prefix string
	Mux          *Mux
}

// security is the name of the scheme.
const security = "token"

// Document returns the OpenAPI 3.1 description of services.
func Document(info Info, mounts ...Mount) ([]byte, error) {
	d := &document{
		token: info.Token != "",
		paths: map[string]object{},
		schemas: schemas{
			shapes: shapes{}, components: object{}, names: map[string]reflect.Type{},
		},
	}
	codes := append(rpc.Names(nil), CodeNoPath, CodeNoMethod)
	if d.token {
		codes = append(codes, CodeNoToken, CodeManyTokens)
	}
	var tags []any
	for _, m := range mounts {
		codes = append(codes, rpc.Names(m.Mux.codes)...)
		d.schemas.shapes = m.Mux.as
		if m.Name != "" {
			tags = append(tags, object{"name": m.Name})
		}
		for _, p := range m.Mux.paths {
			if err := d.add(m, p); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(codes)
	d.schemas.components["Error"] = object{
		"type": "object", "required": []string{"message"}, "properties": object{
			"code":    object{"type": "string", "enum": slices.Compact(codes), "description": "What kind of error it is, for programs. An error without a code is one of the node."},
			"message": object{"type": "string", "description": "What is wrong, for people."},
		},
	}
	responses := object{}
	for status, e := range d.errors() {
		responses[e.name] = object{
			"description": e.text, "headers": e.headers(status),
			"content": object{rpc.ErrorType: object{"schema": object{"$ref": "#/components/schemas/Error"}}},
		}
	}
	components := object{"schemas": d.schemas.components, "responses": responses}
	if d.token {
		components["securitySchemes"] = object{security: object{"type": "http", "scheme": "bearer", "description": info.Token}}
	}
	about := object{"title": info.Title, "version": info.Version}
	if info.Text != "" {
		about["description"] = info.Text
	}
	whole := object{
		"openapi": "3.1.0", "info": about, "servers": []any{object{"url": "/"}}, "paths": d.paths, "components": components,
	}
	if len(tags) > 0 {
		whole["tags"] = tags
	}
	return json.Marshal(whole)
}

type document struct {
	token   bool
	paths   map[string]object
	schemas schemas
}

// anError is an error's status in words.
type anError struct {
	name, text string
}

func (e anError) headers(status int) object {
	switch status {
	case http.StatusUnauthorized:
		return object{"WWW-Authenticate": object{"schema": object{"type": "string"}}}
	case http.StatusTooManyRequests:
		return object{"Retry-After": object{"description": "seconds", "schema": object{"type": "integer"}}}
	}
	return object{}
}

func (d *document) errors() map[int]anError {
	all := map[int]anError{
		http.StatusBadRequest:            {"Invalid", "The request can't be understood, or asks for what can't be."},
		http.StatusForbidden:             {"Forbidden", "Whoever asks may not."},
		http.StatusNotFound:              {"NotFound", "What is asked for is not there."},
		http.StatusConflict:              {"Conflict", "It stands against what is there."},
		http.StatusRequestEntityTooLarge: {"TooLarge", "It is larger than is taken."},
		http.StatusInternalServerError:   {"Failed", "The node failed."},
		http.StatusServiceUnavailable:    {"Unavailable", "The node, or one that it needs, can't answer now. Try again."},
		http.StatusGatewayTimeout:        {"Late", "It took too long."},
	}
	if d.token {
		all[http.StatusUnauthorized] = anError{"Unauthenticated", "There is no token, or it is not good."}
		all[http.StatusTooManyRequests] = anError{"TooManyAttempts", "Too many wrong tokens from this address."}
	}
	return all
}

func (d *document) add(m Mount, p described) error {
	path, method := m.Prefix+p.path, strings.ToLower(p.method)
	item := d.paths[path]
	if item == nil {
		item = object{}
		d.paths[path] = item
	}
	if item[method] != nil {
		return fmt.Errorf("%w API: %s %s is there twice", taubyte.ErrInvalid, p.method, path)
	}
	text := p.op.Rights.words()
	if p.op.Text != "" {
		text = p.op.Text + "\n\n" + text
	}
	op := object{
		"operationId": operationID(m.Name, p.method, p.path), "summary": p.op.Summary, "description": text,
		"responses": d.responses(p), "x-rights": d.rights(p.op.Rights),
	}
	if m.Name != "" {
		op["tags"] = []string{m.Name}
	}
	if parameters := d.parameters(p); len(parameters) > 0 {
		op["parameters"] = parameters
	}
	if p.end.reads != nil {
		op["requestBody"] = object{"required": true, "content": d.content(*p.end.reads)}
		if p.end.reads.text != "" {
			op["requestBody"].(object)["description"] = p.end.reads.text
		}
	}
	if d.token {
		op["security"] = d.security(p.op.Rights)
	}
	item[method] = op
	return nil
}

// rights are Rights for programs.
func (d *document) rights(r Rights) object {
	out := object{"extent": r.kind}
	if r.verb != "" {
		out["verb"] = string(r.verb)
	}
	if len(r.roles) > 0 {
		out["roles"] = r.roles
	}
	return out
}

func (d *document) security(r Rights) []any {
	switch {
	case r.kind == anybody:
		return []any{}
	case r.verb != "":
		return []any{object{security: []string{string(r.verb)}}}
	}
	return []any{object{security: []string{}}}
}

func (d *document) parameters(p described) []any {
	var all []any
	for _, name := range wildcards.FindAllStringSubmatch(p.path, -1) {
		all = append(all, object{"name": name[1], "in": "path", "required": true, "description": p.op.Path[name[1]], "schema": object{"type": "string"}})
	}
	add := func(where string, parameters []Parameter) {
		for _, one := range parameters {
			schema := object{"type": "string"}
			if one.Type != nil {
				schema = d.schemas.of(reflect.TypeOf(one.Type))
			}
			all = append(all, object{"name": one.Name, "in": where, "required": one.Required, "description": one.Text, "schema": schema})
		}
	}
	add("query", p.op.Query)
	add("header", p.op.Header)
	return all
}

func (d *document) content(c content) object {
	schema := object{}
	switch {
	case c.typ != nil && c.media == mediaJSON && c.status != 0:
		schema = present(d.schemas.of(c.typ)) // see reply
	case c.typ != nil:
		schema = d.schemas.of(c.typ)
	case strings.HasPrefix(c.media, "text/"):
		schema = object{"type": "string"}
	}
	return object{c.media: object{"schema": schema}}
}

func (d *document) responses(p described) object {
	all := object{}
	for _, a := range p.end.answers {
		key := strconv.Itoa(a.status)
		one, there := all[key].(object)
		if !there {
			one = object{"description": "Done."}
			all[key] = one
		}
		if a.text != "" {
			one["description"] = a.text
		}
		if a.media == "" {
			continue
		}
		if one["content"] == nil {
			one["content"] = object{}
		}
		for media, schema := range d.content(a) {
			one["content"].(object)[media] = schema
		}
	}
	errors := d.errors()
	for _, status := range d.statuses(p) {
		if e, ok := errors[status]; ok {
			all[strconv.Itoa(status)] = object{"$ref": "#/components/responses/" + e.name}
		}
	}
	return all
}

// statuses are those of the errors that an operation may give.
func (d *document) statuses(p described) []int {
	all := append([]int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, p.op.Statuses...)
	if p.op.Rights.kind != anybody {
		all = append(all, http.StatusUnauthorized, http.StatusTooManyRequests)
	}
	all = append(all, http.StatusForbidden)
	if p.end.reads != nil || len(p.op.Path) > 0 || len(p.op.Query) > 0 {
		all = append(all, http.StatusBadRequest, http.StatusNotFound)
	}
	if p.end.reads != nil {
		all = append(all, http.StatusRequestEntityTooLarge)
	}
	if p.method != http.MethodGet {
		all = append(all, http.StatusConflict)
	}
	return all
}

// operationID is one word of all that a path has.
func operationID(service, method, path string) string {
	out := []byte(service)
	for _, word := range append([]string{strings.ToLower(method)}, strings.FieldsFunc(path, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})...) {
		if len(out) > 0 {
			word = strings.ToUpper(word[:1]) + word[1:]
		}
		out = append(out, word...)
	}
	return string(out)
}
