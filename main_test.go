package ctworker_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is a worker program under test in its own directory.
type program struct {
	t              *testing.T
	dir            string
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

// event is one line of the event log.
type event struct {
	Type      string          `json:"event_type"`
	TaskID    string          `json:"task_id"`
	Retry     bool            `json:"retry"`
	Result    json.RawMessage `json:"result"`
	Exception string          `json:"exception"`
	ExitCode  int             `json:"exit_code"`
	Slot      int             `json:"slot"`
}

func startProgram(t *testing.T, dir, name string, args ...string) *program {
	t.Helper()
	return startProgramIn(t, dir, name, nil, args...)
}

// startProgramIn starts a program with additional environment variables.
func startProgramIn(t *testing.T, dir, name string, env []string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, dir: dir, cmd: exec.Command(self, args...)}
	p.cmd.Dir = dir
	p.cmd.Env = append(append(withoutSettings(os.Environ()), env...), programVar+"="+name, "GORACE=atexit_sleep_ms=0", "TMPDIR="+t.TempDir())
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.WaitDelay = 10 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// want waits for the program to exit and fails the test if its exit code is not code.
func (p *program) want(code int) {
	p.t.Helper()
	timer := time.AfterFunc(testTimeout, func() { _ = p.cmd.Process.Signal(syscall.SIGQUIT) })
	defer timer.Stop()
	err := p.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		p.t.Error(err)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("exit code %d, want %d; stdout and stderr:\n%s\n%s", got, code, p.stdout.String(), p.stderr.String())
	}
}

// events returns the event of each task, by task ID. An event without a task has the key
// "".
func (p *program) events() map[string]event {
	p.t.Helper()
	f, err := os.Open(filepath.Join(p.dir, "events.log"))
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	all := map[string]event{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			p.t.Fatal(err)
		}
		if _, twice := all[e.TaskID]; twice {
			p.t.Errorf("task %q has two events", e.TaskID)
		}
		all[e.TaskID] = e
	}
	return all
}

// withTasks creates a directory with a task file. Each action is one task, whose ID is the action.
func withTasks(t *testing.T, actions ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	var b strings.Builder
	for _, a := range actions {
		do, n, _ := strings.Cut(a, ":")
		if n == "" {
			n = "0"
		}
		fmt.Fprintf(&b, `{"task_id":%q,"data":{"do":%q,"n":%s}}`+"\n", a, do, n)
	}
	write(t, dir, "tasks.jsonl", b.String())
	return dir
}

func TestMain_Outcomes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"behave", "in-process"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := withTasks(t, "nil", "text", "retry:4", "error", "permanent", "panic:5", "goexit", "nan", "echo:1", "large:2000", "stubborn", "deadline")
			p := startProgram(t, dir, name, "--task-file", "tasks.jsonl", "-j2", "--max-runtime", "1", "--kill-delay", "0.5", "--retry-on-timeout", "--retry-on-exception", "--max-result-size", "1000")
			p.want(0)
			all := p.events()
			for task, want := range map[string]event{
				"nil":        {Type: "task_completed", Result: []byte(`null`)},
				"retry:4":    {Type: "task_completed", Result: []byte(`{"n":4}`), Retry: true},
				"echo:1":     {Type: "task_completed", Result: []byte(`{"do":"echo","n":1}`)},
				"error":      {Type: "task_exception", Exception: "fs.PathError: open x: no such file", Retry: true},
				"permanent":  {Type: "task_exception", Exception: "*fmt.wrapError: task permanent: code 3\n*ctworker_test.ownError: code 3"},
				"panic:5":    {Type: "task_exception", Exception: "ctworker_test.panics\n\t", Retry: true},
				"goexit":     {Type: "task_exception", Exception: "runtime.Goexit", Retry: true},
				"nan":        {Type: "task_exception", Exception: "NaN", Retry: true},
				"large:2000": {Type: "task_exception", Exception: "--max-result-size", Retry: true},
				"stubborn":   {Type: "task_timed_out", Retry: true},
				"deadline":   {Type: "task_timed_out", Retry: true},
			} {
				got := all[task]
				if got.Type != want.Type || got.Retry != want.Retry || want.Result != nil && string(got.Result) != string(want.Result) || !strings.Contains(got.Exception, want.Exception) {
					t.Errorf("%s: %+v %s, want %+v %s", task, got, got.Result, want, want.Result)
				}
			}
		})
	}
}

// A task observes a termination notice, and no shutdown is requested.
func TestMain_TerminationNotice(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"behave", "in-process"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := withTasks(t, "await termination", "await termination")
			p := startProgram(t, dir, name, "--task-file", "tasks.jsonl", "-j1", "--simulate-spot-termination-after", "1")
			p.want(0)
			done := 0
			for _, e := range p.events() {
				if e.Type == "task_completed" && string(e.Result) == "false" {
					done++
				}
			}
			if done != 1 {
				t.Errorf("%d tasks completed, want 1", done)
			}
		})
	}
}

// A crash affects only the task that was running in the process.
func TestMain_Crashes(t *testing.T) {
	t.Parallel()
	p := startProgram(t, withTasks(t, "echo:1", "exit:3", "kill", "echo:2", "echo:3"), "behave", "--task-file", "tasks.jsonl", "--strict")
	p.want(3)
	all := p.events()
	for task, want := range map[string]event{
		"echo:1": {Type: "task_completed"}, "echo:2": {Type: "task_completed"}, "echo:3": {Type: "task_completed"},
		"exit:3": {Type: "task_exited", ExitCode: 3}, "kill": {Type: "task_exited", ExitCode: -9},
	} {
		if got := all[task]; got.Type != want.Type || got.ExitCode != want.ExitCode {
			t.Errorf("%s: %+v, want %+v", task, got, want)
		}
	}
}

