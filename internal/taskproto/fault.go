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

// fieldTypes maps each field of the messages of a worker process to the name of its type in error
// messages.
var fieldTypes = map[string]string{
	"task_id": "a string", "retry": "true or false", "exception": "a string", "returned": "true or false", "warning": "a string",
	"ready": "an object", "version": "an integer", "ahead": "true or false", "sdk": "a string", "ring": "true or false",
}

var kindNames = map[jsontext.Kind]string{
	'n': "null", 'f': "false", 't': "true", '"': "a string", '0': "a number", '{': "an object", '[': "an array",
}

// ObjectFault returns why text cannot be decoded into object, a pointer to a struct. If a field has
// the wrong type, the text contains the name of the field and its required type.
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

// Unmarshal decodes a JSON object. As with encoding/json, upper and lower case in the names of
// members are equivalent, and if a name is repeated, the last member is used.
func Unmarshal(text []byte, object any) error {
	return json.Unmarshal(text, object, rawjson.Options(), json.MatchCaseInsensitiveNames(true))
}
