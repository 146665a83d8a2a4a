package eventsize_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/eventsize"
	"github.com/ctworker/ctworker/pipeline"
)

func limit(bytes int) eventsize.Encoder {
	return eventsize.Encoder{Queue: "jobs-events", MaxBytes: bytes, Render: func(e *pipeline.Event) string { return string(e.AppendJSON(nil)) }}
}

func completed(id string, result any) pipeline.Event {
	b, _ := json.Marshal(result)
	return pipeline.Event{
		Time: time.Unix(1, 0), Hostname: "h", Type: pipeline.TaskCompleted, TaskID: id, Attempt: 2,
		Outcome: pipeline.Outcome{Kind: pipeline.Completed, Result: b},
	}
}

// An event that fits is encoded unchanged. In an event that is too large, the longest text is
// truncated and marked as truncated.
func TestMessages(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 5000)
	for name, tc := range map[string]struct {
		result any
		cut    bool
	}{
		"short": {"done", false}, "a long text": {long, true}, "a large object": {map[string]string{"text": long}, true},
	} {
		all, err := limit(1000).Encode(completed("a", tc.result))
		if err != nil || len(all) != 1 || len(all[0].Body) > 1000 {
			t.Fatalf("%s: %d messages, %v", name, len(all), err)
		}
		var e map[string]any
		if err := json.Unmarshal([]byte(all[0].Body), &e); err != nil || (e["result_truncated"] == true) != tc.cut {
			t.Errorf("%s: %s, %v", name, all[0].Body, err)
		}
		if all[0].Key != "a 2 task_completed" {
			t.Errorf("%s: key %q", name, all[0].Key)
		}
	}
}

// A malformed message that does not fit in one event is split into parts with different keys.
func TestParts(t *testing.T) {
	t.Parallel()
	message := strings.Repeat("0123456789", 500)
	all, err := limit(1000).Encode(pipeline.NewMalformedEvent(message, errors.New("no task"), "h", time.Unix(1, 0)))
	if err != nil || len(all) < 6 {
		t.Fatalf("%d messages, %v", len(all), err)
	}
	joined, keys := "", map[string]bool{}
	for i, m := range all {
		var e struct {
			Message string
			Part    int `json:"message_part"`
		}
		if err := json.Unmarshal([]byte(m.Body), &e); err != nil || e.Part != i+1 || len(m.Body) > 1000 {
			t.Errorf("part %d: %.200s, %v", i+1, m.Body, err)
		}
		joined += e.Message
		keys[m.Key] = true
	}
	if joined != message || len(keys) != len(all) {
		t.Errorf("%d of %d bytes, %d keys of %d", len(joined), len(message), len(keys), len(all))
	}
}

// If a queue does not accept an event even with all texts truncated, Encode returns an error.
func TestTooSmall(t *testing.T) {
	t.Parallel()
	if _, err := limit(50).Encode(completed("a", "b")); err == nil || !strings.Contains(err.Error(), "jobs-events") {
		t.Errorf("%v", err)
	}
}
