package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/app"
)

// untilNotice is a task that runs until it receives the termination notification.
const untilNotice = `while ! [ -e "$CTWORKER_TERMINATION_FILE" ]; do sleep 0.05; done; ! [ -e "$CTWORKER_SHUTDOWN_FILE" ] && echo seen`

// After a termination notice, running tasks are notified and may finish. No further task starts,
// and then the run ends.
func TestSpot_SimulatedNotice(t *testing.T) {
	t.Parallel()
	for name, prepared := range map[string]func() *invocation{
		"command per task": func() *invocation {
			return prepare(t, withTasks(t, 10), "run", "--task-file", "tasks.json", "-j", "2", "--simulate-spot-termination-after", "1", "--", "sh", "-c", untilNotice)
		},
		"--signal-on-termination": func() *invocation {
			return prepare(t, withTasks(t, 10), "run", "--task-file", "tasks.json", "-j", "2", "--simulate-spot-termination-after", "1", "--signal-on-termination", "USR1", "--",
				"sh", "-c", `trap "echo seen; exit 0" USR1; while true; do sleep 0.05; done`)
		},
		"reuse": func() *invocation {
			return prepareReuse(t, 10, `[ "$(`+untilNotice+`)" = seen ] && result=true`, "-j", "2", "--simulate-spot-termination-after", "1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := prepared()
			in.start().want(app.ExitOK)
			var tasks, notices int
			for _, e := range in.events() {
				switch {
				case e.Type == "spot_termination":
					notices++
				case e.Type == "task_completed" && (strings.Contains(string(e.Result), "seen") || string(e.Result) == "true"):
					tasks++
				default:
					t.Errorf("unexpected event: %+v", e)
				}
			}
			if tasks != 2 || notices != 1 {
				t.Errorf("%d notified tasks and %d termination notices, want 2 and 1", tasks, notices)
			}
			in.wantError(`"kind":"termination"`, `"source":"simulation"`, `"continue_with":"`)
		})
	}
}

// Shortly before the machine is terminated, running tasks are killed and released. With
// --no-release-at-deadline, they continue to run.
func TestSpot_ReleaseAtDeadline(t *testing.T) { onEach(t, spotDeadlineCase) }

func spotDeadlineCase(t *testing.T, j *job) {
	j.load(5)
	args := []string{"run", "-j", "2", "--simulate-spot-termination-after", "1", "--simulate-spot-termination-delay", "1"}
	startedAt := time.Now()
	j.do(app.ExitOK, append(args, "--", "sleep", "60")...).wantError(`"interrupted":2`)
	if took := time.Since(startedAt); took > 20*time.Second {
		t.Errorf("the run took %v, want less than 20 s", took)
	}
	j.wantTasks(5, 0)
	j.do(app.ExitOK, append(args, "--no-release-at-deadline", "--", "sleep", "4")...).wantError(`"completed":2`)
	j.wantTasks(3, 0)
	notices := 0
	for _, e := range j.readEvents() {
		if e["event_type"] == "spot_termination" {
			notices++
			at, err := time.Parse(time.RFC3339, fmt.Sprint(e["deadline"]))
			if err != nil || e["instance_id"] != e["hostname"] || e["kind"] != "termination" || e["action"] != "terminate" || time.Since(at) > time.Minute {
				t.Errorf("unexpected spot_termination event: %v, error %v", e, err)
			}
		}
	}
	if notices != 2 {
		t.Errorf("%d spot_termination events, want 2", notices)
	}
}

