package poll

import (
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
