package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
)

func TestRunsEveryTask(t *testing.T) {
	t.Parallel()
	in := run(t, 50, app.ExitOK, "run", "--task-file", "tasks.json", "-j", "4", "--", "sh", "-c", "cat; echo hello >&2")
	all := in.byTask()
	if len(all) != 50 {
		t.Fatalf("%d tasks have an event, want 50", len(all))
	}
	for i := range 50 {
		id := fmt.Sprintf("t%d", i)
		e := all[id]
		want := fmt.Sprintf(`{"task_id":"%s","data":{"n":%d,"big":12345678901234567890}}`, id, i)
		if e.Type != "task_completed" || string(e.Result) != want || e.Slot > 3 || e.Attempt != 1 || e.Retry || e.Elapsed <= 0 {
			t.Errorf("task %s: %+v; want the result %s", id, e, want)
		}
	}
	in.wantError(`"message":"task wrote to standard error"`, `"line":"hello"`, `"task_id":"t7"`, `"message":"run ended"`, `"completed":50`)
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var lines strings.Builder
	for _, script := range []string{"exit 0", "exit 75", "exit 3", "kill -9 $$", "exec sleep 100", "echo '{\"retry\":true}' >&3", "echo invalid >&3"} {
		data, _ := json.Marshal(map[string]string{"script": script})
		fmt.Fprintf(&lines, `{"task_id":%q,"data":%s}`+"\n", script, data)
	}
	write(t, dir, "tasks.jsonl", lines.String())
	args := []string{"run", "--task-file", "tasks.jsonl", "-j4", "--max-runtime", "3", "--kill-delay", "1"}
	in := prepare(t, dir, append(args, "--strict", "--retry-on-exit", "--", "sh", "-c", "{data.script}")...).start()
	in.want(app.ExitStrict)
	all := in.byTask()
	for script, want := range map[string]event{
		"exit 0":                      {Type: "task_completed"},
		"exit 75":                     {Type: "task_completed", Retry: true},
		"exit 3":                      {Type: "task_exited", ExitCode: 3, Retry: true},
		"kill -9 $$":                  {Type: "task_exited", ExitCode: -9, Retry: true},
		"exec sleep 100":              {Type: "task_timed_out"},
		"echo '{\"retry\":true}' >&3": {Type: "task_completed", Retry: true},
		"echo invalid >&3":            {Type: "task_exception"},
	} {
		if got := all[script]; got.Type != want.Type || got.Retry != want.Retry || got.ExitCode != want.ExitCode {
			t.Errorf("%s: %+v, want %+v", script, got, want)
		}
	}
	// Without --strict, the exit code is 0 although tasks failed.
	prepare(t, dir, append(args, "--", "sh", "-c", "{data.script}")...).start().want(app.ExitOK)
}

func TestSkipAndLimit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--tasks-to-skip", "3"}, "t3 t4 t5 t6 t7 t8 t9"},
		{[]string{"--max-num-tasks", "2"}, "t0 t1"},
		{[]string{"--tasks-to-skip", "4", "--max-num-tasks", "3"}, "t4 t5 t6"},
		{[]string{"--max-num-tasks", "0"}, ""},
		{[]string{"--tasks-to-skip", "10"}, ""},
		{[]string{"--tasks-to-skip", "99", "--max-num-tasks", "99"}, ""},
		{[]string{"--max-num-tasks", "10"}, "t0 t1 t2 t3 t4 t5 t6 t7 t8 t9"},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			t.Parallel()
			in := run(t, 10, app.ExitOK, append(append([]string{"run", "--task-file", "tasks.json", "--strict"}, tc.args...), "--", "true")...)
			var ids []string
			for _, e := range in.events() {
				ids = append(ids, e.TaskID)
			}
			if got := strings.Join(ids, " "); got != tc.want {
				t.Errorf("ran %q, want %q", got, tc.want)
			}
		})
	}
}

func TestTasksFromStandardInput(t *testing.T) {
	t.Parallel()
	in := prepare(t, t.TempDir(), "run", "--task-file", "-", "--", "printf", "%s", "{task_id}")
	in.cmd.Stdin = strings.NewReader("- task_id: a\n  data: {}\n- task_id: b\n  data: 1\n")
	in.start().want(app.ExitOK)
	if all := in.byTask(); len(all) != 2 || string(all["b"].Result) != `"b"` {
		t.Errorf("unexpected events: %+v", all)
	}
}

