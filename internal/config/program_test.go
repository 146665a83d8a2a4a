package config_test

import (
	"encoding/json"
	"testing"
)

// The attributes that the specification's own system has, besides its page.
func TestWorkerData_DerivedAttributes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name      string
		args      []string
		queue     any
		keepalive float64
		memory    any
	}{
		{"defaults with a file", []string{"--task-file=t.json"}, nil, 60, nil},
		{"a queue", []string{"--provider=AWS", "--job-id=j", "--keepalive-interval=2.5", "--max-memory-allowed-per-task=0.5"}, "j-events", 2.5, 0.5},
		{"a FIFO queue", []string{"--provider=AWS", "--queue-name=q.fifo", "--keepalive-interval=0"}, "q-events", 0, nil},
		{"no event queue", []string{"--provider=AWS", "--job-id=j", "--no-event-log-to-queue", "--event-log-to-file"}, nil, 60, nil},
	} {
		cfg, err := given{args: tc.args}.load(t)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		var got map[string]any
		if err := json.Unmarshal(cfg.WorkerData(), &got); err != nil {
			t.Fatal(err)
		}
		if got["event_log_queue_name"] != tc.queue || got["keepalive_interval"] != tc.keepalive || got["max_memory_allowed_per_task"] != tc.memory {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
