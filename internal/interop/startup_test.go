//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// startupScripts runs the startup scripts that the manager generates for instances, as an
// instance does, with our workers as the user's commands.
//
// The scripts export a setting without a value as "None", and a boolean as "True" or "False".
// A number may be a float.
func (s *system) startupScripts(t *testing.T) {
	onDemand := []string{}
	spot := []string{"use_spot: true", "retry_on_exit: true", "retry_on_exception: false", "keepalive_interval: 30", "max_memory_allowed_per_task: 4"}
	for _, tc := range []struct {
		provider string
		lines    []string
		shebang  string
		exports  []string
	}{
		{"AWS", onDemand, "#!/bin/bash\n", []string{"IS_SPOT=None", "RETRY_ON_EXIT=None", "RETRY_ON_EXCEPTION=None"}},
		{"AWS", spot, "", []string{"IS_SPOT=True", "RETRY_ON_EXIT=True", "RETRY_ON_EXCEPTION=False", "KEEPALIVE_INTERVAL=30", "MAX_MEMORY_ALLOWED_PER_TASK=4.0"}},
		{"GCP", onDemand, "", []string{"IS_SPOT=None", "RETRY_ON_EXIT=None", "RETRY_ON_EXCEPTION=None", "PROJECT_ID="}},
		{"GCP", spot, "#!/usr/bin/env -S /bin/bash\r\n", []string{"IS_SPOT=True", "RETRY_ON_EXIT=True", "RETRY_ON_EXCEPTION=False", "PROJECT_ID="}},
	} {
		isSpot := len(tc.lines) > 0
		t.Run(fmt.Sprintf("%s spot=%v", tc.provider, isSpot), func(t *testing.T) {
			t.Parallel()
			j := s.newJob(t, tc.provider)
			commands := strings.Join([]string{
				tc.shebang + "set -e", "cd " + j.dir,
				s.ctworker + " run --max-num-tasks 2 -- cat",
				fmt.Sprintf("exec %s -m ctworker %s --max-num-tasks 2", s.python, filepath.Join(s.testdata, "worker.py")),
			}, "\n")
			write(t, filepath.Join(j.dir, "commands.sh"), commands)
			config := read(t, j.config)
			for _, line := range append(tc.lines, "startup_script_file: commands.sh") {
				config += "  " + line + "\n"
			}
			write(t, j.config, config)
			script := s.run(t, j.dir, nil, s.python, filepath.Join(s.testdata, "startup.py"), j.config,
				`{"name": "type-1", "vcpu": 2, "mem_gb": 3.75, "local_ssd_gb": 0, "boot_disk_gb": 10, "total_price": 0.096123}`)
			for _, export := range tc.exports {
				if !strings.Contains(script, "export RMS_CLOUD_TASKS_"+export) && !strings.Contains(script, "INSTANCE_"+export) {
					t.Fatalf("the manager of this release does not export %s:\n%s", export, script)
				}
			}
			write(t, filepath.Join(j.dir, "startup.sh"), script)
			j.tasks("settings", "settings", "settings", "settings")
			j.runCtworker("load", "--task-file", "tasks.json", "--create")

			s.run(t, j.dir, j.machine, "bash", "startup.sh")

			events := j.collect()
			wantCounts(t, "events", count(events), map[string]int{"task_completed": 4})
			want := map[string]any{
				"provider": tc.provider, "project_id": nil, "job_id": j.id, "queue_name": j.id, "instance_type": "type-1", "num_cpus": 2., "memory_gb": 3.75, "local_ssd_gb": 0.,
				"boot_disk_gb": 10., "is_spot": isSpot, "price_per_hour": 0.096123, "num_simultaneous_tasks": 2., "max_runtime": 30.,
				"retry_on_exit": isSpot, "retry_on_exception": false, "retry_on_timeout": false,
			}
			if tc.provider == "GCP" {
				want["project_id"] = j.project
			}
			commandTasks, programTasks := 0, 0
			for _, e := range events {
				if e.Type != "task_completed" {
					continue
				}
				var got map[string]any
				if err := json.Unmarshal(e.Result, &got); err != nil {
					t.Fatalf("result %s: %v", e.Result, err)
				}
				if got["data"] != nil {
					commandTasks++
					continue
				}
				programTasks++
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("settings of the program:\n%v, want\n%v", got, want)
				}
			}
			if commandTasks != 2 || programTasks != 2 {
				t.Errorf("%d tasks of ctworker run and %d of the program, want 2 of each", commandTasks, programTasks)
			}
		})
	}
}
