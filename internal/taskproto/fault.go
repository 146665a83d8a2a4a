package taskproto

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// fieldTypes has the types of the fields in objects that a task writes, for error messages.
var fieldTypes = map[string]string{
	"task_id": "a string", "retry": "true or false", "exception": "a string", "returned": "true or false", "warning": "a string",
	"ready": "an object", "version": "an integer", "ahead": "true or false", "sdk": "a string", "ring": "true or false",
}

var kindNames = map[jsontext.Kind]string{
	'n': "null", 'f': "false", 't': "true", '"': "a string", '0': "a number", '{': "an object", '[': "an array",
}

// ObjectFault returns why text cannot be decoded into object, a pointer to a struct. It names
// the field and the type that the field must have, if that is the reason.
func ObjectFault(text []byte, object any) string {
	if !utf8.Valid(text) {
		return "it is not UTF-8"
	}
	err := Unmarshal(text, object)
	fault, ok := errors.AsType[*json.SemanticError](err)
	switch {
	case err == nil: // package json decodes null into any struct
		return "it is not an object"
	case !ok:
		return "it is not valid JSON: " + strings.TrimPrefix(err.Error(), "jsontext: ")
	case fault.JSONPointer == "":
		return fmt.Sprintf("it is %s, not an object", kindNames[fault.JSONKind])
	}
	field := fault.JSONPointer.LastToken()
	return fmt.Sprintf("%q is %s; it must be %s", field, kindNames[fault.JSONKind], fieldTypes[strings.ToLower(field)])
}

// Unmarshal decodes a JSON object. Names of members match in any case, and of repeated members the
// last one counts, as with encoding/json.
func Unmarshal(text []byte, object any) error {
	return json.Unmarshal(text, object, rawjson.Options(), json.MatchCaseInsensitiveNames(true))
}
