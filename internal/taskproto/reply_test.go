package taskproto

import (
	"reflect"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/rawjson/rawjsontest"
)

func TestParseReply_PassesJSONByteForByte(t *testing.T) {
	t.Parallel()
	for _, value := range rawjsontest.Corpus() {
		for _, id := range []string{`"a"`, `"caf\udce9"`} {
			for _, retry := range []string{"false", "true"} {
				r, err := ParseReply([]byte(`{"task_id":` + id + `,"retry":` + retry + `,"result":` + value + `}`))
				if err != nil || string(r.Result) != value || string(r.ID) != rawjson.Unquote([]byte(id)) || r.Retry != (retry == "true") {
					t.Errorf("%s, %.40s: %q %.40s %v", id, value, r.ID, r.Result, err)
				}
			}
		}
		if got, want := string(AppendTask(nil, "caf\xed\xb3\xa9", 1, []byte(value))), `{"task_id":"caf\udce9","attempt":1,"data":`+value+"}\n"; got != want {
			t.Errorf("task line %.100s, want %.100s", got, want)
		}
	}
	r, err := ParseReply([]byte(`{"task_id":"a","exception":"caf\udce9"}`))
	if err != nil || !r.Failed || r.Exception != "caf\xed\xb3\xa9" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := ParseReply([]byte("{\"task_id\":\"a\",\"result\":\"\xff\"}")); err == nil {
		t.Error("no error for a reply that is not UTF-8")
	}
}

func TestParseReply_NamesTheFault(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`{"task_id":5}`:                        `it is not a reply: "task_id" is a number; it must be a string`,
		`{"task_id":"a","retry":"yes"}`:        `it is not a reply: "retry" is a string; it must be true or false`,
		`{"task_id":"a","exception":["x"]}`:    `it is not a reply: "exception" is an array; it must be a string`,
		`{"task_id":"a","warning":7}`:          `it is not a reply: "warning" is a number; it must be a string`,
		`{"task_id":"a","returned":1}`:         `it is not a reply: "returned" is a number; it must be true or false`,
		`{"ready":true}`:                       `it is not a reply: "ready" is true; it must be an object`,
		`{"ready":{"version":"1"}}`:            `it is not a reply: "version" is a string; it must be an integer`,
		`{"ready":{"version":1,"ahead":null}}`: ``,
		`{"ready":{"version":1,"ring":"yes"}}`: `it is not a reply: "ring" is a string; it must be true or false`,
		`{"task_id":"a","result":tru}`:         `it is not a reply: it is not valid JSON: invalid character`,
		`{"task_id":"a"`:                       `it is not a reply: it is not valid JSON: unexpected EOF`,
		`[]`:                                   `it is not a reply: it is an array, not an object`,
		`done`:                                 `it is not a reply: it is not valid JSON: invalid character 'd'`,
		`{}`:                                   `it has neither "task_id" nor "ready"`,
	} {
		_, err := ParseReply([]byte(line))
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", line, err, want)
		}
	}
}

// Each field of the messages of a worker process must have an entry in fieldTypes.
func TestFieldTypes(t *testing.T) {
	t.Parallel()
	for _, object := range []reflect.Type{reflect.TypeFor[replyLine](), reflect.TypeFor[Ready]()} {
		for i := range object.NumField() {
			if name := object.Field(i).Tag.Get("json"); name != "result" && fieldTypes[name] == "" {
				t.Errorf("field %q of %v has no type", name, object)
			}
		}
	}
}
