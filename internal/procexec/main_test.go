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

// childVar names what the test binary is to be instead of the tests.
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

// long is how long a test waits for what ought to come at once.
const long = time.Minute

// isolatedVar says that this process runs one test for itself.
const isolatedVar = "PROCEXEC_TEST_ISOLATED"

// isolated runs a test that looks at its whole process, its descriptors or its
// children, in a process of its own.
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
	// By default a program under the race detector takes a second to exit.
	cmd.Env = append(os.Environ(), isolatedVar+"="+t.Name(), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

// self is the test binary.
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

// sh is a command line that runs a script; args are its $1, $2 and so on.
func sh(script string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", script, "sh"}, args...)
}

// task is a task that needs nothing.
var task = procexec.Task{ID: "task-1", Data: []byte(`{}`), Attempt: 1}

// run runs one task in a Launcher of its own.
func run(t *testing.T, opts procexec.CommandOptions, task procexec.Task) procexec.TaskResult {
	t.Helper()
	l := newLauncher(t, procexec.Options{Slots: task.Slot + 1})
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

// async runs one task in the background.
func async(t *testing.T, c *procexec.Command, task procexec.Task, signals procexec.StopSignals) <-chan procexec.TaskResult {
	t.Helper()
	reports := make(chan procexec.TaskResult, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if r, err := c.Run(task, signals); err != nil {
			t.Errorf("run: %v", err)
		} else {
			reports <- r
		}
	}()
	t.Cleanup(func() { <-ended })
	return reports
}

// receive waits for a value that ought to come at once.
func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("waited %v for %s", long, what)
		panic("unreachable")
	}
}

// lines collects what tasks write to their standard error.
type lines struct {
	mu        sync.Mutex
	all       []string
	continued []bool
	ch        chan string
}

func newLines() *lines { return &lines{ch: make(chan string, 1000)} }

func (l *lines) take(_ procexec.Task, line []byte, continued bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all, l.continued = append(l.all, string(line)), append(l.continued, continued)
	if len(l.all) <= cap(l.ch) {
		l.ch <- string(line)
	}
}

// next waits for the next line, which must be want.
func (l *lines) next(t *testing.T, want string) {
	t.Helper()
	if got := receive(t, l.ch, "the line "+want); got != want {
		t.Fatalf("the task said %q, want %q", got, want)
	}
}

// life is a named pipe that processes hold open for as long as they live: each
// opens it with exec 9>"$path", and says so before the test looks at it.
type life struct {
	path string
	r    *os.File
}

func newLife(t *testing.T) *life {
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
	return &life{path: path, r: r}
}

// over waits until nobody holds the pipe any more.
func (l *life) over(t *testing.T) {
	t.Helper()
	if err := l.r.SetReadDeadline(time.Now().Add(long)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, l.r); err != nil {
		t.Fatalf("a process that holds %s lives on: %v", filepath.Base(l.path), err)
	}
}

// goesOn fails the test if nobody holds the pipe any more.
func (l *life) goesOn(t *testing.T) {
	t.Helper()
	conn, err := l.r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int // -1, for EAGAIN, while there is a writer that says nothing
	if err := conn.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), make([]byte, 1)) }); err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		t.Fatalf("the process that holds %s has ended", filepath.Base(l.path))
	}
}
