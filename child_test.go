package ctworker_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// engine simulates the engine: it is the peer of a child process in the protocol of docs/protocol.md.
type engine struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr bytes.Buffer
	conn   net.Conn
	lines  *bufio.Reader
	// claims is the reading end of the pipe for claims, and grants the writing end. Each byte in this
	// pipe permits the child to claim one task.
	claims, grants        *os.File
	shutdown, termination *os.File // writing ends of the notification pipes
}

type engineOptions struct {
	program  string
	args     []string
	noClaims bool // do not pass a pipe for claims
	hello    string
	env      []string
}

const defaultHello = `{"hello":{"version":1,"slot":3,"max_result_size":1000,"later":true,"worker":{"provider":null,"job_id":"j","num_cpus":4,"max_runtime":0.25,"keepalive_interval":2.5,"event_log_queue_name":"j-events","max_memory_allowed_per_task":0.5,` +
	`"shutdown_grace_period":30,"retry_on_exit":true,"event_log_file":"events.log","simulate_spot_termination_after":1.5,"simulate_spot_termination_delay":null}}}`

// startChild starts a child and sends the hello message.
func startChild(t *testing.T, opts engineOptions) *engine {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, cmd: exec.Command(self, opts.args...)}
	fds, pipes := descriptors(t)
	local, remote := os.NewFile(uintptr(fds[0]), "local"), os.NewFile(uintptr(fds[1]), "remote")
	defer func() { _ = local.Close(); _ = remote.Close() }()
	if e.conn, err = net.FileConn(local); err != nil {
		t.Fatal(err)
	}
	e.lines = bufio.NewReader(e.conn)
	file := func(fd int) *os.File {
		f := os.NewFile(uintptr(fd), "pipe")
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	e.claims, e.grants = file(pipes[0][0]), file(pipes[0][1])
	shutdown, termination := file(pipes[1][0]), file(pipes[2][0])
	e.shutdown, e.termination = file(pipes[1][1]), file(pipes[2][1])

	program := opts.program
	if program == "" {
		program = "behave"
	}
	e.cmd.Env = append(withoutSettings(os.Environ()), programVar+"="+program, "GORACE=atexit_sleep_ms=0", "CTWORKER_SLOT=3",
		"CTWORKER_FD=3", "CTWORKER_SHUTDOWN_FD=5", "CTWORKER_TERMINATION_FD=6")
	if !opts.noClaims {
		e.cmd.Env = append(e.cmd.Env, "CTWORKER_CLAIM_FD=4")
	}
	e.cmd.Env = append(e.cmd.Env, opts.env...)
	e.cmd.ExtraFiles = []*os.File{remote, e.claims, shutdown, termination}
	e.cmd.Stdout, e.cmd.Stderr = &e.stdout, &e.stderr
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.cmd.Process.Kill(); _ = e.conn.Close() })
	if err := e.conn.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	if opts.hello == "" {
		opts.hello = defaultHello
	}
	e.send(opts.hello + "\n")
	return e
}