func TestWithTasks(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"source", "source-in-process"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProgram(t, t.TempDir(), name, "--task-file", "ignored.json", "-j", "2", "--tasks-to-skip", "5", "--max-num-tasks", "500")
			p.want(0)
			all := p.events()
			if got, first, last := len(all), all["n5"], all["n504"]; got != 500 || string(first.Result) != `{"Do":"echo","N":5}` || string(last.Result) != `{"Do":"echo","N":504}` {
				t.Errorf("%d events; %+v; %+v", got, first, last)
			}
		})
	}
	p := startProgram(t, t.TempDir(), "broken-source", "--num-cpus", "4", "--simulate-spot-termination-after", "1000")
	p.want(1)
	if all := p.events(); all["a"].Type != "task_completed" || all[""].Type != "fatal_exception" || !strings.Contains(all[""].Exception, "task 2 of the function: the list is gone") {
		t.Errorf("events: %+v", all)
	}
	p = startProgram(t, t.TempDir(), "bad-data")
	p.want(1)
	if !strings.Contains(p.stderr.String(), "Data is not valid JSON") {
		t.Errorf("standard error: %s", p.stderr.String())
	}
}

// The program's own flags may be mixed with the flags of the worker.
func TestWithFlags(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args string
		want string
	}{
		{"--task-file tasks.jsonl", `"0.5 false  [] []"`},
		{"--threshold 1 --task-file tasks.jsonl -o file --loud", `"1 true file [] []"`},
		{"-loud=false -o=file -j2 --threshold=-2 --task-file=tasks.jsonl a -o b", `"-2 false file [a -o b] [a -o b]"`},
		{"--task-file tasks.jsonl --threshold -3 -- --threshold 4", `"-3 false  [--threshold 4] [--threshold 4]"`},
	} {
		for _, name := range []string{"flags", "flags-in-process"} {
			t.Run(name+" "+tc.args, func(t *testing.T) {
				t.Parallel()
				p := startProgram(t, withTasks(t, "x"), name, strings.Fields(tc.args)...)
				p.want(0)
				if got := string(p.events()["x"].Result); got != tc.want {
					t.Errorf("result %s, want %s", got, tc.want)
				}
			})
		}
	}
}

func TestMain_UsageErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		program, args string
		want          []string
	}{
		{"flags", "--threshold high --no-such --max-runtime soon", []string{`--threshold "high"`, "--no-such", `--max-runtime "soon"`, "--task-file", `flags: nothing was run; see "flags --help"`}},
		{"flags", "--task-file t --threshold", []string{"--threshold: no value"}},
		{"flags", "--task-file t -o --loud", []string{"-o: no value"}},
		{"flags", "--job-id --loud --provider AWS", []string{"--job-id: no value"}},
		{"flags", "--task-file t --loud=perhaps", []string{`--loud "perhaps"`}},
		{"flags", "--warm --task-file t", []string{"--warm: unknown flag; use --isolation reuse"}},
		{"flags", "--isolation fork --task-file t", []string{`--isolation "fork": give reuse or task`}},
		{"behave", "--max-runtim 5 --task-file t", []string{"did you mean --max-runtime"}},
		{"flags", "--task-file t --thresold 3 -- x", []string{"--thresold", "did you mean --threshold?"}},
		{"flags", "run --task-file t", []string{`--task-file: flags must precede the program's own arguments, which begin with "run"`}},
		{"behave", "", []string{"--task-file", "--provider"}},
		{"conflict", "--task-file t", []string{"your flag --max-runtime has the same name", "your flag --help has the same name"}},
		{"in-process", "--task-file none.json", []string{"none.json"}},
	} {
		t.Run(tc.program+" "+tc.args, func(t *testing.T) {
			t.Parallel()
			p := startProgram(t, t.TempDir(), tc.program, strings.Fields(tc.args)...)
			p.want(2)
			for _, want := range tc.want {
				if !strings.Contains(p.stderr.String(), want) {
					t.Errorf("%q is missing in:\n%s", want, p.stderr.String())
				}
			}
			for line := range strings.Lines(p.stderr.String()) {
				if !strings.Contains(line, ": ") || strings.HasPrefix(line, "panic") {
					t.Errorf("not one error per line: %q", line)
				}
			}
		})
	}
}

// Tasks observe a shutdown request and may finish.
func TestMain_Shutdown(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"behave", "in-process"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			actions := []string{"await shutdown"}
			for i := range 100 {
				actions = append(actions, fmt.Sprint("echo:", i))
			}
			dir := withTasks(t, actions...)
			started := fifo(t, dir, "started")
			p := startProgram(t, dir, name, "--task-file", "tasks.jsonl")
			started()
			_ = p.cmd.Process.Signal(syscall.SIGINT)
			p.want(130)
			all := p.events()
			// A few more tasks may start at the moment of the request.
			if got := all["await shutdown"]; len(all) > 10 || string(got.Result) != `"saw it"` {
				t.Errorf("%d events; the waiting task: %+v", len(all), got)
			}
		})
	}
}

// At the end of the grace period, the context of a task ends, and then the task is killed.
func TestMain_ShutdownTerminatesTasks(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"behave", "in-process"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := withTasks(t, "await end", "stubborn")
			started := fifo(t, dir, "started")
			p := startProgram(t, dir, name, "--task-file", "tasks.jsonl", "-j2", "--shutdown-grace-period", "0.1", "--kill-delay", "0.3")
			started()
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			p.want(143)
		})
	}
}
