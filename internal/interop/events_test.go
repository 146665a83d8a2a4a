//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// eventFields runs the same program and tasks with both workers and compares the events. Each event of
// ctworker must have all fields of the event of rms-cloud-tasks, with values of the same types.
func (s *system) eventFields(t *testing.T) {
	j := s.newJob(t, "AWS")
	program := filepath.Join(j.testdata, "worker.py")
	// The processes of rms-cloud-tasks take seconds to start. Therefore --max-runtime is short only for the
	// task that must exceed it.
	start := func(seconds string, orders ...string) (rms, our *command) {
		dir := t.TempDir()
		j.dir = dir
		j.tasks(orders...)
		args := []string{program, "--task-file", "tasks.json", "--num-simultaneous-tasks", "4", "--max-runtime", seconds, "--event-log-file"}
		return j.start(t, dir, nil, j.python, append(args, "rms.jsonl")...), j.start(t, dir, nil, j.python, append(append([]string{"-m", "ctworker"}, args...), "our.jsonl")...)
	}
	rms, ours := map[string]map[string]any{}, map[string]map[string]any{}
	var running []*command
	for seconds, orders := range map[string][]string{"600": {"text", "dict", "raise", "exit"}, "1": {"hang"}} {
		rmsCommand, ourCommand := start(seconds, orders...)
		running = append(running, rmsCommand, ourCommand)
	}
	for i, c := range running {
		c.wait(0)
		maps.Copy([]map[string]map[string]any{rms, ours}[i%2], fields(t, read(t, filepath.Join(c.cmd.Dir, []string{"rms.jsonl", "our.jsonl"}[i%2]))))
	}
	if len(rms) != 5 || len(ours) != 5 {
		t.Fatalf("events of %d and %d tasks, want 5", len(rms), len(ours))
	}
	for task, want := range rms {
		got := ours[task]
		for name, value := range want {
			if name == "retry" && value == nil { // null without the option
				value = false
			}
			if fmt.Sprintf("%T", got[name]) != fmt.Sprintf("%T", value) {
				t.Errorf("task %s: %s is %v, but %v in the event of rms-cloud-tasks", task, name, got[name], value)
			}
			switch name {
			case "timestamp": // ours is UTC, without a zone
				at, err := time.Parse("2006-01-02T15:04:05.999999", fmt.Sprint(got[name]))
				theirTime, theirErr := time.Parse(time.RFC3339Nano, fmt.Sprint(value))
				if err != nil || theirErr != nil || at.Sub(theirTime).Abs() > 30*time.Minute {
					t.Errorf("task %s: timestamp %v, but %v in the event of rms-cloud-tasks", task, got[name], value)
				}
			case "event_type", "task_id", "retry", "exit_code", "hostname", "result":
				if fmt.Sprint(got[name]) != fmt.Sprint(value) {
					t.Errorf("task %s: %s is %v, but %v in the event of rms-cloud-tasks", task, name, got[name], value)
				}
			}
		}
	}
}

// fields returns the fields of each task's event.
func fields(t *testing.T, lines string) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	for line := range strings.Lines(lines) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		all[fmt.Sprint(e["task_id"])] = e
	}
	return all
}

// managerKeepAlive checks that the manager receives the keep_alive and spot_termination
// events of a worker that runs for a second, with the instance name from the metadata service.
func (s *system) managerKeepAlive(t *testing.T) {
	bothProviders(t, func(t *testing.T, provider string) {
		j := s.newJob(t, provider)
		j.tasks("text")
		j.runCtworker("load", "--task-file", "tasks.json", "--create")
		j.work("--simulate-spot-termination-after", "0.5", "--simulate-spot-termination-delay", "0.5")
		out := s.run(t, j.dir, nil, j.python, filepath.Join(j.testdata, "monitor.py"), j.config, j.id+".db")
		instance := map[string]string{"AWS": awsInstance, "GCP": gcpInstance}[provider]
		if want := fmt.Sprintf(`{"alive": [%q], "terminated": [%q]}`+"\n", instance, instance); out != want {
			t.Errorf("the manager received %s, want %s", out, want)
		}
	})
}