// descriptors returns a pair of connected sockets and three nonblocking pipes. Other child
// processes do not inherit them.
func descriptors(t *testing.T) (pair [2]int, pipes [3][2]int) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(pair[0])
	syscall.CloseOnExec(pair[1])
	for i := range pipes {
		if err := syscall.Pipe(pipes[i][:]); err != nil {
			t.Fatal(err)
		}
		for _, fd := range pipes[i] {
			syscall.CloseOnExec(fd)
			if err := syscall.SetNonblock(fd, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	return pair, pipes
}

// ready starts a child and reads its ready message.
func ready(t *testing.T, opts engineOptions) *engine {
	t.Helper()
	e := startChild(t, opts)
	want := fmt.Sprintf(`{"ready":{"version":1,"ahead":%t,"sdk":"ctworker-go `, !opts.noClaims)
	if line := e.line(); !strings.HasPrefix(line, want) {
		t.Fatalf("first line %q, want %q", line, want)
	}
	return e
}

func (e *engine) send(text string) {
	e.t.Helper()
	if _, err := e.conn.Write([]byte(text)); err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) line() string {
	e.t.Helper()
	line, err := e.lines.ReadString('\n')
	if err != nil {
		e.t.Fatalf("%v after %q; standard error: %s", err, line, e.stderr.String())
	}
	return strings.TrimSuffix(line, "\n")
}

func (e *engine) grant(n int) {
	e.t.Helper()
	if _, err := e.grants.Write(make([]byte, n)); err != nil {
		e.t.Fatal(err)
	}
}

// run sends one task and returns the reply.
func (e *engine) run(id, data string) string {
	e.t.Helper()
	e.grant(1)
	e.send(fmt.Sprintf(`{"task_id":%q,"attempt":1,"data":%s}`+"\n", id, data))
	return e.line()
}

// end closes the connection and returns the exit code.
func (e *engine) end() int {
	e.t.Helper()
	_ = e.conn.Close()
	return e.wait()
}

func (e *engine) wait() int {
	timer := time.AfterFunc(testTimeout, func() { _ = e.cmd.Process.Kill() })
	defer timer.Stop()
	_ = e.cmd.Wait()
	return e.cmd.ProcessState.ExitCode()
}

func TestChild_Replies(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		data string
		want string // the reply; … stands for any text
	}{
		{`{"do":"echo","n":12345678901234567890123,"x":[{"y":"}],\"{"}]}`, `…cannot unmarshal number…`},
		{`{"do":"echo","x":[{"y":"}],\"{"},12345678901234567890123.50]}`, `{"task_id":"t","retry":false,"result":{"do":"echo","x":[{"y":"}],\"{"},12345678901234567890123.50]}}`},
		{`{"do":"nil"}`, `{"task_id":"t","retry":false,"result":null}`},
		{`{"do":"text"}`, `{"task_id":"t","retry":false,"result":"a <b> \"c\"\n` + "\u00e4" + `\u2028"}`},
		{`{"do":"retry","n":3}`, `{"task_id":"t","retry":true,"result":{"n":3}}`},
		{`{"do":"error"}`, `{"task_id":"t","exception":"*fmt.wrapError: task t: open x: no such file or directory\n*fs.PathError: open x: no such file or directory\nsyscall.Errno: no such file or directory"}`},
		{`{"do":"joined"}`, `{"task_id":"t","exception":"*fmt.wrapError: both: first\n  second: code 7\n*errors.joinError: first\n  second: code 7\n  *errors.errorString: first\n  *fmt.wrapError: second: code 7\n  *ctworker_test.ownError: code 7"}`},
		{`{"do":"panicking error"}`, `{"task_id":"t","exception":"*ctworker_test.panickingError: …not even an error…"}`},
		{`{"do":"nil error"}`, `{"task_id":"t","exception":"*fmt.wrapError: typed: …*ctworker_test.ownError: …"}`},
		{`{"do":"channel"}`, `{"task_id":"t","exception":"result of type chan int cannot be encoded as JSON …"}`},
		{`{"do":"nan"}`, `{"task_id":"t","exception":"result of type map[string]interface {} cannot be encoded as JSON (json: unsupported value: NaN at \"/x\"): return a value …"}`},
		{`{"do":"panicking result"}`, `…panic: no JSON today\n…panickingResult.MarshalJSON…`},
		{`{"do":"bad raw"}`, `{"task_id":"t","retry":false,"result":null}`},
		{`{"do":"large","n":998}`, `{"task_id":"t","retry":false,"result":"xxx…xxx"}`},
		{`{"do":"large","n":999}`, `{"task_id":"t","exception":"result takes 1001 bytes as JSON, more than the limit of 1000: raise --max-result-size…"}`},
		{`{"do":"goexit"}`, `{"task_id":"t","exception":"the function called runtime.Goexit…"}`},
		{`{"do":"print"}`, `{"task_id":"t","retry":false,"result":"printed"}`},
		{`{"do":"worker"}`, `{"task_id":"t","retry":false,"result":"j 4 \u003cnil\u003e 250ms 30s true 3 events.log 1.5s j-events 2.5s true"}`},
		{`{"do":"deadline"}`, `{"task_id":"t","retry":false,"result":"true context deadline exceeded"}`},
		{`{"do":"ctx error"}`, `{"task_id":"t","exception":"context.deadlineExceededError: context deadline exceeded"}`},
		{`"text"`, `{"task_id":"t","exception":"*fmt.wrapError: data of task \"t\": json: cannot unmarshal string…"}`},
	} {
		t.Run(tc.data, func(t *testing.T) {
			t.Parallel()
			e := ready(t, engineOptions{})
			// After each of these tasks, the process can run another task.
			for range 2 {
				if got := strings.ReplaceAll(e.run("t", tc.data), "<nil>", `\u003cnil\u003e`); !matches(got, tc.want) {
					t.Errorf("replied %s\nwant %s", got, tc.want)
				}
			}
			if code := e.end(); code != 0 {
				t.Errorf("exit code %d; standard error: %s", code, e.stderr.String())
			}
		})
	}
}

// matches reports whether text matches pattern, in which … stands for any text.
func matches(text, pattern string) bool {
	parts := strings.Split(pattern, "…")
	if len(parts) == 1 {
		return text == pattern
	}
	if !strings.HasPrefix(text, parts[0]) || !strings.HasSuffix(text, parts[len(parts)-1]) {
		return false
	}
	for _, part := range parts {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
		if part == "" {
			continue
		}
	}
	return true
}

// A panic is reported with the stack of the user's frames only.
func TestChild_ReportsPanic(t *testing.T) {
	t.Parallel()
	e := ready(t, engineOptions{})
	for _, tc := range []struct {
		data string
		want []string
	}{
		{`{"do":"panic","n":5}`, []string{"panic: ", "index out of range [5] with length 1", "\ngithub.com/ctworker/ctworker_test.panics\n\t", "programs_test.go:", "\ngithub.com/ctworker/ctworker_test.behave\n\t"}},
		{`{"do":"panic error"}`, []string{"panic: *fmt.wrapError: wrapped: code 3\n*ctworker_test.ownError: code 3\n", "ctworker_test.behave\n\t"}},
		{`{"do":"nil map"}`, []string{"assignment to entry in nil map", "ctworker_test.behave\n\t"}},
	} {
		var reply struct{ Exception string }
		if err := json.Unmarshal([]byte(e.run("t", tc.data)), &reply); err != nil {
			t.Fatal(err)
		}
		at := 0
		for _, want := range tc.want {
			i := strings.Index(reply.Exception[at:], want)
			if i < 0 {
				t.Errorf("%s: %q is missing or out of order:\n%s", tc.data, want, reply.Exception)
				continue
			}
			at += i
		}
		for _, internal := range []string{"(*invoker)", "(*child)", "runtime.", "invoke.go", "ctworker.Func"} {
			if strings.Contains(strings.ReplaceAll(reply.Exception, "runtime.boundsError", ""), "\n"+internal) || strings.Contains(reply.Exception, "ctworker.(") {
				t.Errorf("%s: contains the internal frame %s:\n%s", tc.data, internal, reply.Exception)
			}
		}
	}
}

// If a task ends the process, no reply is sent.
func TestChild_ExitsDuringTask(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]int{`{"do":"exit","n":7}`: 7, `{"do":"exit","n":0}`: 0, `{"do":"kill"}`: -1} {
		e := ready(t, engineOptions{})
		e.grant(1)
		e.send(`{"task_id":"t","attempt":1,"data":` + data + "}\n")
		if line, err := e.lines.ReadString('\n'); err == nil {
			t.Errorf("%s: replied %q", data, line)
		}
		if code := e.wait(); code != want {
			t.Errorf("%s: exit code %d, want %d", data, code, want)
		}
	}
}

