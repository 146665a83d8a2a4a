package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/rawjson/rawjsontest"
)

func TestParseTask(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		line              string
		plain             bool
		id, quoted, value string
		attempt           int
	}{
		{`{"task_id":"a-1","attempt":2,"data":{"x":[1,2,{"y":"}"}]}}`, true, "a-1", `"a-1"`, `{"x":[1,2,{"y":"}"}]}`, 2},
		{`{"task_id":"a","attempt":1,"data":"x\\\"}"}`, true, "a", `"a"`, `"x\\\"}"`, 1},
		{`{"task_id":"a","attempt":1,"data":"\\"}`, true, "a", `"a"`, `"\\"`, 1},
		{`{"task_id":"a","attempt":1,"data":""}`, true, "a", `"a"`, `""`, 1},
		{`{"task_id":"a","attempt":1,"data":-1.50e+999}`, true, "a", `"a"`, `-1.50e+999`, 1},
		{`{"task_id":"a","attempt":1,"data":null}`, true, "a", `"a"`, `null`, 1},
		{`{"task_id":"a","attempt":1,"data": [ ] }`, false, "a", `"a"`, `[ ]`, 1},
		{`{"task_id":"a","attempt":1,"data":[1],"x":[2]}`, false, "a", `"a"`, `[1]`, 1},
		{`{"task_id":"a","attempt":1,"data":1,"x":2}`, false, "a", `"a"`, `1`, 1},
		{`{"task_id":"a","attempt":1,"data":"b","x":"c"}`, false, "a", `"a"`, `"b"`, 1},
		{`{"task_id":"é","attempt":1,"data":1}`, false, "é", `"é"`, `1`, 1},
		{`{"task_id":"\u0061","attempt":1,"data":1}`, false, "a", `"a"`, `1`, 1},
		{`{"attempt":1,"task_id":"a","data":1}`, false, "a", `"a"`, `1`, 1},
		{`{"task_id":"a"}`, false, "a", `"a"`, `null`, 1},
	} {
		got, err := parseTask([]byte(tc.line))
		if err != nil || string(got.id) != tc.id || string(got.quoted) != tc.quoted || string(got.data) != tc.value || got.attempt != tc.attempt {
			t.Errorf("%s: got %q %s %s %d %v", tc.line, got.id, got.quoted, got.data, got.attempt, err)
		}
		if _, plain := parsePlainTask([]byte(tc.line)); plain != tc.plain {
			t.Errorf("%s: parsed by parsePlainTask: %v", tc.line, plain)
		}
	}
	for _, value := range rawjsontest.Corpus() {
		for _, id := range []string{`"a"`, `"caf\udce9"`} {
			got, err := parseTask([]byte(`{"task_id":` + id + `,"attempt":3,"data":` + value + `}`))
			if err != nil || string(got.data) != value || string(got.quoted) != id || string(got.id) != rawjson.Unquote([]byte(id)) || got.attempt != 3 {
				t.Errorf("%s, %.40s: got %q %s %.40s %v", id, value, got.id, got.quoted, got.data, err)
			}
		}
	}
	if _, err := parseTask([]byte(`{"later":1}`)); !errors.Is(err, errNotATask) {
		t.Errorf("a line that is not a task: error %v, want errNotATask", err)
	}
	for _, line := range []string{``, `{`, `{"task_id":1}`, `[]`, `{"task_id":"a","attempt":1,"data":}`} {
		if _, err := parseTask([]byte(line)); err == nil || errors.Is(err, errNotATask) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// For every valid line that parsePlainTask accepts, it returns the same as encoding/json.
func FuzzParsePlainTask(f *testing.F) {
	for _, data := range []string{`1`, `"x"`, `{"a":"\\\""}`, `[[],{}]`, `1,"data":2`, `{},"x":{}`, ` "a" `} {
		f.Add("id", 1, data)
	}
	f.Fuzz(func(t *testing.T, id string, attempt int, data string) {
		quoted, err := json.Marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf(`{"task_id":%s,"attempt":%d,"data":%s}`, quoted, attempt, data)
		if !json.Valid([]byte(line)) || strings.Contains(data, "task_id") {
			return
		}
		got, plain := parsePlainTask([]byte(line))
		if !plain {
			return
		}
		var want struct {
			ID      string          `json:"task_id"`
			Attempt int             `json:"attempt"`
			Data    json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal([]byte(line), &want); err != nil {
			t.Fatal(err)
		}
		if string(got.id) != want.ID || got.attempt != want.Attempt || strings.TrimSpace(string(got.data)) != string(want.Data) {
			t.Errorf("%s: got %q %d %s", line, got.id, got.attempt, got.data)
		}
	})
}

// An exception never exceeds the maximum length of a line.
func TestExceptionJSON_Truncates(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("x", 10<<20), strings.Repeat("\x01", 1<<20), strings.Repeat("é", 1<<20), "\xff"} {
		b := exceptionJSON(truncated(text), 100)
		if len(b) > maxText/2+200 || !json.Valid(b) {
			t.Errorf("%q… takes %d bytes", text[:1], len(b))
		}
	}
	deep := errors.New("x")
	for range 1000 {
		deep = fmt.Errorf("%w", deep)
	}
	if lines := strings.Count(errorText(deep), "\n"); lines > maxChain {
		t.Errorf("%d lines, want at most %d", lines, maxChain)
	}
}
