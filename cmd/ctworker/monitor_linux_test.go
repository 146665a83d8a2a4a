package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// If the disk is full, the monitor ends with an error, and no event is deleted from the queue.
func TestMonitor_FullDisk(t *testing.T) { onEach(t, monitorFullDiskCase) }

func monitorFullDiskCase(t *testing.T, j *job) {
	j.load(2)
	j.do(0, "run", "-j", "2", "--idle-timeout", "2", "--", "/bin/true")
	if err := os.Symlink("/dev/full", filepath.Join(j.dir, "full")); err != nil {
		t.Fatal(err)
	}
	j.do(app.ExitFatal, "monitor", "--event-log-file", "full").wantError("no space left on device")
	if n := j.counter.Count(j.deleteAction); n > 2 {
		t.Errorf("%d deletions, want at most 2: those of the tasks", n)
	}
	if m := j.do(app.ExitOK, "monitor", "--until-complete").monitored(); m.Done != 2 || m.Events != 3 {
		t.Errorf("summary %+v, want 2 tasks and 3 events", m)
	}
}

// Two monitors cannot write to the same log, and a file of another kind is refused.
func TestMonitor_Log(t *testing.T) {
	t.Parallel()
	q := newOneTask(t)
	in := q.start(t, "monitor")
	in.awaitText(`"collecting the events of the job"`)
	write(t, in.dir, "tasks.json", "[1,\n2]\n")
	for name, want := range map[string]string{filepath.Join(in.dir, "events.log"): "another run writes to this event log", filepath.Join(in.dir, "tasks.json"): "is not an event log", filepath.Join(in.dir, "none", "x"): "no such file or directory"} {
		other := q.start(t, "monitor", "--event-log-file", name)
		other.want(app.ExitFatal)
		other.wantError(want)
	}
	in.signal(syscall.SIGINT)
	in.want(app.ExitOK)
}

func TestMonitor_Usage(t *testing.T) {
	t.Parallel()
	q := newOneTask(t)
	for want, args := range map[string][]string{
		"--total -2: give 0 or more":             {"--total", "-2"},
		"--total \"x\": not a number":            {"--total", "x"},
		"--task-file -: give the name of a file": {"--task-file", "-"},
		"--event-log-file: give the name":        {"--event-log-file", ""},
		"unexpected argument \"x\"":              {"x"},
		"--until-done: unknown flag":             {"--until-done"},
		"--provider \"ABC\"":                     {"--provider", "ABC"},
	} {
		in := q.start(t, append([]string{"monitor"}, args...)...)
		in.want(app.ExitUsage)
		in.wantError(want)
	}
	in := q.start(t, "monitor", "--task-file", "missing.json")
	in.want(app.ExitFatal)
	in.wantError("missing.json")
}

// If the number of tasks cannot be recorded, the load warns and succeeds.
func TestLoad_NumberNotRecorded(t *testing.T) {
	t.Parallel()
	q := newOneTask(t)
	q.SetFault(func(w http.ResponseWriter, _ string, in map[string]any) bool {
		name, _ := in["QueueName"].(string)
		if !strings.HasSuffix(name, "-events") {
			return false
		}
		sqstest.WriteError(w, http.StatusForbidden, "AccessDeniedException", "no")
		return true
	})
	in := q.start(t, "load", "--task-file", filepath.Join(withTasks(t, 0), "tasks.json"))
	in.want(app.ExitOK)
	if strings.Contains(in.stderr.String(), "--total") {
		t.Errorf("a load without tasks reports a number:\n%s", in.stderr.String())
	}
	in = q.start(t, "load", "--task-file", filepath.Join(withTasks(t, 3), "tasks.json"))
	in.want(app.ExitOK)
	in.wantError("with --total", "3 tasks are in the queue")
}
