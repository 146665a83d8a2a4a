package procexec

import (
	"testing"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/rawjson/rawjsontest"
)

func TestParseReply_PassesJSONByteForByte(t *testing.T) {
	t.Parallel()
	for _, value := range rawjsontest.Corpus() {
		for _, id := range []string{`"a"`, `"caf\udce9"`} {
			for _, retry := range []string{"false", "true"} {
				r, err := parseReply([]byte(`{"task_id":`+id+`,"retry":`+retry+`,"result":`+value+`}`), "a")
				if err != nil || string(r.result) != value || r.id != rawjson.Unquote([]byte(id)) || r.retry != (retry == "true") {
					t.Errorf("%s, %.40s: %q %.40s %v", id, value, r.id, r.result, err)
				}
			}
		}
		if got, want := string(appendTask(nil, Task{ID: "caf\xed\xb3\xa9", Attempt: 1, Data: []byte(value)})), `{"task_id":"caf\udce9","attempt":1,"data":`+value+"}\n"; got != want {
			t.Errorf("the task is %.100s, want %.100s", got, want)
		}
	}
	r, err := parseReply([]byte(`{"task_id":"a","exception":"caf\udce9"}`), "a")
	if err != nil || !r.failed || r.text != "caf\xed\xb3\xa9" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := parseReply([]byte("{\"task_id\":\"a\",\"result\":\"\xff\"}"), "a"); err == nil {
		t.Error("a reply that is not UTF-8 passes")
	}
}
