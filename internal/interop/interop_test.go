//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/testutil/pubsubtest"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// timeout is the time limit of a command. If a command takes longer, it is killed, and its test fails.
const timeout = 4 * time.Minute

// TestInterop runs everything against one server of each kind.
func TestInterop(t *testing.T) {
	s := startSystem(t)
	for name, test := range map[string]func(*system, *testing.T){
		"StartupScripts":   (*system).startupScripts,
		"WorkerData":       (*system).workerData,
		"Examples":         (*system).examples,
		"ExampleJob":       (*system).exampleJob,
		"ManagerToWorker":  (*system).managerToWorker,
		"LoadToRMSWorker":  (*system).loadToRMSWorker,
		"Messages":         (*system).messages,
		"QueueCommands":    (*system).queueCommands,
		"Malformed":        (*system).malformed,
		"ExactlyOnceGCP":   (*system).exactlyOnceGCP,
		"ExactlyOnceAWS":   (*system).exactlyOnceAWS,
		"EventFields":      (*system).eventFields,
		"ManagerKeepAlive": (*system).managerKeepAlive,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(s, t)
		})
	}
}

// system contains the servers and settings that the tests share.
type system struct {
	python, manager string // Python with rms-cloud-tasks, and the command of rms-cloud-tasks
	source          string // source distribution of rms-cloud-tasks
	ctworker, sdk   string
	testdata        string
	env             []string
	sqs, pubsub     string
	metadata        string
}

func startSystem(t *testing.T) *system {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	at := func(parts ...string) string {
		path := filepath.Join(append([]string{root}, parts...)...)
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%v: make test-interop builds and installs what the test needs", err)
		}
		return path
	}
	s := &system{
		python: at("build", "venv-interop", "bin", "python3"), manager: at("build", "venv-interop", "bin", "cloud_tasks"),
		source: at("build", "interop", "source"), ctworker: at("build", "ctworker"), sdk: at("sdk", "python", "src"),
		testdata: at("internal", "interop", "testdata"),
		sqs:      sqstest.Start(t), pubsub: pubsubtest.Start(t),
	}
	home := t.TempDir()
	// User credentials, which need no private key; the emulator does not check them.
	credentials := filepath.Join(home, "credentials.json")
	write(t, credentials, `{"type": "authorized_user", "client_id": "x", "client_secret": "x", "refresh_token": "x"}`)
	s.metadata = startMetadata(t)
	s.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH=" + s.sdk, "CTWORKER_BIN=" + s.ctworker,
		"AWS_ENDPOINT_URL=" + s.sqs, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x",
		"PUBSUB_EMULATOR_HOST=" + s.pubsub, "GOOGLE_APPLICATION_CREDENTIALS=" + credentials,
	}
	return s
}

// command is a process that a test has started.
type command struct {
	t              *testing.T
	cmd            *exec.Cmd
	remaining      io.Reader // standard output that lines has not read; nil if there is none
	stdout, stderr bytes.Buffer
}

// start starts a command in a directory, with additional environment variables. The returned command
// stores the standard output and standard error of the process. If the process still runs at the end
// of the test, it is killed.
func (s *system) start(t *testing.T, dir string, env []string, name string, args ...string) *command {
	t.Helper()
	c := s.command(t, dir, env, name, args...)
	c.cmd.Stdout = &c.stdout
	c.launch()
	return c
}

func (s *system) command(t *testing.T, dir string, env []string, name string, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	c := &command{t: t, cmd: exec.CommandContext(ctx, name, args...)}
	c.cmd.Dir, c.cmd.Env, c.cmd.Stderr = dir, append(slices.Clone(s.env), env...), &c.stderr
	// Kill the whole process group: the workers of both systems start processes.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.Cancel = func() error { return syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }
	c.cmd.WaitDelay = 10 * time.Second
	return c
}

func (c *command) launch() {
	c.t.Helper()
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			_ = c.cmd.Cancel()
			_ = c.cmd.Wait()
		}
	})
}

// lines starts the command, and yields its output line by line until it ends or the caller stops.
func (c *command) lines() iter.Seq[string] {
	c.t.Helper()
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.launch()
	return func(yield func(string) bool) {
		in := bufio.NewReader(out)
		for {
			line, err := in.ReadString('\n')
			c.stdout.WriteString(line)
			if err != nil {
				return
			}
			if !yield(line) {
				c.remaining = in
				return
			}
		}
	}
}

// wait waits until the process has exited, and fails the test unless the exit code is code.
func (c *command) wait(code int) string {
	c.t.Helper()
	if c.remaining != nil {
		_, _ = c.stdout.ReadFrom(c.remaining)
	}
	err := c.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		c.t.Errorf("%v: %v", c.cmd.Args, err)
	}
	if got := c.cmd.ProcessState.ExitCode(); got != code {
		c.t.Fatalf("%v: exit code %d, want %d (-1: killed, after %v at the latest); stdout:\n%s\nstderr:\n%s", c.cmd.Args, got, code, timeout, c.stdout.String(), c.stderr.String())
	}
	return c.stdout.String()
}

// run runs a command, and fails the test unless the exit code is 0.
func (s *system) run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	return s.start(t, dir, env, name, args...).wait(0)
}

// event is an event as either system writes it.
type event struct {
	Type       string          `json:"event_type"`
	TaskID     string          `json:"task_id"`
	Retry      bool            `json:"retry"`
	Result     json.RawMessage `json:"result"`
	Exception  string          `json:"exception"`
	ExitCode   int             `json:"exit_code"`
	InstanceID string          `json:"instance_id"`
	Message    json.RawMessage `json:"message"`
}

// parse reads JSON lines.
func parse(t *testing.T, lines string) (all []event) {
	t.Helper()
	for line := range strings.Lines(lines) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("event %q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

// count returns the number of events by type. Events that request a retry are counted separately, as
// "task_completed retry" for example. keep_alive events are omitted, because their number depends on
// the duration of the test. tasks_loaded events are omitted, because only "ctworker load" sends them.
func count(all []event) map[string]int {
	n := map[string]int{}
	for _, e := range all {
		switch {
		case e.Type == "keep_alive" || e.Type == "tasks_loaded":
		case e.Retry:
			n[e.Type+" retry"]++
		default:
			n[e.Type]++
		}
	}
	return n
}

// wantCounts fails the test unless the counts in got and want are equal. what describes the counts.
func wantCounts(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// encode returns a value as JSON.
func encode(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
