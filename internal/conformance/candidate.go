package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/ctworker/ctworker/internal/taskproto"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// candidate is one process under test, and the parent's side of its connection.
type candidate struct {
	timeout    time.Duration
	cmd        *exec.Cmd
	stderr     bytes.Buffer
	conn       *taskproto.EngineConn
	files      []*os.File
	exited     chan struct{} // closed when the process has exited and has been reaped
	prefetches bool
}

// maxLine is the maximum length of a line, in bytes.
const maxLine = 16 << 20

// start starts a candidate as ctworker starts a worker process.
func start(argv []string, timeout time.Duration) (*candidate, error) {
	c := &candidate{timeout: timeout, cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{})}
	conn, fds, err := taskproto.NewEngineConn(maxLine, true)
	if err != nil {
		return nil, err
	}
	c.conn = conn
	childSocket := os.NewFile(uintptr(fds.Socket), "socket")
	defer func() { _ = childSocket.Close() }()
	var notifications []*os.File // the ends of the pipes that the process inherits
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			c.close()
			return nil, err
		}
		notifications = append(notifications, r)
		c.files = append(c.files, r, w)
	}
	permits, err := syscall.Dup(fds.Permits) // cmd.Start makes the files that it passes blocking; see below
	if err != nil {
		c.close()
		return nil, os.NewSyscallError("dup", err)
	}
	c.files = append(c.files, os.NewFile(uintptr(permits), "permits"))
	c.cmd.ExtraFiles = append([]*os.File{childSocket, c.files[len(c.files)-1]}, notifications...)
	c.cmd.Env = append(os.Environ(), taskproto.FDVar+"=3", taskproto.ClaimFDVar+"=4", taskproto.ShutdownFDVar+"=5", taskproto.TerminationFDVar+"=6",
		taskproto.ShutdownFileVar+"=/nonexistent/shutdown", taskproto.TerminationFileVar+"=/nonexistent/termination",
		taskproto.SlotVar+"=0", "CTWORKER_PROCESS=check.1", "RMS_CLOUD_TASKS_MAX_RUNTIME=600")
	c.cmd.Stderr = &c.stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.cmd.WaitDelay = time.Second
	if err := c.cmd.Start(); err != nil {
		c.close()
		return nil, err
	}
	go func() { _ = c.cmd.Wait(); close(c.exited) }() // ProcessState has the exit status
	// The protocol requires a non-blocking pipe, but cmd.Start has made the pipe blocking. Make it
	// non-blocking again before the process gets its first task.
	if err := syscall.SetNonblock(fds.Permits, true); err != nil {
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
	c.conn.Close()
	for _, f := range c.files {
		_ = f.Close()
	}
}

var hello = taskproto.Hello{
	Version: taskproto.Version, MaxResultSize: 1 << 20,
	Worker: []byte(`{"max_runtime":600,"num_simultaneous_tasks":1,"provider":null}`),
}

// send sends lines. It does not wait until the candidate has read them.
func (c *candidate) send(lines string) { c.conn.Write([]byte(lines)) }

// addPermit lets the candidate claim one more task.
func (c *candidate) addPermit() { c.conn.AddPermits(1) }

// revoke takes back all permits that the candidate has not used, and returns their number.
func (c *candidate) revoke() int { return c.conn.Revoke(64) }

// readLine reads a line. The parameter want describes the expected line in error messages.
func (c *candidate) readLine(want string) (taskproto.Reply, error) {
	c.conn.SetDeadline(time.Now().Add(c.timeout))
	text, err := c.conn.Next()
	none := taskproto.Reply{}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && len(text) > 0:
		return none, fmt.Errorf("want %s; within %v, the program wrote %s without the newline that ends a line", want, c.timeout, utf8cut.Quote(text))
	case errors.Is(err, os.ErrDeadlineExceeded) && c.conn.Unsent() > 0:
		return none, fmt.Errorf("want %s; within %v, the program did not read the last %d bytes of its input from its socket", want, c.timeout, c.conn.Unsent())
	case errors.Is(err, os.ErrDeadlineExceeded):
		return none, fmt.Errorf("want %s; the program wrote nothing to the socket within %v", want, c.timeout)
	case errors.Is(err, taskproto.ErrLineTooLong):
		return none, fmt.Errorf("want %s; the program wrote a line of more than %d bytes: %s", want, maxLine, utf8cut.Quote(text))
	case err != nil:
		return none, fmt.Errorf("want %s; the program closed its socket: %s", want, c.exitDescription())
	}
	l, err := taskproto.ParseReply(text)
	if err != nil {
		return none, fmt.Errorf("want %s; the program wrote %s: %w", want, utf8cut.Quote(text), err)
	}
	if l.Failed && l.Result != nil {
		return none, fmt.Errorf(`want %s; the program wrote %s, which has both a "result" and an "exception": a reply must have at most one of them`, want, utf8cut.Quote(text))
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
			text += " and wrote " + utf8cut.Quote(stderr[utf8cut.After(stderr, len(stderr)-200):])
		}
	case <-time.After(time.Second):
	}
	return text
}

// awaitReady sends hello, and checks the line "ready".
func (c *candidate) awaitReady() error {
	c.send(string(hello.Append(nil)))
	l, err := c.readLine(`the line {"ready":{"version":1}}`)
	switch {
	case err != nil:
		return err
	case l.Ready == nil:
		return errors.New(`the first line has no "ready": write {"ready":{"version":1}} before any other line`)
	case l.Ready.Version != taskproto.Version:
		return errors.New(`"ready" has no "version":1: write the protocol version, as in {"ready":{"version":1}}`)
	}
	c.prefetches = l.Ready.Ahead
	return nil
}

// runTask sends one task and checks the reply.
func (c *candidate) runTask(id, data string) error {
	c.addPermit()
	c.send(string(taskproto.AppendTask(nil, id, 1, []byte(data))))
	return c.expectReply(id)
}

// expectReply checks the reply to a task for which the candidate had a permit.
func (c *candidate) expectReply(id string) error {
	l, err := c.readLine(fmt.Sprintf("the reply to task %q", id))
	switch {
	case err != nil:
		return err
	case l.Ready != nil:
		return errors.New(`the program wrote a second "ready" instead of a reply`)
	case string(l.ID) != id:
		return fmt.Errorf(`the reply to task %q has the "task_id" %q: reply in the order of the tasks, and repeat their ids`, id, l.ID)
	case l.Returned:
		return fmt.Errorf(`the program returned task %q unstarted, although it could read a byte from the pipe CTWORKER_CLAIM_FD: run the task`, id)
	}
	return nil
}

// closeAndWait closes the candidate's input, and waits until the candidate exits.
func (c *candidate) closeAndWait() error {
	c.conn.CloseWrite()
	select {
	case <-c.exited:
		if c.cmd.ProcessState.ExitCode() != 0 {
			return fmt.Errorf("when its input ends, the program must exit with code 0: %s", c.exitDescription())
		}
		return nil
	case <-time.After(c.timeout):
		return fmt.Errorf("when its input ends, the program must exit: it is still running after %v", c.timeout)
	}
}