// The tasks before a malformed entry of a task file are run.
func TestBrokenTaskFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "tasks.json", "[{\"task_id\":\"a\",\"data\":1},\n{\"task_id\":\"b\",\"data\":2},\n{\"task_id\":3.5,\"data\":3},\n{\"task_id\":\"d\",\"data\":4}]")
	in := prepare(t, dir, "run", "--task-file", "tasks.json", "--", "true").start()
	in.want(app.ExitFatal)
	in.wantError("tasks.json", "entry 3", "line 3", "task_id")
	events := in.events()
	if len(events) != 3 || events[0].TaskID != "a" || events[1].TaskID != "b" {
		t.Fatalf("unexpected events: %+v", events)
	}
	last := events[2]
	if last.Type != "fatal_exception" || !strings.Contains(last.Exception, "entry 3") || last.Stack == "" {
		t.Errorf("unexpected last event: %+v", last)
	}
}

// A value whose meaning differs between YAML 1.1 and 1.2 is reported once, and read as YAML 1.2.
func TestAmbiguousYAML(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "tasks.yaml", "- {task_id: a, data: 100}\n- task_id: b\n  data:\n    frame: 0100\n- {task_id: c, data: [on, 0b1]}\n")
	in := prepare(t, dir, "run", "--task-file", "tasks.yaml", "--", "cat").start()
	in.want(app.ExitOK)
	in.wantError("ambiguous YAML value", `"file":"tasks.yaml","entry":2,"line":4,"value":"0100","read_as":"the number 100","yaml_1_1_reads":"the number 64"`)
	if n := strings.Count(in.stderr.String(), "ambiguous"); n != 1 {
		t.Errorf("%d warnings, want 1: %s", n, in.stderr.String())
	}
	all := in.byTask()
	if got := string(all["b"].Result) + string(all["c"].Result); !strings.Contains(got, `{"frame":100}`) || !strings.Contains(got, `["on","0b1"]`) {
		t.Errorf("unexpected results: %s", got)
	}
}

// A full disk ends the run with an error, and no further task is started.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	in := run(t, 1000, app.ExitFatal, "run", "--task-file", "tasks.json", "--event-log-file", "/dev/full", "--", "sh", "-c", "echo x >> ran")
	in.wantError("no space left on device", "--event-log-file")
	ran, err := os.ReadFile(filepath.Join(in.dir, "ran"))
	if err != nil {
		t.Fatal(err)
	}
	// The first event cannot be written; a few more tasks may have started by then.
	if n := strings.Count(string(ran), "x"); n > 10 {
		t.Errorf("%d tasks were run, want at most 10", n)
	}
}

func TestUnwritableEventLog(t *testing.T) {
	t.Parallel()
	in := run(t, 3, app.ExitFatal, "run", "--task-file", "tasks.json", "--event-log-file", "no/such/dir/events.log", "--", "touch", "ran")
	in.wantError("no/such/dir/events.log")
	if _, err := os.Stat(filepath.Join(in.dir, "ran")); err == nil {
		t.Error("a task was run")
	}
}

func TestRun_WithoutEventSink(t *testing.T) {
	t.Parallel()
	in := run(t, 3, app.ExitOK, "run", "--task-file", "tasks.json", "--no-event-log-to-file", "--discard-events", "--", "true")
	if _, err := os.Stat(filepath.Join(in.dir, "events.log")); err == nil {
		t.Error("the event log exists")
	}
}

func TestRunsShareAnEventLog(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 40)
	a := prepare(t, dir, "run", "--task-file", "tasks.json", "--", "true").start()
	b := prepare(t, dir, "run", "--task-file", "tasks.json", "--", "true").start()
	a.want(app.ExitOK)
	b.want(app.ExitOK)
	if n := len(a.events()); n != 80 {
		t.Errorf("%d events, want 80", n)
	}
}

