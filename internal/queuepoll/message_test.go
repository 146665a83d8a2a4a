package queuepoll

import (
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/rawjson/rawjsontest"
)

func TestParse_PassesJSONByteForByte(t *testing.T) {
	t.Parallel()
	for _, value := range rawjsontest.Corpus() {
		task, err := parse(`{"task_id":"caf\udce9","data": ` + value + ` }`)
		if err != nil || string(task.Data) != value || task.ID != "caf\xed\xb3\xa9" {
			t.Errorf("%.100s: %q, %.100s, error %v", value, task.ID, task.Data, err)
		}
	}
	for _, body := range []string{
		"{\"task_id\":\"a\",\"data\":\"\xff\"}", "{\"task_id\":\"\xed\xb3\xa9\",\"data\":1}", `{"task_id":"a","data":"\ud"}`, `{"task_id":"a","data":NaN}`,
	} {
		if task, err := parse(body); err == nil {
			t.Errorf("%q passes for a task: %+v", body, task)
		}
	}
}

func TestParse_TaskIDs(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"task_id":"a","data":1}`:                      "a",
		`{"task_id":5,"data":1}`:                        "5",
		`{"task_id":-5,"data":1}`:                       "-5",
		`{"task_id":0,"data":1}`:                        "0",
		`{"task_id":123456789012345678901234,"data":1}`: "123456789012345678901234",
	} {
		if task, err := parse(body); err != nil || task.ID != want {
			t.Errorf("%s: %q, %v", body, task.ID, err)
		}
	}
	for body, want := range map[string]string{
		`{"task_id":5.0,"data":1}`:  "5.0: it must be a string or an integer",
		`{"task_id":1e3,"data":1}`:  "1e3: it must be a string or an integer",
		`{"task_id":true,"data":1}`: "it must be a string or an integer",
		`{"task_id":[],"data":1}`:   "it must be a string or an integer",
		`{"task_id":NaN,"data":1}`:  "the message is not a task",
		`{"task_id":1,"data":NaN}`:  "the message is not a task",
	} {
		if _, err := parse(body); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}