// Notices of the provider's metadata service are handled like simulated ones, if --is-spot is set
// or the metadata service reports a spot instance.
func TestSpot_ProviderNotice(t *testing.T) {
	t.Parallel()
	const onAWS, onGCP = "/latest/meta-data/", "/computeMetadata/v1/instance/"
	constant := func(text string) func() string { return func() string { return text } }
	noticeOfAWS := func() map[string]func() string {
		return map[string]func() string{onAWS + "spot/instance-action": textAfter2s(func() string {
			return fmt.Sprintf(`{"action":"terminate","time":%q}`, time.Now().Add(5*time.Second).UTC().Format(time.RFC3339))
		})}
	}
	noticeOfGCP := func() map[string]func() string {
		return map[string]func() string{onGCP + "preempted": constant("TRUE"), onGCP + "maintenance-event": constant("NONE")}
	}
	spotOfAWS := func() map[string]func() string {
		m := noticeOfAWS()
		m[onAWS+"instance-life-cycle"] = constant("spot")
		return m
	}
	spotOfGCP := func() map[string]func() string {
		m := noticeOfGCP()
		m[onGCP+"scheduling/preemptible"] = constant("TRUE")
		return m
	}
	for name, tc := range map[string]struct {
		args    []string
		google  bool
		answers func() map[string]func() string
		script  string
		want    []string
	}{
		"AWS, terminated while tasks run": {[]string{"--provider", "AWS", "--is-spot"}, false, noticeOfAWS, untilNotice + "; sleep 60", []string{`"source":"aws spot/instance-action"`, `"interrupted":2`}},
		"GCP":                             {[]string{"--provider", "GCP", "--is-spot"}, true, noticeOfGCP, untilNotice, []string{`"source":"gcp instance/preempted"`, `"message":"run ended"`}},
		"unknown provider":                {[]string{"--is-spot"}, true, noticeOfGCP, untilNotice, []string{`"source":"gcp instance/preempted"`, `"message":"run ended"`}},
		"AWS reports a spot instance":     {nil, false, spotOfAWS, untilNotice, []string{`"source":"aws spot/instance-action"`, `"completed":2`}},
		"GCP reports a spot instance":     {nil, true, spotOfGCP, untilNotice, []string{`"source":"gcp instance/preempted"`, `"message":"run ended"`}},
		"AWS reports no spot instance":    {nil, false, noticeOfAWS, "true", []string{`"completed":10`}},
		"retirement in years": {[]string{"--is-spot"}, false, func() map[string]func() string {
			return map[string]func() string{onAWS + "events/maintenance/scheduled": constant(`[{"NotBefore": "21 Jan 2099 09:00:43 GMT", "Code": "instance-retirement", "State": "active"}]`)}
		}, "sleep 0.3", []string{`"completed":10`, "maintenance of this machine is scheduled"}},
		"--no-is-spot": {[]string{"--no-is-spot"}, false, spotOfAWS, "sleep 0.3", []string{`"completed":10`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := metadataServer(t, tc.answers())
			args := append([]string{"run", "--task-file", "tasks.json", "-j", "2", "--termination-margin", "2"}, tc.args...)
			in := prepare(t, withTasks(t, 10), append(args, "--", "sh", "-c", tc.script)...)
			in.cmd.Env = append(in.cmd.Env, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+url)
			if tc.google {
				in.cmd.Env = append(in.cmd.Env, "AWS_EC2_METADATA_SERVICE_ENDPOINT=", "GCE_METADATA_HOST="+strings.TrimPrefix(url, "http://"))
			}
			in.start().want(app.ExitOK)
			in.wantError(tc.want...)
		})
	}
}

// textAfter2s returns a function that returns "" until two seconds after its first call, then text.
func textAfter2s(text func() string) func() string {
	var mu sync.Mutex
	var first time.Time
	result := ""
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		if first.IsZero() {
			first = time.Now()
		}
		if result == "" && time.Since(first) > 2*time.Second {
			result = text()
		}
		return result
	}
}

// A setting without effect causes a warning, and an invalid value causes an error.
func TestSpot_IneffectiveSettings(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 1)
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--is-spot"}, app.ExitOK, "--provider"},
		{[]string{"--simulate-spot-termination-delay", "5"}, app.ExitOK, "--simulate-spot-termination-after"},
		{[]string{"--on-rebalance", "panic"}, app.ExitUsage, "ignore or drain"},
	} {
		in := prepare(t, dir, append(append([]string{"run", "--task-file", "tasks.json"}, tc.args...), "--", "true")...).start()
		in.want(tc.code)
		in.wantError(tc.want)
	}
}

// The commit examples write nothing after the termination notification.
func TestSpot_CommitExamples(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "commit")
	if out, err := exec.Command("go", "build", "-o", program, "../../examples/commit").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	script, err := filepath.Abs("../../examples/commit/task.sh")
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"--task-file", "tasks.json", "-j", "1", "--simulate-spot-termination-after", "1.6"}
	for name, start := range map[string]func(dir string) *invocation{
		"shell": func(dir string) *invocation {
			return prepare(t, dir, append(append([]string{"run"}, flags...), "--", "sh", script)...)
		},
		"Go": func(dir string) *invocation {
			in := prepare(t, dir, flags...)
			in.cmd.Path, in.cmd.Args[0] = program, program
			return in
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := withTasks(t, 5)
			in := start(dir)
			in.start().want(0)
			all := in.byTask()
			if e := all["t1"]; len(all) != 2 || e.Type != "task_completed" || !e.Retry || !strings.Contains(string(e.Result), "nothing was written") {
				t.Errorf("%d events, want 2; event of t1: %+v, result %s", len(all), e, e.Result)
			}
			if written, _ := filepath.Glob(filepath.Join(dir, "*.result*")); len(written) != 1 || filepath.Base(written[0]) != "t0.result" {
				t.Errorf("result files: %q, want only t0.result", written)
			}
		})
	}
}
