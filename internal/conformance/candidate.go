package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// candidate is one process under test, and the parent's side of its connections.
type candidate struct {
	timeout      time.Duration
	cmd          *exec.Cmd
	stderr       bytes.Buffer
	socket       *os.File
	lines        *bufio.Reader
	permitsRead  *os.File // reading end of the pipe of permits, which the process inherits, too
	permitsFD    int      // descriptor of permitsRead
	permitsWrite *os.File
	files        []*os.File
	exited       chan struct{} // closed when the process has exited and has been reaped
	prefetches   bool
}

// start starts a candidate as ctworker starts a worker process.
func start(argv []string, timeout time.Duration) (*candidate, error) {
	c := &candidate{timeout: timeout, cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{})}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		return nil, err
	}
	c.socket = os.NewFile(uintptr(fds[0]), "socket")
	childSocket := os.NewFile(uintptr(fds[1]), "child socket")
	defer func() { _ = childSocket.Close() }()
	c.files = append(c.files, c.socket)
	pipes := make([]*os.File, 0, 6) // permits, shutdown, termination: each r, w
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			c.close()
			return nil, err
		}
		pipes = append(pipes, r, w)
		c.files = append(c.files, r, w)
	}
	c.permitsRead, c.permitsWrite = pipes[0], pipes[1]
	c.permitsFD = int(c.permitsRead.Fd())
	c.lines = bufio.NewReader(c.socket)
	c.cmd.ExtraFiles = []*os.File{childSocket, c.permitsRead, pipes[2], pipes[4]}
	c.cmd.Env = append(os.Environ(), "CTWORKER_FD=3", "CTWORKER_CLAIM_FD=4", "CTWORKER_SHUTDOWN_FD=5", "CTWORKER_TERMINATION_FD=6",
		"CTWORKER_SHUTDOWN_FILE=/nonexistent/shutdown", "CTWORKER_TERMINATION_FILE=/nonexistent/termination",
		"CTWORKER_SLOT=0", "CTWORKER_PROCESS=check.1", "RMS_CLOUD_TASKS_MAX_RUNTIME=600")
	c.cmd.Stderr = &c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.WaitDelay = time.Second
	if err := c.cmd.Start(); err != nil {
		c.close()
		return nil, err
	}
	go func() { _ = c.cmd.Wait(); close(c.exited) }() // ProcessState has the exit status
	// The protocol promises a non-blocking pipe. Passing the pipe to the process has made it
	// blocking for both sides, so it is changed here, before the process gets its first task.
	if err := syscall.SetNonblock(c.permitsFD, true); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// close kills the candidate and its process group.
func (c *candidate) close() {
	if c.cmd.Process != nil {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		<-c.exited
	}
	for _, f := range c.files {
		_ = f.Close()
	}
}

const hello = `{"hello":{"version":1,"slot":0,"max_result_size":1048576,"worker":{"max_runtime":600,"num_simultaneous_tasks":1,"provider":null}}}` + "\n"

func (c *candidate) send(text string) error {
	_ = c.socket.SetWriteDeadline(time.Now().Add(c.timeout))
	_, err := io.WriteString(c.socket, text)
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the program does not read from its socket: could not send a line of %d bytes within %v", len(text), c.timeout)
	}
	return fmt.Errorf("the program closed its socket: %s", c.exitDescription())
}

// addPermit lets the candidate claim one more task.
func (c *candidate) addPermit() { _, _ = c.permitsWrite.Write([]byte{0}) }

// revoke takes back all permits that the candidate has not used, and returns their number.
func (c *candidate) revoke() int {
	n, err := syscall.Read(c.permitsFD, make([]byte, 64))
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Read(c.permitsFD, make([]byte, 64))
	}
	return max(n, 0)
}

// line is a line that a worker process may write.
type line struct {
	Ready *struct {
		Version *int `json:"version"`
		Ahead   bool `json:"ahead"`
	} `json:"ready"`
	TaskID    *rawjson.String `json:"task_id"`
	Retry     *bool           `json:"retry"`
	Result    json.RawMessage `json:"result"`
	Exception *string         `json:"exception"`
	Returned  bool            `json:"returned"`
}