// The run continues if the reader of standard error exits, as in "2>&1 | head".
func TestRun_LogReaderExits(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 20)
	path, lines := fifo(t, dir)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in := prepare(t, dir, "run", "--task-file", "tasks.json", "--", "sh", "-c", `echo noise >&2; echo $$ > "$0"`, path)
	in.cmd.Stderr = w
	in.start()
	_ = w.Close()
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	_ = r.Close()
	pids(t, lines, 20)
	in.want(app.ExitOK)
	if n := len(in.byTask()); n != 20 {
		t.Errorf("%d events, want 20", n)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 1)
	write(t, dir, "worker.yaml", "max-runtime: soon\nmax-runtme: 3\n")
	ok := []string{"run", "--task-file", "tasks.json"}
	for _, tc := range []struct {
		name string
		env  string
		args []string
		want []string
	}{
		{"nothing", "", nil, []string{"no command"}},
		{"an unknown command", "", []string{"rnu"}, []string{`"rnu"`, "run"}},
		{"no COMMAND", "", ok, []string{"no command", "--"}},
		{"no task file", "", []string{"run", "--", "true"}, []string{"--provider", "--job-id", "--task-file"}},
		{"an unknown flag", "", append(ok, "--max-runtim", "5", "--", "true"), []string{"--max-runtim", "--max-runtime"}},
		{"faults in all places", "RMS_CLOUD_TASKS_INSTANCE_IS_SPOT=maybe", append(ok, "-j", "zero", "--no-such", "--config", "worker.yaml"), []string{
			"-j", `"zero"`, "--no-such", "RMS_CLOUD_TASKS_INSTANCE_IS_SPOT", `"maybe"`, "worker.yaml:1", `"soon"`, "worker.yaml:2", "max-runtme", "no command",
		}},
		{"a COMMAND that is missing", "", append(ok, "--", "no-such-command-here"), []string{"no-such-command-here"}},
		{"a COMMAND from a task", "", append(ok, "--", "{data.n}"), []string{"{data.n}", "placeholder"}},
		{"a task file that is missing", "", []string{"run", "--task-file", "none.json", "--", "true"}, []string{"none.json", "--task-file"}},
		{"a remote file", "", []string{"run", "--task-file", "s3://b/f", "--", "true"}, []string{"s3://b/f"}},
		{"events into the task file", "", append(ok, "--event-log-file", "./tasks.json", "--", "true"), []string{"--event-log-file", "task file"}},
		{"a config file without end", "", append(ok, "--config", "/dev/zero", "--", "true"), []string{"/dev/zero", "larger"}},
		{"a directory", "", []string{"run", "--task-file", ".", "--", "true"}, []string{"directory"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			in := prepare(t, dir, tc.args...)
			if tc.env != "" {
				in.cmd.Env = append(in.cmd.Env, tc.env)
			}
			in.start().want(app.ExitUsage)
			in.wantError(tc.want...)
			for line := range strings.Lines(in.stderr.String()) {
				if !strings.HasPrefix(line, "ctworker: ") {
					t.Errorf("line without the prefix ctworker: %q", line)
				}
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "events.log")); err == nil {
		t.Error("a task was run")
	}
}

func TestPrintConfigIsAConfigFile(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 1)
	first := prepare(t, dir, "run", "--task-file", "tasks.json", "-j", "3", "--retry-on-exit", "--print-config").start()
	first.want(app.ExitOK)
	for _, want := range []string{"num-simultaneous-tasks: 3", "# command line", "max-runtime: 600", "# default", "retry-on-exit: true"} {
		if !strings.Contains(first.stdout.String(), want) {
			t.Errorf("does not contain %q:\n%s", want, first.stdout.String())
		}
	}
	write(t, dir, "worker.yaml", first.stdout.String())
	second := prepare(t, dir, "run", "--config", "worker.yaml", "--", "true").start()
	second.want(app.ExitOK)
	if n := len(second.byTask()); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	prepare(t, dir, "run", "--print-config").start().want(app.ExitOK) // required settings are not checked
}

// A COMMAND named help is run, although the flag library has a command of that name.
func TestCommandNamedHelp(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 1)
	write(t, dir, "help", "#!/bin/sh\necho \"$@\"\n")
	if err := os.Chmod(filepath.Join(dir, "help"), 0o700); err != nil {
		t.Fatal(err)
	}
	in := prepare(t, dir, "run", "--task-file", "tasks.json", "--", "./help", "--verbose", "-j", "{data.n}")
	in.start().want(app.ExitOK)
	if got := string(in.byTask()["t0"].Result); got != `"--verbose -j 0"` {
		t.Errorf("unexpected result %s", got)
	}
}

func TestSettingsReachTheTask(t *testing.T) {
	t.Parallel()
	in := run(t, 1, app.ExitOK, "run", "--task-file", "tasks.json", "--num-cpus", "7", "--is-spot", "--max-runtime", "44", "--",
		"sh", "-c", `echo "$RMS_CLOUD_TASKS_INSTANCE_NUM_VCPUS $RMS_CLOUD_TASKS_INSTANCE_IS_SPOT $RMS_CLOUD_TASKS_MAX_RUNTIME $CTWORKER_TASK_ID $CTWORKER_ATTEMPT"`)
	if got := string(in.byTask()["t0"].Result); got != `"7 1 44 t0 1"` {
		t.Errorf("unexpected result %s", got)
	}
	in.wantError("--is-spot") // only a warning: without a provider, there are no termination notices
}

