package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/taskproto"
)

// The attributes of the Python package's WorkerData are generated from ours, and are up to date.
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
	fields := reflect.TypeFor[taskproto.WorkerData]()
	for i := range fields.NumField() {
		f := fields.Field(i)
		name := f.Tag.Get("json")
		kind, value, isFloat := pythonType(f.Type)
		if text, ok := f.Tag.Lookup("default"); ok {
			value = text
		}
		fmt.Fprintf(&b, "    %s: %s = %s\n", name, kind, value)
		if doc := f.Tag.Get("doc"); doc != "" {
			fmt.Fprintf(&b, "    \"\"\"%s\"\"\"\n", doc)
		}
		if isFloat {
			floats = append(floats, name)
		}
	}
	fmt.Fprintf(&b, "\n\nFLOATS = frozenset(\n    (\n        \"%s\",\n    )\n)\n", strings.Join(floats, "\",\n        \""))
	b.WriteString("\"\"\"The attributes that are of type float in rms-cloud-tasks, even if the value is whole.\"\"\"\n")
	return b.Bytes()
}

// pythonType returns the Python type of an attribute, its default value, and whether it is always a
// float.
func pythonType(t reflect.Type) (kind, value string, isFloat bool) {
	switch t {
	case reflect.TypeFor[taskproto.Seconds]():
		return "float", "0", false
	case reflect.TypeFor[taskproto.FloatSeconds]():
		return "float", "0.0", true
	}
	switch t.Kind() {
	case reflect.Pointer:
		kind, _, isFloat = pythonType(t.Elem())
		return kind + " | None", "None", isFloat
	case reflect.Bool:
		return "bool", "False", false
	case reflect.Int, reflect.Int64:
		return "int", "0", false
	case reflect.Float64:
		return "float", "0.0", true
	}
	return "str", `""`, false
}