// readLine reads a line. want describes the expected line, for errors.
func (c *candidate) readLine(want string) (line, error) {
	_ = c.socket.SetReadDeadline(time.Now().Add(c.timeout))
	text, err := c.lines.ReadBytes('\n')
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && len(text) > 0:
		return line{}, fmt.Errorf("want %s; within %v, the program wrote %s without the newline that ends a line", want, c.timeout, quoteStart(text))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return line{}, fmt.Errorf("want %s; the program wrote nothing to the socket within %v", want, c.timeout)
	case err != nil:
		return line{}, fmt.Errorf("want %s; the program closed its socket: %s", want, c.exitDescription())
	}
	if !utf8.Valid(text) {
		return line{}, fmt.Errorf("want %s; the program wrote %s, which is not UTF-8", want, quoteStart(text))
	}
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return line{}, fmt.Errorf("want %s; the program wrote %s, which is not a line of the protocol: %w", want, quoteStart(text), err)
	}
	if l.Exception != nil && l.Result != nil {
		return line{}, fmt.Errorf(`want %s; the program wrote %s, which has both a "result" and an "exception": a reply must have at most one of them`, want, quoteStart(text))
	}
	return l, nil
}

// exitDescription describes how the process exited, with the end of its standard error.
func (c *candidate) exitDescription() string {
	text := "it is still running"
	select {
	case <-c.exited:
		text = fmt.Sprintf("it exited (%v)", c.cmd.ProcessState)
		if stderr := bytes.TrimSpace(c.stderr.Bytes()); len(stderr) > 0 {
			text += " and wrote " + quoteStart(stderr[utf8cut.After(stderr, len(stderr)-200):])
		}
	case <-time.After(time.Second):
	}
	return text
}

// quoteStart quotes the first 200 bytes of b.
func quoteStart(b []byte) string {
	if start := utf8cut.Start(b, 200); len(start) < len(b) {
		return fmt.Sprintf("%q and %d more bytes", start, len(b)-len(start))
	}
	return fmt.Sprintf("%q", b)
}

// awaitReady sends hello, and checks the line "ready".
func (c *candidate) awaitReady() error {
	if err := c.send(hello); err != nil {
		return err
	}
	l, err := c.readLine(`the line {"ready":{"version":1}}`)
	switch {
	case err != nil:
		return err
	case l.Ready == nil:
		return errors.New(`the first line has no "ready": write {"ready":{"version":1}} before any other line`)
	case l.Ready.Version == nil || *l.Ready.Version != 1:
		return errors.New(`"ready" has no "version":1: write the protocol version, as in {"ready":{"version":1}}`)
	}
	c.prefetches = l.Ready.Ahead
	return nil
}

// runTask sends one task and checks the reply.
func (c *candidate) runTask(id, data string) error {
	quoted := rawjson.AppendQuote(nil, id)
	c.addPermit()
	if err := c.send(fmt.Sprintf(`{"task_id":%s,"attempt":1,"data":%s}`+"\n", quoted, data)); err != nil {
		return err
	}
	return c.expectReply(id)
}

// expectReply checks the reply to a task that had a permit.
func (c *candidate) expectReply(id string) error {
	l, err := c.readLine(fmt.Sprintf("the reply to task %q", id))
	switch {
	case err != nil:
		return err
	case l.Ready != nil:
		return errors.New(`the program wrote a second "ready" instead of a reply`)
	case l.TaskID == nil:
		return fmt.Errorf(`the reply to task %q has no "task_id": repeat the "task_id" of the task`, id)
	case string(*l.TaskID) != id:
		return fmt.Errorf(`the reply to task %q has the "task_id" %q: reply in the order of the tasks, and repeat their ids`, id, string(*l.TaskID))
	case l.Returned:
		return fmt.Errorf(`the reply to task %q is "returned", although the pipe CTWORKER_CLAIM_FD had a byte to claim it`, id)
	}
	return nil
}

// closeAndWait closes the candidate's input, and waits until the candidate exits.
func (c *candidate) closeAndWait() error {
	conn, err := c.socket.SyscallConn()
	if err != nil {
		return err
	}
	_ = conn.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	select {
	case <-c.exited:
		if c.cmd.ProcessState.ExitCode() != 0 {
			return fmt.Errorf("at end of file, the program must exit with code 0: %s", c.exitDescription())
		}
		return nil
	case <-time.After(c.timeout):
		return fmt.Errorf("at end of file, the program must exit: it is still running after %v", c.timeout)
	}
}
