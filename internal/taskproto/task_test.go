package taskproto

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
		got, err := ParseTask([]byte(tc.line))
		if err != nil || string(got.ID) != tc.id || string(got.Quoted) != tc.quoted || string(got.Data) != tc.value || got.Attempt != tc.attempt {
			t.Errorf("%s: got %q %s %s %d %v", tc.line, got.ID, got.Quoted, got.Data, got.Attempt, err)
		}
		if _, plain := parsePlainTask([]byte(tc.line)); plain != tc.plain {
			t.Errorf("%s: parsed by parsePlainTask: %v", tc.line, plain)
		}
	}
	for _, value := range rawjsontest.Corpus() {
		for _, id := range []string{`"a"`, `"caf\udce9"`} {
			got, err := ParseTask([]byte(`{"task_id":` + id + `,"attempt":3,"data":` + value + `}`))
			if err != nil || string(got.Data) != value || string(got.Quoted) != id || string(got.ID) != rawjson.Unquote([]byte(id)) || got.Attempt != 3 {
				t.Errorf("%s, %.40s: got %q %s %.40s %v", id, value, got.ID, got.Quoted, got.Data, err)
			}
		}
	}
	if _, err := ParseTask([]byte(`{"later":1}`)); !errors.Is(err, ErrNotATask) {
		t.Errorf("a line that is not a task: error %v, want ErrNotATask", err)
	}
	for _, line := range []string{``, `{`, `{"task_id":1}`, `[]`, `{"task_id":"a","attempt":1,"data":}`} {
		if _, err := ParseTask([]byte(line)); err == nil || errors.Is(err, ErrNotATask) {
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
		if string(got.ID) != want.ID || got.Attempt != want.Attempt || strings.TrimSpace(string(got.Data)) != string(want.Data) {
			t.Errorf("%s: got %q %d %s", line, got.ID, got.Attempt, got.Data)
		}
	})
}
