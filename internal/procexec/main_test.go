package procexec_test

import (
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/procexec"
)

// childVar is an environment variable. If it is set, the test binary runs a program from children
// instead of the tests.
const childVar = "PROCEXEC_TEST_CHILD"

func TestMain(m *testing.M) {
	procexec.RunGuard()
	maps.Copy(children, workerChildren)
	if name := os.Getenv(childVar); name != "" {
		_ = os.Unsetenv(childVar)
		children[name](os.Args[1:])
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// testTimeout is how long a test waits for something that should happen immediately. It is long
// because a machine that runs many tests can be slow.
const testTimeout = time.Minute

// isolatedVar is an environment variable. Its value is the name of the only test that this process
// runs.
const isolatedVar = "PROCEXEC_TEST_ISOLATED"

// isolated runs a test in a separate process. Tests need this if they count the descriptors or the
// children of their process.
func isolated(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getenv(isolatedVar) == t.Name() {
		test(t)
		return
	}
	t.Parallel()
	var pattern []string
	for name := range strings.SplitSeq(t.Name(), "/") {
		pattern = append(pattern, "^"+name+"$")
	}
	cmd := exec.CommandContext(t.Context(), self(t), "-test.run="+strings.Join(pattern, "/"), "-test.count=1", "-test.v", "-test.timeout=2m")
	// By default, a program with the race detector waits one second before it exits.
	cmd.Env = append(os.Environ(), isolatedVar+"="+t.Name(), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

// self returns the path of the test binary.
func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func newLauncher(t testing.TB, opts procexec.Options) *procexec.Launcher {
	t.Helper()
	l, err := procexec.NewLauncher(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func newCommand(t testing.TB, l *procexec.Launcher, opts procexec.CommandOptions) *procexec.Command {
	t.Helper()
	c, err := procexec.NewCommand(l, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sh returns a command line that runs script in a shell. The script gets args as $1, $2 and so on.
func sh(script string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", script, "sh"}, args...)
}

// task is a task for tests that need no particular task.
var task = procexec.Task{ID: "task-1", Data: []byte(`{}`), Attempt: 1}

// run runs one task with a new Launcher.
func run(t *testing.T, opts procexec.CommandOptions, task procexec.Task) procexec.TaskResult {
	t.Helper()
	l := newLauncher(t, procexec.Options{})
	return runWith(t, newCommand(t, l, opts), task, procexec.StopSignals{})
}

func runWith(t *testing.T, c *procexec.Command, task procexec.Task, signals procexec.StopSignals) procexec.TaskResult {
	t.Helper()
	r, err := c.Run(task, signals)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// async runs one task in a goroutine, and sends its result to the returned channel.
func async(t *testing.T, c *procexec.Command, task procexec.Task, signals procexec.StopSignals) <-chan procexec.TaskResult {
	t.Helper()
	results := make(chan procexec.TaskResult, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if r, err := c.Run(task, signals); err != nil {
			t.Errorf("run: %v", err)
		} else {
			results <- r
		}
	}()
	t.Cleanup(func() { <-ended })
	return results
}

// receive returns the next value of a channel. It fails the test after testTimeout.
func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(testTimeout)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("waited %v for %s", testTimeout, what)
		panic("unreachable")
	}
}

// lines collects the lines that tasks write to their standard error.
type lines struct {
	mu        sync.Mutex
	all       []string
	continued []bool
	ch        chan string
}

func newLines() *lines { return &lines{ch: make(chan string, 1000)} }

func (l *lines) add(_ procexec.Task, line []byte, continued bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all, l.continued = append(l.all, string(line)), append(l.continued, continued)
	if len(l.all) <= cap(l.ch) {
		l.ch <- string(line)
	}
}

// expect waits for the next line, and fails the test if the line is not want.
func (l *lines) expect(t *testing.T, want string) {
	t.Helper()
	if got := receive(t, l.ch, "the line "+want); got != want {
		t.Fatalf("the task wrote %q, want %q", got, want)
	}
}

// lifeline is a named pipe by which a test notices that processes exit. Each process opens the pipe
// with exec 9>"$path", and then writes a line such as "ready". The pipe is closed when all these
// processes have exited.
type lifeline struct {
	path string
	r    *os.File
}

func newLifeline(t *testing.T) *lifeline {
	t.Helper()
	path := filepath.Join(t.TempDir(), "life")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return &lifeline{path: path, r: r}
}

// awaitClosed waits until no process holds the pipe open.
func (l *lifeline) awaitClosed(t *testing.T) {
	t.Helper()
	if err := l.r.SetReadDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, l.r); err != nil {
		t.Fatalf("a process that holds %s is still running: %v", filepath.Base(l.path), err)
	}
}

// checkOpen fails the test if no process holds the pipe open.
func (l *lifeline) checkOpen(t *testing.T) {
	t.Helper()
	conn, err := l.r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int // -1 (EAGAIN) if a process holds the pipe open
	if err := conn.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), make([]byte, 1)) }); err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		t.Fatalf("the process that holds %s has exited", filepath.Base(l.path))
	}
}
