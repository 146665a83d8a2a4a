package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
)

// shellWorker is a worker process written in shell. For each task, it runs the script $1 with the
// task's id in $id, and replies with the value of $result.
const shellWorker = `
	read -r hello <&3
	echo '{"ready":{"version":1}}' >&3
	while read -r task <&3; do
		id=${task#*'"task_id":"'}; id=${id%%'"'*}; result=null
		eval "$1"
		printf '{"task_id":"%s","result":%s}\n' "$id" "$result" >&3
	done`

// prepareReuse returns an invocation that runs n tasks in shellWorker with a script.
func prepareReuse(t *testing.T, n int, script string, flags ...string) *invocation {
	t.Helper()
	args := append([]string{"run", "--task-file", "tasks.json", "--isolation", "reuse"}, flags...)
	return prepare(t, withTasks(t, n), append(args, "--", "sh", "-c", shellWorker, "sh", script)...)
}

func TestReuse_Command(t *testing.T) {
	t.Parallel()
	in := prepareReuse(t, 100, `result=\"$CTWORKER_SLOT$RMS_CLOUD_TASKS_MAX_RUNTIME$CTWORKER_TASK_ID\"`, "-j", "3", "--max-runtime", "44")
	in.start().want(app.ExitOK)
	all := in.byTask()
	if len(all) != 100 {
		t.Errorf("%d events, want 100", len(all))
	}
	for id, e := range all {
		if want := fmt.Sprintf(`"%d44"`, e.Slot); e.Type != "task_completed" || string(e.Result) != want {
			t.Errorf("%s: %+v, result %s, want %s", id, e, e.Result, want)
		}
	}
	in.wantNoFilesLeft()
}

// A worker process in a language without an SDK works. It was written from docs/protocol.md alone.
func TestPerlWorker(t *testing.T) {
	t.Parallel()
	path, err := filepath.Abs("../../examples/perl-worker/worker.pl")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var tasks strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&tasks, `{"task_id":"t%d","data":{"num1":%d,"num2":%d}}`+"\n", i, i, i)
	}
	tasks.WriteString(`{"task_id":"bad","data":{}}` + "\n")
	write(t, dir, "tasks.jsonl", tasks.String())
	in := prepare(t, dir, "run", "--task-file", "tasks.jsonl", "-j", "2", "--isolation", "reuse", "--", "perl", path)
	in.start().want(app.ExitOK)
	all := in.byTask()
	if len(all) != 2001 || string(all["t7"].Result) != `{"sum":14}` || all["bad"].Type != "task_exception" {
		t.Errorf("%d events, want 2001; event of t7: %+v; event of bad: %+v", len(all), all["t7"], all["bad"])
	}
}

// A worker process that writes a gigabyte to its standard output is not slowed down, and the output
// does not become a result.
func TestReuse_CapturesOutput(t *testing.T) {
	t.Parallel()
	in := prepareReuse(t, 2, `head -c 1G /dev/zero`)
	in.cmd.Stdout = nil
	in.start().want(app.ExitOK)
	for id, e := range in.byTask() {
		if e.Type != "task_completed" {
			t.Errorf("task %s: unexpected event: %+v", id, e)
		}
	}
}

// If ctworker is terminated or killed, worker processes and their children are killed.
func TestReuse_ProcessesEndWithTheEngine(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			dir := withTasks(t, 20)
			path, lines := fifo(t, dir)
			in := prepare(t, dir, "run", "--task-file", "tasks.json", "-j", "4", "--isolation", "reuse", "--shutdown-grace-period", "0", "--kill-delay", "0.2", "--",
				"sh", "-c", shellWorker, "sh", `trap "" TERM; sleep 1000 & echo $! > `+path+`; echo $$ > `+path+`; wait`).start()
			all := pids(t, lines, 8)
			in.signal(sig)
			if sig == syscall.SIGKILL {
				in.want(-1)
			} else {
				in.want(143)
				in.wantError(`"interrupted":4`)
			}
			wantExited(t, all)
		})
	}
}

// If a program does not support the protocol, the run fails with a fatal error, and no task is lost.
func TestReuse_CommandWithoutTheProtocol(t *testing.T) {
	t.Parallel()
	in := prepare(t, withTasks(t, 3), "run", "--task-file", "tasks.json", "--isolation", "reuse", "--", "sh", "-c", "exit 3")
	in.start().want(app.ExitFatal)
	in.wantError("5 consecutive starts", "exited with code 3", "protocol-check", "--resume")
	prepare(t, withTasks(t, 1), "run", "--task-file", "tasks.json", "--isolation", "reuse", "--", "echo", "{task_id}").start().want(app.ExitUsage)
}

func TestProtocolCheck(t *testing.T) {
	t.Parallel()
	path, err := filepath.Abs("../../examples/perl-worker/worker.pl")
	if err != nil {
		t.Fatal(err)
	}
	in := prepare(t, t.TempDir(), "protocol-check", "--timeout", "60", "--", "perl", path)
	in.start().want(app.ExitOK)
	if strings.Contains(in.stdout.String(), "WRONG") || strings.Count(in.stdout.String(), "ok ") < 8 {
		t.Errorf("protocol-check of a correct program printed:\n%s", in.stdout.String())
	}
	in = prepare(t, t.TempDir(), "protocol-check", "--", "true")
	in.start().want(app.ExitFatal)
	if !strings.Contains(in.stdout.String(), "WRONG") {
		t.Errorf("protocol-check of /bin/true printed:\n%s", in.stdout.String())
	}
	prepare(t, t.TempDir(), "protocol-check").start().want(app.ExitUsage)
	prepare(t, t.TempDir(), "protocol-check", "--timeout", "-1", "--", "true").start().want(app.ExitUsage)
}
