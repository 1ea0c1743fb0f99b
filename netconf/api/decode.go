package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// decode reads the body into a struct. It is strict: one object, known fields in their exact spelling, no nulls, nothing
// behind it. encoding/json alone takes other spellings and repetitions, and drops nulls silently.
func (c *call) decode(into any) error {
	media, params, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || media != contentJSON || !strings.EqualFold(params["charset"], "utf-8") && params["charset"] != "" {
		return failf(CodeMediaType, "send the body as Content-Type: application/json")
	}
	raw, err := readBody(c.w, c.Request)
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return badJSON(err)
	}
	if name, ok := givenTwice(raw); ok {
		return failf(CodeInvalid, "field %s is given twice", clip(name))
	}
	known := jsonFields(reflect.TypeOf(into).Elem())
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		switch {
		case !slices.Contains(known, name):
			return failf(CodeInvalid, "field %q isn't known; this takes %s", clip(name), strings.Join(known, ", "))
		case bytes.Equal(fields[name], []byte("null")):
			return failf(CodeInvalid, "field %s is null; leave it out, or give it a value", name)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields() // in nested objects
	if err := dec.Decode(into); err != nil {
		return badJSON(err)
	}
	return nil
}

// givenTwice finds a field that an object has more than once: what was meant can't be known. The object is JSON.
func givenTwice(raw []byte) (name string, found bool) {
	seen := make(map[string]bool)
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil { // {
		return "", false
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return "", false
		}
		name, _ := key.(string)
		if seen[name] {
			return name, true
		}
		seen[name] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return "", false
		}
	}
	return "", false
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return nil, failf(CodeTooLarge, "the body is larger than %d bytes", maxBody)
		}
		return nil, failf(CodeInvalid, "the body broke off")
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, failf(CodeInvalid, "the body is empty; send one JSON object")
	}
	return raw, nil
}

// noBody refuses a body where none is looked at.
func (c *call) noBody() error {
	var one [1]byte
	if n, _ := io.ReadFull(c.Body, one[:]); n > 0 {
		return failf(CodeInvalid, "this request takes no body")
	}
	return nil
}

func badJSON(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return failf(CodeInvalid, "field %s: it is a %s, but has to be %s", clip(wrong.Field), wrong.Value, jsonKind(wrong.Type))
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return failf(CodeInvalid, "the body isn't JSON: %s", err)
	}
	if err != nil {
		text := strings.TrimPrefix(err.Error(), "json: ")
		if name, unknown := strings.CutPrefix(text, "unknown field "); unknown {
			return failf(CodeInvalid, "field %s isn't known", clip(name))
		}
		if _, wrong := errors.AsType[*json.UnmarshalTypeError](err); !wrong {
			return failf(CodeInvalid, "%s", text)
		}
	}
	return failf(CodeInvalid, "the body has to be one JSON object")
}

// jsonFields lists the names of a struct's fields in JSON.
func jsonFields(t reflect.Type) []string {
	var names []string
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// jsonKind says what JSON has to hold for a Go type.
func jsonKind(t reflect.Type) string {
	if t == reflect.TypeFor[Duration]() {
		return "a duration such as 25ms, as text"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "text"
}
