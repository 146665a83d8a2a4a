package config

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/taskproto"
)

// Attribute is an attribute of the worker data, as taskproto.WorkerData declares it.
type Attribute struct {
	Name    string
	Setting string // the name of the setting with its value, or empty
	doc     string
	def     string // the value in a WorkerData that a Python program creates; empty for the zero value
	kind    reflect.Type
}

// Attributes returns the attributes of the worker data. It panics if the setting of an attribute does
// not exist.
func Attributes() []Attribute {
	known := aliases()
	var all []Attribute
	fields := reflect.TypeFor[taskproto.WorkerData]()
	for i := range fields.NumField() {
		tag := fields.Field(i).Tag
		a := Attribute{Name: tag.Get("json"), doc: tag.Get("doc"), def: tag.Get("default"), kind: fields.Field(i).Type}
		switch name := tag.Get("setting"); name {
		case "-":
		case "":
			a.Setting = strings.ReplaceAll(a.Name, "_", "-")
		default:
			a.Setting = name
		}
		if a.Setting != "" {
			s, ok := known[a.Setting]
			if !ok {
				panic("attribute " + a.Name + ": there is no setting " + a.Setting)
			}
			if a.def == "" && s.setting.def != "" {
				a.def = a.python(s.setting.def)
			}
		}
		all = append(all, a)
	}
	return all
}

// attributeOf returns the name of the attribute with the value of a setting, or "" if there is none.
func attributeOf(setting string) string {
	for _, a := range Attributes() {
		if a.Setting == setting {
			return a.Name
		}
	}
	return ""
}

// isFloat reports whether the attribute is a float in Python even if its value is whole.
func (a Attribute) isFloat() bool {
	t := a.required()
	return t.Kind() == reflect.Float64 || t == reflect.TypeFor[taskproto.FloatSeconds]()
}

// required returns the type of the attribute if its value is not null.
func (a Attribute) required() reflect.Type {
	if a.kind.Kind() == reflect.Pointer {
		return a.kind.Elem()
	}
	return a.kind
}

// types returns the Python type and the JSON type of the attribute, without null.
func (a Attribute) types() (python, json string) {
	switch t := a.required(); t {
	case reflect.TypeFor[taskproto.Seconds](), reflect.TypeFor[taskproto.FloatSeconds]():
		return "float", "number of seconds"
	default:
		switch t.Kind() {
		case reflect.String:
			return "str", "string"
		case reflect.Bool:
			return "bool", "boolean"
		case reflect.Int, reflect.Int64:
			return "int", "integer"
		case reflect.Float64:
			return "float", "number"
		}
	}
	panic("attribute " + a.Name + ": taskproto.WorkerData declares an unknown type: " + a.kind.String())
}

// python returns the default of a setting as Python code.
func (a Attribute) python(text string) string {
	kind, _ := a.types()
	switch {
	case kind == "str":
		return fmt.Sprintf("%q", text)
	case kind == "bool":
		return pythonBool(text == "true")
	case a.isFloat() && !strings.Contains(text, "."):
		return text + ".0"
	}
	return text
}

// zero returns the zero value of the attribute as Python code.
func (a Attribute) zero() string {
	if a.isNullable() {
		return "None"
	}
	switch kind, _ := a.types(); kind {
	case "str":
		return `""`
	case "bool":
		return "False"
	}
	return a.python("0")
}

func (a Attribute) isNullable() bool { return a.kind.Kind() == reflect.Pointer }

// The attributes of WorkerData in the Python package are generated from taskproto.WorkerData, and must be
// up to date.
func TestSettingsOfPythonWorkerData(t *testing.T) {
	t.Parallel()
	upToDate(t, "../../sdk/python/src/ctworker/_worker_settings.py", workerSettingsOfPython())
}

const workerSettingsHead = `"""The attributes of WorkerData that are settings of the worker.

Written by "go test ./internal/config -run Settings -update"; do not edit.
"""

from __future__ import annotations


class WorkerSettings:
    """The settings of the worker, with the values of a WorkerData that a test creates."""

`

func workerSettingsOfPython() []byte {
	var b bytes.Buffer
	var floats []string
	b.WriteString(workerSettingsHead)
	for _, a := range Attributes() {
		kind, _ := a.types()
		if a.isNullable() {
			kind += " | None"
		}
		value := a.def
		if value == "" {
			value = a.zero()
		}
		fmt.Fprintf(&b, "    %s: %s = %s\n", a.Name, kind, value)
		if a.doc != "" {
			fmt.Fprintf(&b, "    \"\"\"%s\"\"\"\n", a.doc)
		}
		if a.isFloat() {
			floats = append(floats, a.Name)
		}
	}
	fmt.Fprintf(&b, "\n\nFLOATS = frozenset(\n    (\n        \"%s\",\n    )\n)\n", strings.Join(floats, "\",\n        \""))
	b.WriteString("\"\"\"The attributes that are of type float in rms-cloud-tasks, even if the value is whole.\"\"\"\n")
	return b.Bytes()
}

const workerDataColumns = "| field of `worker` | type | setting | |\n|---|---|---|---|"

// The table of the worker data in docs/protocol.md is generated from taskproto.WorkerData, and must be up
// to date.
func TestSettingsOfProtocolDoc(t *testing.T) {
	t.Parallel()
	const path = "../../docs/protocol.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), workerDataColumns)
	if !ok {
		t.Fatalf("%s has no table that starts with\n%s", path, workerDataColumns)
	}
	_, after, ok := strings.Cut(rest, "\n\n")
	if !ok {
		t.Fatalf("%s has no text after the table of the worker data", path)
	}
	upToDate(t, path, []byte(before+workerDataColumns+workerDataRows()+"\n\n"+after))
}

func workerDataRows() string {
	var b strings.Builder
	for _, a := range Attributes() {
		_, kind := a.types()
		if a.isNullable() {
			kind += " or null"
		}
		flag := ""
		if a.Setting != "" {
			flag = "`" + flagged(a.Setting) + "`"
		}
		fmt.Fprintf(&b, "\n| `%s` | %s | %s | %s |", a.Name, kind, flag, a.doc)
	}
	return b.String()
}
