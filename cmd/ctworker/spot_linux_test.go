package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/program"
)

// untilNotice is a task that runs until it has seen the termination notice.
const untilNotice = `while ! [ -e "$CTWORKER_TERMINATION_FILE" ]; do sleep 0.05; done; ! [ -e "$CTWORKER_SHUTDOWN_FILE" ] && echo seen`

// At a notice the tasks that run are told and finish, no further one begins, and the run
// ends with them.
func TestSpotNotice(t *testing.T) {
	t.Parallel()
	for name, prepared := range map[string]func() *invocation{
		"a command for each task": func() *invocation {
			return prepare(t, withTasks(t, 10), "run", "--task-file", "tasks.json", "-j", "2", "--simulate-spot-termination-after", "1", "--", "sh", "-c", untilNotice)
		},
		"warm": func() *invocation {
			return warmly(t, 10, `[ "$(`+untilNotice+`)" = seen ] && result=true`, "-j", "2", "--simulate-spot-termination-after", "1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := prepared()
			in.start().want(program.ExitOK)
			var tasks, notices int
			for _, e := range in.events() {
				switch {
				case e.Type == "spot_termination":
					notices++
				case e.Type == "task_completed" && (strings.Contains(string(e.Result), "seen") || string(e.Result) == "true"):
					tasks++
				default:
					t.Errorf("%+v", e)
				}
			}
			if tasks != 2 || notices != 1 {
				t.Errorf("%d tasks, %d notices", tasks, notices)
			}
			in.wantError(`"kind":"termination"`, `"source":"simulation"`, `"next_tasks_to_skip":2`)
		})
	}
}

// Shortly before the machine is taken away what still runs goes back into the queue, at
// once and not with its lease; without that it is left to run.
func TestSpotDeadline(t *testing.T) { onEach(t, spotDeadlineCase) }

func spotDeadlineCase(t *testing.T, j *job) {
	j.load(5)
	args := []string{"run", "-j", "2", "--simulate-spot-termination-after", "1", "--simulate-spot-termination-delay", "1"}
	began := time.Now()
	j.do(program.ExitOK, append(args, "--", "sleep", "60")...).wantError(`"interrupted":2`)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	j.wantTasks(5, 0)
	j.do(program.ExitOK, append(args, "--no-release-at-deadline", "--", "sleep", "4")...).wantError(`"completed":2`)
	j.wantTasks(3, 0)
	notices := 0
	for _, e := range j.readEvents() {
		if e["event_type"] == "spot_termination" {
			notices++
			at, err := time.Parse(time.RFC3339, fmt.Sprint(e["deadline"]))
			if err != nil || e["kind"] != "termination" || e["action"] != "terminate" || time.Since(at) > time.Minute {
				t.Errorf("%v, %v", e, err)
			}
		}
	}
	if notices != 2 {
		t.Errorf("%d notices", notices)
	}
}

// A notice of the provider's own metadata service does the same.
func TestSpotOfTheProvider(t *testing.T) {
	t.Parallel()
	action := fmt.Sprintf(`{"action":"terminate","time":%q}`, time.Now().Add(9*time.Second).UTC().Format(time.RFC3339))
	for provider, answers := range map[string]map[string]string{
		"AWS": {"GET /latest/meta-data/spot/instance-action": action},
		"GCP": {"GET /computeMetadata/v1/instance/preempted": "TRUE"},
	} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			url := metadataServer(t, answers)
			dir := withTasks(t, 10)
			in := prepare(t, dir, "run", "--task-file", "tasks.json", "-j", "2", "--provider", provider, "--is-spot", "--termination-margin", "2", "--", "sh", "-c",
				map[string]string{"AWS": untilNotice + "; sleep 60", "GCP": untilNotice}[provider])
			in.cmd.Env = append(in.cmd.Env, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+url, "GCE_METADATA_HOST="+strings.TrimPrefix(url, "http://"))
			in.start().want(program.ExitOK)
			if provider == "AWS" { // their machine is taken away while they run
				in.wantError(`"source":"aws spot/instance-action"`, `"interrupted":2`)
			} else {
				in.wantError(`"source":"gcp instance/preempted"`, `"completed":2`)
			}
		})
	}
}

// What is given without what it needs is told.
func TestSpotSettings(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 1)
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--is-spot"}, program.ExitOK, "--provider"},
		{[]string{"--simulate-spot-termination-delay", "5"}, program.ExitOK, "--simulate-spot-termination-after"},
		{[]string{"--on-rebalance", "panic"}, program.ExitUsage, "ignore or drain"},
	} {
		in := prepare(t, dir, append(append([]string{"run", "--task-file", "tasks.json"}, tc.args...), "--", "true")...).start()
		in.want(tc.code)
		in.wantError(tc.want)
	}
}
