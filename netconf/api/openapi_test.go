package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

var update = flag.Bool("update", false, "write openapi.json anew from the routes and the types")

type object = map[string]any

// describeAPI makes the description from the route table and the types.
func describeAPI() object {
	b := &describer{schemas: object{
		"Error": object{
			"type": "object", "required": []string{"error"},
			"properties": object{"error": object{
				"type": "object", "required": []string{"code", "message"},
				"properties": object{
					"code": object{"type": "string", "enum": []Code{
						CodeInvalid, CodeUnauthorized, CodeForbidden, CodeNotFound, CodeMethodNotAllowed, CodeExists, CodeConflict,
						CodeRevision, CodeTooLarge, CodeMediaType, CodeTooMany, CodeInternal, CodeUnavailable,
					}},
					"message": object{"type": "string", "description": "for people; says what to do next"},
				},
			}},
		},
	}}
	paths := object{}
	for _, r := range routes() {
		item, ok := paths[r.path].(object)
		if !ok {
			item = object{}
			paths[r.path] = item
		}
		item[strings.ToLower(r.method)] = b.operation(r)
	}
	return object{
		"openapi": "3.0.3",
		"info": object{
			"title": "respmesh control API", "version": "1",
			"description": "Orgs, databases, nodes and peers of a mesh. Bodies are JSON objects of at most 1 MiB; unknown fields are refused. " +
				"Changes take If-Match with the revision that they are for: the ETag of the org, database, user or peer; " +
				"for all else the one of a list, which is the whole state's.",
		},
		"paths": paths,
		"components": object{
			"schemas": b.schemas,
			"securitySchemes": object{"token": object{
				"type": "http", "scheme": "bearer", "description": "rm_id.secret; scopes are admin, org, read-only and node",
			}},
		},
	}
}

type describer struct{ schemas object }

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

var accessDocs = map[access]string{
	accessPublic:  "Needs no token.",
	accessAny:     "Scopes: admin, org, read-only; also the mesh's nodes.",
	accessRead:    "Scopes: admin; read-only, and org for its own.",
	accessWrite:   "Scopes: admin; org for its own.",
	accessReadAll: "Scopes: admin; read-only unless it is about one org.",
	accessTokens:  "Scopes: admin; org for its own.",
	accessAdmin:   "Scope: admin.",
	accessNode:    "The mesh's nodes, by their address; scope: admin.",
}

func ifMatchDoc(r route) string {
	whose := map[subject]string{ofState: "the whole state", ofOrg: "the org", ofDatabase: "the database", ofUser: "the user", ofPeer: "the peer"}[r.of]
	return "the revision of " + whose + " that the change is for, in quotes, as an ETag had it; another one is answered with 412"
}