// The profiles can be read with the Go tools, and are served while tasks run.
func TestProfiles(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 50)
	in := prepare(t, dir, "run", "--task-file", "tasks.json", "-j", "2", "--cpu-profile", "cpu.pprof", "--mem-profile", "mem.pprof",
		"--trace", "trace.out", "--debug-address", "127.0.0.1:0", "--", "/bin/true")
	in.start().want(0)
	in.wantError(`"url":"http://127.0.0.1:`, "serving profiles of ctworker")
	for _, reader := range [][]string{
		{"pprof", "-top", "cpu.pprof"},
		{"pprof", "-top", "-sample_index=alloc_space", "mem.pprof"},
		{"trace", "-pprof=sched", "trace.out"},
	} {
		cmd := exec.Command("go", append([]string{"tool"}, reader...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil || len(out) == 0 {
			t.Errorf("%v: %v: %s", reader, err, out)
		}
	}
	in = prepare(t, dir, "run", "--task-file", "tasks.json", "--cpu-profile", "no/cpu.pprof", "--", "/bin/true")
	in.start().want(2)
	in.wantError("--cpu-profile: open no/cpu.pprof", "nothing was run")
}

// A run without tasks, and an argument that is probably a misspelled placeholder, cause a warning.
func TestRun_WarnsAboutMistakes(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"because --tasks-to-skip skips all tasks": {"--tasks-to-skip", "9", "--", "true"},
		"because --max-num-tasks is 0":            {"--max-num-tasks", "0", "--", "true"},
		`"placeholder":"{task_id}"`:               {"--", "echo", "{taskid}"},
		"without quotes around all of them":       {"--", "echo hi"},
	} {
		code := app.ExitOK
		if strings.Contains(want, "quotes") {
			code = app.ExitUsage
		}
		run(t, 2, code, append([]string{"run", "--task-file", "tasks.json"}, args...)...).wantError(want)
	}
}

// Inputs on the command line and in a file become tasks. --resume recognizes them.
func TestRun_Inputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := prepare(t, dir, "run", "-j", "2", "--", "sh", "-c", `test "$1" != b`, "sh", ":::", "a", "b", "$(touch ran)").start()
	first.want(app.ExitOK)
	first.wantError(`"completed":2`, `"exited":1`)
	if got := first.field("rerun_failed_with"); !strings.HasSuffix(got, `run --rerun failed -j 2 -- sh -c 'test "$1" != b' sh ::: a b '$(touch ran)'`) {
		t.Errorf("advice %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
		t.Error("a shell has interpreted an input")
	}
	write(t, dir, "list", "c\nb\n\n$(touch ran)\r\nd")
	second := prepare(t, dir, "run", "--rerun", "failed", "--", "echo", "[{}]", "::::", "list").start()
	second.want(app.ExitOK)
	second.wantError(`"task_count":3,"completed":3`, `"done_earlier":1`)
	results := map[string]string{}
	for _, e := range second.events() {
		results[e.TaskID] = string(e.Result)
	}
	if got := results["c"] + results["b"] + results["d"]; got != `"[c]""[b]""[d]"` {
		t.Errorf("results %v", results)
	}
	piped := prepare(t, t.TempDir(), "run", "--", "cat", "::::", "-")
	piped.cmd.Stdin = strings.NewReader("x\n")
	piped.start().want(app.ExitOK)
	for _, args := range [][]string{
		{"run", "--task-file", "t", "--", "echo", ":::", "a"}, {"run", "--", ":::", "a"}, {"run", "--", "echo", ":::"}, {"run", "--", "echo", "::::", "none"},
	} {
		prepare(t, dir, args...).start().want(app.ExitUsage)
	}
}

// The rows of a CSV file are tasks. With --csv, the name of the file does not matter. "ctworker audit" can
// read the tasks from a CSV file.
func TestRun_CSV(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "sites.csv", "lat,lon\n1.5,2\n-3,4\n")
	in := prepare(t, dir, "run", "--task-file", "sites.csv", "--", "echo", "{data.lat}/{data.lon}").start()
	in.want(app.ExitOK)
	all := in.byTask()
	if len(all) != 2 || string(all["1.5,2"].Result) != `"1.5/2"` || string(all["-3,4"].Result) != `"-3/4"` {
		t.Fatalf("got %+v", all)
	}
	prepare(t, dir, "audit", "--task-file", "sites.csv").start().want(app.ExitOK)
	write(t, dir, "more.txt", "lat,lon\n1.5,2\n5,6\n-3,4\n")
	in = prepare(t, dir, "run", "--resume", "--csv", "more.txt", "--", "echo", "{data.lat}").start()
	in.want(app.ExitOK)
	in.wantError(`"total":3,"to_run":1,"done":2`)
	in = prepare(t, dir, "run", "--csv", "-", "--", "echo", "{data.none}")
	in.cmd.Stdin = strings.NewReader("a\n1\n")
	in.start().want(app.ExitFatal)
	in.wantError("its keys are")
	in = prepare(t, dir, "run", "--csv", "sites.csv", "--", "echo", ":::", "a").start()
	in.want(app.ExitUsage)
	in.wantError("--csv cannot be combined with inputs after ::: or ::::")
}

