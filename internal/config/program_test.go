package config_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/config"
)

// Each attribute of the worker data has the value of its setting, and is null if a setting without a
// default is not set.
func TestWorkerData_HasValuesOfSettings(t *testing.T) {
	t.Parallel()
	unset := workerData(t, given{source: true}.must(t))
	for _, a := range config.Attributes() {
		if _, ok := unset[a.Name]; !ok {
			t.Errorf("%s is missing", a.Name)
		}
		if a.Setting == "" {
			continue
		}
		i := slices.IndexFunc(every, func(k known) bool { return k.flag == a.Setting })
		k := every[i]
		if want := inJSON(k.def, a.Name); unset[a.Name] != want {
			t.Errorf("%s is %v, want the default %v", a.Name, unset[a.Name], want)
		}
		g := k.setup()
		k.give(&g, config.CommandLine, k.raw[0])
		if got, want := workerData(t, g.must(t))[a.Name], inJSON(k.want[0], a.Name); got != want {
			t.Errorf("with --%s=%s, %s is %v, want %v", k.flag, k.raw[0], a.Name, got, want)
		}
	}
	cfg := given{source: true}.must(t)
	cfg.InstanceID, cfg.Zone = "i-1", "us-east-1a"
	if got := workerData(t, cfg); got["instance_id"] != "i-1" || got["zone"] != "us-east-1a" {
		t.Errorf("the machine is %v in zone %v", got["instance_id"], got["zone"])
	}
}

// workerData returns the decoded worker data.
func workerData(t *testing.T, cfg *config.Config) map[string]any {
	t.Helper()
	var data map[string]any
	if err := json.Unmarshal(cfg.WorkerData(), &data); err != nil {
		t.Fatal(err)
	}
	return data
}

// inJSON returns the value of a field of Config as the decoded JSON of an attribute.
func inJSON(value any, attribute string) any {
	switch v := value.(type) {
	case time.Duration:
		return v.Seconds()
	case int:
		return float64(v)
	case int64:
		if attribute != "max_memory_allowed_per_task" {
			return float64(v)
		}
		if v == 0 {
			return nil
		}
		return float64(v) / (1 << 30)
	case string:
		if v == "" {
			return nil
		}
	}
	return value
}

// The worker data also has attributes that rms-cloud-tasks has, but the specification does not list.
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
		got := workerData(t, cfg)
		if got["event_log_queue_name"] != tc.queue || got["keepalive_interval"] != tc.keepalive || got["max_memory_allowed_per_task"] != tc.memory {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
