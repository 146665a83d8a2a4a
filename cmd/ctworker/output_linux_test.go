package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/rawjson/rawjsontest"
)

// A run and its shutdown do not wait for a reader of standard error that has stopped reading.
func TestStandardErrorThatIsNotRead(t *testing.T) {
	t.Parallel()
	dir := withTasks(t, 32)
	pipe, _ := fifo(t, dir)
	in := prepare(t, dir, "run", "--task-file", "tasks.json", "-j", "2", "--shutdown-grace-period", "0", "--kill-delay", "0", "--",
		"sh", "-c", `[ {data.n} = 31 ] && { echo ready > "$1"; exec sleep 1000; }; head -c 60000 /dev/zero | tr '\0' a >&2`, "sh", pipe)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in.cmd.Stderr = w
	in.start()
	_ = w.Close()
	ready, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(ready).ReadString('\n'); line != "ready\n" { // by then, 1.8 MB have been written
		t.Fatalf("the task reported %q, error %v", line, err)
	}
	in.signal(syscall.SIGTERM)
	in.want(143)
	if n := len(in.byTask()); n < 30 {
		t.Errorf("%d events, want those of the tasks that have ended", n)
	}
	_ = r.Close()
	_ = ready.Close()
}

// If the start of a run blocks while it opens a file, the first signal ends the run, and the
// temporary directory is removed.
func TestSignalWhileOpening(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"event log": {"--task-file", "tasks.json", "--event-log-file", "pipe"},
		"task file": {"--task-file", "pipe"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := withTasks(t, 1)
			if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil { // no other process opens it
				t.Fatal(err)
			}
			tmp := t.TempDir()
			in := prepare(t, dir, append(append([]string{"run", "--verbose"}, args...), "--", "true")...)
			in.cmd.Env = append(in.cmd.Env, "TMPDIR="+tmp)
			in.start()
			in.awaitLog("opening the event log file")
			in.signal(syscall.SIGTERM)
			in.want(143)
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("files left in TMPDIR: %v, error %v", left, err)
			}
			if name == "event log" {
				in.wantError("event log: opening pipe")
			}
		})
	}
}

// JSON values pass unchanged from the task file to the event. A value that an argument cannot
// contain fails only its own task.
func TestJSONPassesFromFileToEvent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var lines strings.Builder
	values := rawjsontest.Corpus()
	for i, value := range values {
		fmt.Fprintf(&lines, `{"task_id":"t%d\udce9","data":%s}`+"\n", i, value)
	}
	write(t, dir, "tasks.jsonl", lines.String())
	in := prepare(t, dir, "run", "--task-file", "tasks.jsonl", "--", "cat").start()
	in.want(0)
	log, err := os.ReadFile(filepath.Join(dir, "events.log"))
	if err != nil {
		t.Fatal(err)
	}
	for i, value := range values {
		want := fmt.Sprintf(`"task_id":"t%d\udce9","elapsed_time":`, i)
		result := fmt.Sprintf(`"result":{"task_id":"t%d\udce9","data":%s},`, i, value)
		if !strings.Contains(string(log), want) || !strings.Contains(string(log), result) {
			t.Errorf("no event contains %.200s", result)
		}
	}
	write(t, dir, "two.jsonl", `{"task_id":"a","data":{"f":"caf\udce9"}}`+"\n"+`{"task_id":"b","data":{"f":"x"}}`)
	in = prepare(t, dir, "run", "--task-file", "two.jsonl", "--event-log-file", "two.log", "--", "echo", "{data.f}").start()
	in.want(0)
	two, err := os.ReadFile(filepath.Join(dir, "two.log"))
	if text := string(two); err != nil || !strings.Contains(text, "half of a surrogate pair") || !strings.Contains(text, `"result":"x"`) {
		t.Errorf("unexpected event log, error %[2]v:\n%[1]s", text, err)
	}
}

func TestLogFormat(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"auto": `{"level":"info",`, "json": `{"level":"info",`, "console": " INF t0: x\n"} {
		in := run(t, 1, 0, "run", "--task-file", "tasks.json", "--log-format", format, "--", "sh", "-c", "echo x >&2")
		in.wantError(want)
		if console := strings.Contains(in.stderr.String(), "events:   events.log"); console != (format == "console") {
			t.Errorf("%s: the summary is\n%s", format, in.stderr.String())
		}
	}
}