func TestAudit_Inputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "list", "a\nb\n")
	prepare(t, dir, "run", "--", "true", "::::", "list").start().want(app.ExitOK)
	prepare(t, dir, "audit", "::::", "list").start().want(app.ExitOK)
	prepare(t, dir, "audit", "events.log", ":::", "b", "a").start().want(app.ExitOK)
	prepare(t, dir, "audit", ":::", "a", "b", "c").start().want(app.ExitFatal)
	for want, args := range map[string][]string{
		"--task-file is missing":             {"audit"},
		"remove the flag or the inputs":      {"audit", "--task-file", "list", ":::", "a"},
		"may have to be read twice":          {"audit", "::::", "-"},
		":::: is followed by 0 arguments":    {"audit", "::::"},
		"several times: give all inputs":     {"audit", ":::", "a", ":::", "b"},
		"no inputs after :::, so there are ": {"audit", ":::"},
	} {
		in := prepare(t, dir, args...).start()
		in.want(app.ExitUsage)
		in.wantError(want)
	}
}

// A dry run prints the first tasks and checks all tasks. It runs no task and writes no event.
func TestRun_DryRun(t *testing.T) {
	t.Parallel()
	in := run(t, 12, app.ExitOK, "run", "--dry-run", "--task-file", "tasks.json", "-j", "3", "--", "touch", "ran", "a b", "{data.n}")
	out := in.stdout.String()
	if want := "t0 (attempt 1)\n  touch ran 'a b' 0\nt1 (attempt 1)\n"; !strings.HasPrefix(out, want) {
		t.Errorf("the output does not start with %q:\n%s", want, out)
	}
	for _, want := range []string{
		"t9 (attempt 1)\n  touch ran 'a b' 9\nenvironment of each task, in addition to that of ctworker:\n  CTWORKER_TASK_ID, CTWORKER_ATTEMPT\n  CTWORKER_SLOT: 0 to 2\n",
		"\n  RMS_CLOUD_TASKS_MAX_RUNTIME=600\n",
		"\n12 tasks would run; -j 3, time limit of each task 10m0s; nothing was run\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	for _, name := range []string{"ran", "events.log"} {
		if _, err := os.Stat(filepath.Join(in.dir, name)); err == nil {
			t.Errorf("%s exists", name)
		}
	}
	prepare(t, in.dir, "run", "--task-file", "tasks.json", "--max-num-tasks", "5", "--", "true").start().want(app.ExitOK)
	resumed := prepare(t, in.dir, "run", "--dry-run", "--resume", "--task-file", "tasks.json", "--", "true").start()
	resumed.want(app.ExitOK)
	if out := resumed.stdout.String(); !strings.Contains(out, "\n7 tasks would run, and 5 are done;") || !strings.HasPrefix(out, "t5 (attempt 1)\n") {
		t.Errorf("got\n%s", out)
	}
	missing := prepare(t, in.dir, "run", "--dry-run", "--task-file", "tasks.json", "--", "echo", "{data.m}").start()
	missing.want(app.ExitFatal)
	missing.wantError("t0", "its keys are")
	write(t, in.dir, "broken.json", `[{"task_id":"a\u001b[31m","data":1},{"task_id":7`)
	broken := prepare(t, in.dir, "run", "--dry-run", "--task-file", "broken.json", "--", "true").start()
	broken.want(app.ExitFatal)
	broken.wantError("entry 2")
	if out := broken.stdout.String(); strings.Contains(out, "\x1b") {
		t.Errorf("control characters in the output: %q", out)
	}
	inputs := prepare(t, in.dir, "run", "--dry-run", "--", "echo", "{}", ":::", "x y").start()
	inputs.want(app.ExitOK)
	if out := inputs.stdout.String(); !strings.HasPrefix(out, "x y (attempt 1)\n  echo 'x y'\nenvironment") {
		t.Errorf("got %s", out)
	}
	queue := prepare(t, in.dir, "run", "--dry-run", "--provider", "AWS", "--job-id", "j", "--", "true").start()
	queue.want(app.ExitUsage)
	queue.wantError("receiving them would hide them")
}