// Tasks run one at a time in the order of their arrival, and each is claimed when it
// starts.
func TestChild_ClaimsTasks(t *testing.T) {
	t.Parallel()
	e := ready(t, engineOptions{})
	e.grant(2)
	e.send(tasks("a", "b", "c", "d"))
	for _, want := range []string{
		`{"task_id":"a","retry":false,"result":1}`, `{"task_id":"b","retry":false,"result":2}`,
		`{"task_id":"c","returned":true}`, `{"task_id":"d","returned":true}`,
	} {
		if got := e.line(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	e.grant(1)
	e.send(tasks("e"))
	if got, want := e.line(), `{"task_id":"e","retry":false,"result":3}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// At the end of file of the pipe for claims, the child cannot claim a task either.
	_ = e.grants.Close()
	e.send(tasks("f"))
	if got, want := e.line(), `{"task_id":"f","returned":true}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func tasks(ids ...string) string {
	text := ""
	for _, id := range ids {
		text += fmt.Sprintf(`{"task_id":%q,"attempt":1,"data":{"do":"calls"}}`+"\n", id)
	}
	return text
}

// The child claims a waiting task only after it has replied to the previous task, so that ctworker
// can take the waiting task back.
func TestChild_DoesNotClaimWaitingTask(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	started := fifo(t, dir, "started")
	e := startChildIn(t, dir, strings.Replace(defaultHello, `"max_runtime":0.25`, `"max_runtime":1000`, 1))
	e.grant(2)
	e.send(`{"task_id":"a","attempt":1,"data":{"do":"await shutdown"}}` + "\n" + tasks("b"))
	started()
	if n, err := e.claims.Read(make([]byte, 8)); n != 1 || err != nil {
		t.Errorf("%d claims remain (error %v), want 1", n, err)
	}
	_, _ = e.shutdown.Write([]byte("x"))
	for _, want := range []string{`{"task_id":"a","retry":false,"result":"saw it"}`, `{"task_id":"b","returned":true}`} {
		if got := e.line(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func startChildIn(t *testing.T, dir, hello string) *engine {
	t.Helper()
	e := startChild(t, engineOptions{hello: hello, env: []string{programVar + "=chdir", "TEST_DIR=" + dir}})
	if line := e.line(); !strings.Contains(line, "ready") {
		t.Fatalf("first line %q", line)
	}
	return e
}

// SIGTERM ends the context of the running task, and then the process. If no task is running,
// SIGTERM ends the process immediately.
func TestChild_SIGTERM(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	started := fifo(t, dir, "started")
	e := startChildIn(t, dir, strings.Replace(defaultHello, `"max_runtime":0.25`, `"max_runtime":1000`, 1))
	e.grant(2)
	e.send(`{"task_id":"a","attempt":1,"data":{"do":"await end"}}` + "\n" + tasks("b"))
	started()
	_ = e.cmd.Process.Signal(syscall.SIGTERM)
	if got, want := e.line(), `{"task_id":"a","retry":false,"result":"in time"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if line, err := e.lines.ReadString('\n'); err == nil {
		t.Errorf("ran another task: %s", line)
	}
	if code := e.wait(); code != 143 {
		t.Errorf("exit code %d", code)
	}
	if n, err := e.claims.Read(make([]byte, 8)); n != 1 || err != nil {
		t.Errorf("%d claims remain (error %v), want 1", n, err)
	}

	idle := ready(t, engineOptions{})
	idle.run("t", `{"do":"nil"}`)
	_ = idle.cmd.Process.Signal(syscall.SIGTERM)
	if code := idle.wait(); code != 143 {
		t.Errorf("exit code %d of an idle process, want 143", code)
	}
}

func TestChild_Notifications(t *testing.T) {
	t.Parallel()
	e := ready(t, engineOptions{})
	for _, step := range []struct {
		raise func()
		want  string
	}{
		{func() {}, `[false,false]`},
		{func() { _, _ = e.termination.Write([]byte("x")) }, `[false,true]`},
		{func() { _ = e.shutdown.Close() }, `[true,true]`},
		{func() {}, `[true,true]`}, // the notifications have not been consumed
	} {
		step.raise()
		if got, want := e.run("t", `{"do":"notices"}`), `{"task_id":"t","retry":false,"result":`+step.want+`}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// A process started by a task does not inherit the descriptors of the task protocol.
func TestChild_HidesDescriptors(t *testing.T) {
	t.Parallel()
	for _, noClaims := range []bool{false, true} {
		e := ready(t, engineOptions{noClaims: noClaims})
		if got, want := e.run("t", `{"do":"env"}`), `{"task_id":"t","retry":false,"result":":3\n`; !strings.HasPrefix(got, want) || strings.Contains(got, "held") && !noClaims {
			t.Errorf("without claims %v: got %s, want %s", noClaims, got, want)
		}
	}
}

// The child also parses lines whose format differs from that of ctworker.
func TestChild_UnusualLines(t *testing.T) {
	t.Parallel()
	e := ready(t, engineOptions{noClaims: true})
	for _, tc := range []struct{ line, want string }{
		{`{"task_id":"ä\"\u00e9\\\n","attempt":2,"data":{"do":"nil"}}`, `{"task_id":"ä\"é\\\n","retry":false,"result":null}`},
		{` { "data" : {"do":"echo"} , "attempt":3, "new":[1], "task_id" : "t" } `, `{"task_id":"t","retry":false,"result":{"do":"echo"}}`},
		{`{"task_id":"t","attempt":1,"data":{"do":"echo"},"new":{}}`, `{"task_id":"t","retry":false,"result":{"do":"echo"}}`},
		{`{"notice":"to be ignored"}` + "\n" + `{"task_id":"t","data":{"do":"nil"}}`, `{"task_id":"t","retry":false,"result":null}`},
		{`{"task_id":"t","attempt":1,"data":{"do":"large","n":5,"x":"` + strings.Repeat("y", 3<<20) + `"}}`, `{"task_id":"t","retry":false,"result":"xxxxx"}`},
		{`{"task_id":"t","attempt":1,"data":{"do":"nil"}}`, `{"task_id":"t","retry":false,"result":null}`},
	} {
		e.send(tc.line + "\n")
		if got := e.line(); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
	e.send("no JSON\n")
	if code := e.wait(); code != 1 || !strings.Contains(e.stderr.String(), "malformed line") {
		t.Errorf("exit code %d; standard error: %s", code, e.stderr.String())
	}
}

// The tasks received before the end of file are run.
func TestChild_RepliesBeforeEndOfFile(t *testing.T) {
	t.Parallel()
	e := ready(t, engineOptions{})
	e.grant(3)
	e.send(tasks("a", "b", "c"))
	unix, ok := e.conn.(*net.UnixConn)
	if !ok {
		t.Fatal("not a Unix socket")
	}
	if err := unix.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"a", "b", "c"} {
		if got, want := e.line(), fmt.Sprintf(`{"task_id":%q,"retry":false,"result":%d}`, id, i+1); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if code := e.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestChild_StartErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		opts engineOptions
		code int
		want string
	}{
		{"another version", engineOptions{hello: `{"hello":{"version":2}}`}, 1, "version 2"},
		{"no hello", engineOptions{hello: `{"task_id":"t"}`}, 1, "not a hello message"},
		{"no socket", engineOptions{env: []string{"CTWORKER_FD=4"}}, 2, "is not a connected socket"},
		{"no number", engineOptions{env: []string{"CTWORKER_FD=x"}}, 2, `"x"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := startChild(t, tc.opts)
			if code := e.wait(); code != tc.code || !strings.Contains(e.stderr.String(), tc.want) {
				t.Errorf("exit code %d, want %d; standard error: %s", code, tc.code, e.stderr.String())
			}
		})
	}
}

// The program's own flags and arguments are available in a child process.
func TestChild_Flags(t *testing.T) {
	t.Parallel()
	e := ready(t, engineOptions{program: "flags", args: []string{"-j", "4", "--threshold", "0.25", "--max-runtime=7", "-loud", "-o=x", "a", "--b"}})
	if got, want := e.run("t", `0`), `{"task_id":"t","retry":false,"result":"0.25 true x [a --b] [a --b]"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