func (b *describer) operation(r route) object {
	params := []object{}
	for _, m := range pathParam.FindAllStringSubmatch(r.path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range r.query {
		schema := object{"type": q.kind}
		if q.kind == "integer" {
			schema["minimum"] = 1
		}
		params = append(params, object{"name": q.name, "in": "query", "description": q.doc, "schema": schema})
	}
	changes := r.method != http.MethodGet && (r.access == accessWrite || r.access == accessAdmin || r.access == accessTokens)
	if changes {
		params = append(params, object{
			"name": "If-Match", "in": "header", "description": ifMatchDoc(r),
			"schema": object{"type": "string", "pattern": `^"[0-9]+"$`},
		})
	}
	good := object{"description": "done"}
	switch {
	case r.upgrade:
		good["description"] = "the connection is the stream"
	case r.stream:
		good["content"] = object{"application/octet-stream": object{"schema": object{"type": "string", "format": "binary"}}}
	case r.out != nil:
		good["content"] = object{contentJSON: object{"schema": b.schema(reflect.TypeOf(r.out), "")}}
	}
	if r.method == http.MethodGet && !r.upgrade || changes {
		good["headers"] = object{"ETag": object{"description": "the revision, in quotes", "schema": object{"type": "string"}}}
	}
	name := runtime.FuncForPC(reflect.ValueOf(r.handle).Pointer()).Name()
	op := object{
		"operationId": name[strings.LastIndexByte(name, '.')+1:],
		"summary":     r.doc,
		"description": accessDocs[r.access],
		"parameters":  params,
		"responses": object{
			strconv.Itoa(r.status()): good,
			"default":                object{"description": "it failed", "content": object{contentJSON: object{"schema": ref("Error")}}},
		},
		"security": []object{},
	}
	if r.access != accessPublic {
		op["security"] = []object{{"token": []string{}}}
	}
	if r.in != nil {
		op["requestBody"] = object{"required": true, "content": object{contentJSON: object{"schema": b.schema(reflect.TypeOf(r.in), "")}}}
	}
	return op
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// schema describes a type; tag is that of the field that has it.
func (b *describer) schema(t reflect.Type, tag reflect.StructTag) object {
	s := b.plain(t)
	if enum := tag.Get("enum"); enum != "" {
		s["enum"] = strings.Split(enum, ",")
	}
	if doc := tag.Get("doc"); doc != "" {
		if _, isRef := s["$ref"]; isRef {
			s = object{"allOf": []object{s}}
		}
		s["description"] = doc
	}
	return s
}

func (b *describer) plain(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[Duration]():
		return object{"type": "string", "pattern": `^(0|([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$`, "example": "25ms"}
	case reflect.TypeFor[json.RawMessage](), reflect.TypeFor[anyObject]():
		return object{"type": "object"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return b.plain(t.Elem())
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice:
		return object{"type": "array", "items": b.plain(t.Elem())}
	case reflect.Struct:
		return b.structure(t)
	}
	panic("no schema for " + t.String())
}

func (b *describer) structure(t reflect.Type) object {
	if _, known := b.schemas[t.Name()]; !known {
		s := object{"type": "object"}
		b.schemas[t.Name()] = s
		required, properties := []string{}, object{}
		for f := range t.Fields() {
			name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			properties[name] = b.schema(f.Type, f.Tag)
			if options == "" {
				required = append(required, name)
			}
		}
		s["properties"] = properties
		if len(required) > 0 {
			s["required"] = required
		}
		if strings.HasSuffix(t.Name(), "Request") || strings.HasSuffix(t.Name(), "Patch") || t.Name() == "Engine" {
			s["additionalProperties"] = false
		}
	}
	return ref(t.Name())
}

func TestOpenAPIIsCurrent(t *testing.T) {
	want, err := json.MarshalIndent(describeAPI(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(want, openAPI) {
		t.Fatal("openapi.json isn't what the routes and types say; run go test ./netconf/api -run OpenAPIIsCurrent -update")
	}
}

// Every route is described and every described route exists.
func TestOpenAPIRoutes(t *testing.T) {
	doc := loadOpenAPI(t)
	described := map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	s, err := NewServer(Options{Control: newMesh(t).control})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes() {
		key := r.method + " " + r.path
		if !described[key] {
			t.Errorf("%s isn't described", key)
		}
		delete(described, key)
		req := httptest.NewRequest(r.method, pathParam.ReplaceAllString(r.path, "x"), nil)
		if _, pattern := s.mux.Handler(req); pattern != key {
			t.Errorf("%s is served by %q", key, pattern)
		}
	}
	for key := range described {
		t.Errorf("%s is described, but isn't there", key)
	}
}

func loadOpenAPI(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// held holds every request and answer that passes a handler against the description.
type held struct {
	t      *testing.T
	router routers.Router

	mu sync.Mutex
	ok map[string]bool // operations that succeeded
}

func newHeld(t *testing.T) *held {
	t.Helper()
	router, err := gorillamux.NewRouter(loadOpenAPI(t))
	if err != nil {
		t.Fatal(err)
	}
	return &held{t: t, router: router, ok: map[string]bool{}}
}

func (h *held) wrap(next http.Handler) http.Handler {
	if h == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			h.t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		h.check(r, body, rec)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}

func (h *held) check(r *http.Request, body []byte, rec *httptest.ResponseRecorder) {
	what := r.Method + " " + r.URL.Path
	found, params, err := h.router.FindRoute(r)
	if err != nil {
		if rec.Code != http.StatusNotFound && rec.Code != http.StatusMethodNotAllowed {
			h.t.Errorf("%s: answered %d, but %v", what, rec.Code, err)
		}
		return
	}
	copied := r.Clone(r.Context())
	copied.Body = io.NopCloser(bytes.NewReader(body))
	in := &openapi3filter.RequestValidationInput{
		Request: copied, PathParams: params, Route: found,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
	good := rec.Code/100 == 2
	if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil && good {
		h.t.Errorf("%s: it was done, but the description doesn't allow it: %v", what, err)
	}
	err = openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: rec.Code, Header: rec.Header(), Body: io.NopCloser(bytes.NewReader(rec.Body.Bytes())), Options: in.Options,
	})
	if err != nil {
		h.t.Errorf("%s: the answer (%d %s) isn't as described: %v", what, rec.Code, rec.Body, err)
	}
	if good {
		h.mu.Lock()
		h.ok[r.Method+" "+found.Path] = true
		h.mu.Unlock()
	}
}
