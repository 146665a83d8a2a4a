package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/joblog"
)

// jobTasks are tasks whose commands end in different ways.
const jobTasks = `{"task_id":"ok","data":{"c":"echo hi"}}
{"task_id":"a\tb\nc","data":{"c":"exit 3"}}
{"task_id":"again","data":{"c":"exit 75"}}
{"task_id":"term","data":{"c":"kill -TERM $$"}}
{"task_id":"segv","data":{"c":"kill -SEGV $$"}}
`

// jobLine matches a line of a job log, with the columns Seq, Host, Starttime, JobRuntime, and the rest.
var jobLine = regexp.MustCompile(`^(\d+)\t(:)\t(\d{10}\.\d{3})\t( *\d+\.\d{3})\t(.*)$`)

// wantJobLog fails the test unless the job log has the header and these lines, without the times.
func (in *invocation) wantJobLog(lines ...string) {
	in.t.Helper()
	text, err := os.ReadFile(filepath.Join(in.dir, "jobs.log"))
	if err != nil {
		in.t.Fatal(err)
	}
	var got []string
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if i == 0 {
			got = append(got, line)
			continue
		}
		m := jobLine.FindStringSubmatch(line)
		if m == nil || len(m[4]) != 10 {
			in.t.Errorf("line %q", line)
			continue
		}
		got = append(got, m[1]+"\t"+m[5])
	}
	if want := append([]string{joblog.Header}, lines...); strings.Join(got, "\n") != strings.Join(want, "\n") {
		in.t.Errorf("job log:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The columns Exitval and Signal are those that GNU parallel 20221122 writes for the same commands.
func TestJobLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "tasks.jsonl", jobTasks)
	in := prepare(t, dir, "run", "--task-file", "tasks.jsonl", "--joblog", "jobs.log", "--", "sh", "-c", "{data.c}").start()
	in.want(app.ExitOK)
	in.wantJobLog("1\t0\t2\t0\t0\tok", "2\t0\t0\t3\t0\t"+`a\tb\nc`, "3\t0\t0\t75\t0\tagain", "4\t0\t0\t0\t15\tterm", "5\t0\t0\t0\t11\tsegv")
	in = run(t, 1, app.ExitOK, "run", "--task-file", "tasks.json", "--joblog", "jobs.log", "--max-runtime", "0.1", "--", "sleep", "1000")
	in.wantJobLog("1\t0\t0\t-1\t15\tt0")
}

// Each attempt has a line, and a further run appends to the file.
func TestJobLog_AttemptsAndResume(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "tasks.jsonl", `{"task_id":"a","data":null}`)
	args := []string{"run", "--task-file", "tasks.jsonl", "--joblog", "jobs.log", "--retries", "1", "--retry-backoff", "0"}
	in := prepare(t, dir, append(args, "--", "false")...).start()
	in.want(app.ExitOK)
	in.wantJobLog("1\t0\t0\t1\t0\ta", "2\t0\t0\t1\t0\ta")
	in = prepare(t, dir, append(args, "--rerun", "failed", "--", "true")...).start()
	in.want(app.ExitOK)
	in.wantJobLog("1\t0\t0\t1\t0\ta", "2\t0\t0\t1\t0\ta", "1\t0\t0\t0\t0\ta")
}

// The job log has no results, so it does not replace the event log.
func TestJobLog_Faults(t *testing.T) {
	t.Parallel()
	for want, flags := range map[string][]string{
		`--joblog "tasks.json" is the task file`:                       {"--joblog", "tasks.json"},
		`--joblog "./events.log" is the file of --event-log-file`:      {"--joblog", "./events.log"},
		`--event-log-file "tasks.json" is the task file`:               {"--joblog", "jobs.log", "--event-log-file", "tasks.json"},
		"the events of this run, which contain its results, would be ": {"--joblog", "jobs.log", "--no-event-log-to-file"},
	} {
		in := run(t, 2, app.ExitUsage, append(append([]string{"run", "--task-file", "tasks.json"}, flags...), "--", "true")...)
		in.wantError(want, "nothing was run")
	}
	in := run(t, 2, app.ExitFatal, "run", "--task-file", "tasks.json", "--joblog", "/dev/full", "--", "true")
	in.wantError("job log: write /dev/full: no space left on device", "use another --joblog")
}
