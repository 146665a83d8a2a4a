package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/procexec"
)

// asCommand is the variable that makes the test binary run as ctworker.
const asCommand = "TEST_BE_CTWORKER"

func TestMain(m *testing.M) {
	procexec.RunGuard()
	if os.Getenv(asCommand) != "" {
		main()
	}
	// Under nohup, this process ignores SIGHUP, and the programs that it starts would ignore it too.
	// Because this process handles the signal, the programs start with the default action.
	for _, sig := range []os.Signal{unix.SIGHUP, unix.SIGINT} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
	os.Exit(m.Run())
}

// invocation is a ctworker process under test, with its own directory.
type invocation struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr lockedBuffer

	exited  chan struct{} // closed once the process has exited and waitErr is set
	waitErr error         // error of Wait
}

// lockedBuffer is a buffer that can be read while a process writes to it.
type lockedBuffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	grown chan struct{} // closed by the next Write; nil if no caller of growth waits
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
	return l.b.Write(p)
}

// growth returns the current text, and a channel that is closed when text is added.
func (l *lockedBuffer) growth() (text string, grown <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	return l.b.String(), l.grown
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// prepare returns an invocation that has not been started.
func prepare(t *testing.T, dir string, args ...string) *invocation {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in := &invocation{t: t, dir: dir, cmd: exec.Command(self, args...)}
	in.cmd.Dir = dir
	in.cmd.Stdout, in.cmd.Stderr = &in.stdout, &in.stderr
	in.cmd.Env = append(withoutSettings(os.Environ()), asCommand+"=1", "GORACE=atexit_sleep_ms=0", "TMPDIR="+t.TempDir())
	// Wait must return even if a process that survives the command holds a pipe open.
	in.cmd.WaitDelay = 10 * time.Second
	return in
}

func withoutSettings(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "RMS_CLOUD_TASKS_") {
			kept = append(kept, v)
		}
	}
	return kept
}

func (in *invocation) start() *invocation {
	in.t.Helper()
	if err := in.cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() { _ = in.cmd.Process.Kill() })
	in.exited = make(chan struct{})
	go func() {
		defer close(in.exited)
		in.waitErr = in.cmd.Wait()
	}()
	return in
}

func (in *invocation) signal(sig os.Signal) {
	in.t.Helper()
	if err := in.cmd.Process.Signal(sig); err != nil {
		in.t.Fatal(err)
	}
}

// wait waits until the process has exited, and returns the exit code; -1 if a signal killed it.
func (in *invocation) wait() int {
	in.t.Helper()
	<-in.exited
	if exit := (*exec.ExitError)(nil); in.waitErr != nil && !errors.As(in.waitErr, &exit) {
		in.t.Fatalf("%v\n%s", in.waitErr, in.stderr.String())
	}
	return in.cmd.ProcessState.ExitCode()
}

// want waits until the process has exited, and fails the test unless the exit code is code.
func (in *invocation) want(code int) {
	in.t.Helper()
	if got := in.wait(); got != code {
		in.t.Fatalf("exit code %d, want %d; stdout and stderr:\n%s\n%s", got, code, in.stdout.String(), in.stderr.String())
	}
}

// wantError fails the test unless standard error contains every text.
func (in *invocation) wantError(texts ...string) {
	in.t.Helper()
	for _, text := range texts {
		if !strings.Contains(in.stderr.String(), text) {
			in.t.Errorf("standard error does not contain %q:\n%s", text, in.stderr.String())
		}
	}
}

// run runs ctworker with args in a new directory, with a task file of n tasks named t0, t1 and so
// on. It fails the test unless ctworker exits with code.
func run(t *testing.T, n, code int, args ...string) *invocation {
	t.Helper()
	in := prepare(t, withTasks(t, n), args...).start()
	in.want(code)
	return in
}

func withTasks(t *testing.T, n int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	tasks := make([]string, n)
	for i := range tasks {
		tasks[i] = fmt.Sprintf(`{"task_id":"t%d","data":{"n":%d,"big":12345678901234567890}}`, i, i)
	}
	write(t, dir, "tasks.json", "["+strings.Join(tasks, ",\n")+"]\n")
	return dir
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// event is a line of the event log.
type event struct {
	Type      string          `json:"event_type"`
	TaskID    string          `json:"task_id"`
	Retry     bool            `json:"retry"`
	Result    json.RawMessage `json:"result"`
	Exception string          `json:"exception"`
	Stack     string          `json:"stack_trace"`
	ExitCode  int             `json:"exit_code"`
	Slot      int             `json:"slot"`
	Attempt   int             `json:"attempt"`
	Elapsed   float64         `json:"elapsed_time"`
}

// events returns the events of the event log, and fails the test if a line is not valid.
func (in *invocation) events() []event {
	in.t.Helper()
	f, err := os.Open(filepath.Join(in.dir, "events.log"))
	if err != nil {
		in.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var all []event
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			in.t.Fatalf("event %q: %v", lines.Text(), err)
		}
		all = append(all, e)
	}
	if err := lines.Err(); err != nil {
		in.t.Fatal(err)
	}
	return all
}

// byTask returns the event of each task, and fails the test if a task has two events.
func (in *invocation) byTask() map[string]event {
	in.t.Helper()
	all := map[string]event{}
	for _, e := range in.events() {
		if e.TaskID == "" {
			continue
		}
		if _, twice := all[e.TaskID]; twice {
			in.t.Errorf("task %s has two events", e.TaskID)
		}
		all[e.TaskID] = e
	}
	return all
}

// fifo creates a named pipe in dir, to which tasks write lines for the test. It returns a reader of
// the lines. The test keeps the pipe open for writing, so that the reader never reaches its end.
func fifo(t *testing.T, dir string) (path string, lines *bufio.Reader) {
	t.Helper()
	path = filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return path, bufio.NewReader(f)
}

// pids reads n process ids, one per line.
func pids(t *testing.T, lines *bufio.Reader, n int) []int {
	t.Helper()
	var all []int
	for range n {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("a task reported %q", line)
		}
		all = append(all, pid)
	}
	return all
}

// field returns a field of the summary in the log, or "".
func (in *invocation) field(name string) string {
	in.t.Helper()
	for line := range strings.SplitSeq(in.stderr.String(), "\n") {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["message"] == "run ended" {
			text, _ := fields[name].(string)
			return text
		}
	}
	return ""
}
