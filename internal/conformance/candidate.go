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

// candidate is one process under test, with our ends of what it is given.
type candidate struct {
	timeout time.Duration
	cmd     *exec.Cmd
	stderr  bytes.Buffer
	socket  *os.File
	lines   *bufio.Reader
	claims  *os.File // the pipe's reading end, which the process has too
	claimFD int      // its descriptor
	grants  *os.File
	files   []*os.File
	ended   chan struct{} // closed when it has ended and been waited for
	ahead   bool
}

// start starts a candidate as ctworker would.
func start(argv []string, timeout time.Duration) (*candidate, error) {
	c := &candidate{timeout: timeout, cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
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
	theirs := os.NewFile(uintptr(fds[1]), "their socket")
	defer func() { _ = theirs.Close() }()
	c.files = append(c.files, c.socket)
	pipes := make([]*os.File, 0, 6) // claims, shutdown, termination: each r, w
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			c.close()
			return nil, err
		}
		pipes = append(pipes, r, w)
		c.files = append(c.files, r, w)
	}
	c.claims, c.grants = pipes[0], pipes[1]
	c.claimFD = int(c.claims.Fd())
	c.lines = bufio.NewReader(c.socket)
	c.cmd.ExtraFiles = []*os.File{theirs, c.claims, pipes[2], pipes[4]}
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
	go func() { _ = c.cmd.Wait(); close(c.ended) }() // how it ended is in ProcessState
	// As the process is promised. Not before: to hand the pipe over has made it
	// block, for both sides. The process is yet to say anything.
	if err := syscall.SetNonblock(c.claimFD, true); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// close ends the candidate and its group.
func (c *candidate) close() {
	if c.cmd.Process != nil {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
		<-c.ended
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
		return fmt.Errorf("it does not read: a line of %d bytes could not be sent within %v", len(text), c.timeout)
	}
	return fmt.Errorf("it has closed its socket: %s", c.fate())
}

// grant lets it claim one more task.
func (c *candidate) grant() { _, _ = c.grants.Write([]byte{0}) }

// takeBack takes back what has not been claimed, and returns how many tasks those
// are.
func (c *candidate) takeBack() int {
	n, err := syscall.Read(c.claimFD, make([]byte, 64))
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Read(c.claimFD, make([]byte, 64))
	}
	return max(n, 0)
}

// line is what a process may say.
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

// next reads a line; awaited says what it is to be.
func (c *candidate) next(awaited string) (line, error) {
	_ = c.socket.SetReadDeadline(time.Now().Add(c.timeout))
	text, err := c.lines.ReadBytes('\n')
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && len(text) > 0:
		return line{}, fmt.Errorf("%s was to come, and within %v it wrote %s without the newline that ends a line", awaited, c.timeout, start200(text))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return line{}, fmt.Errorf("%s was to come, and it wrote nothing to the socket within %v", awaited, c.timeout)
	case err != nil:
		return line{}, fmt.Errorf("%s was to come, and it closed its socket: %s", awaited, c.fate())
	}
	if !utf8.Valid(text) {
		return line{}, fmt.Errorf("%s was to come, and it wrote %s, which is not UTF-8", awaited, start200(text))
	}
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return line{}, fmt.Errorf("%s was to come, and it wrote %s, which is no line of the protocol: %w", awaited, start200(text), err)
	}
	if l.Exception != nil && l.Result != nil {
		return line{}, fmt.Errorf(`%s was to come, and it wrote %s, which has both a "result" and an "exception": a reply has one of them`, awaited, start200(text))
	}
	return l, nil
}

// fate is how the process ended, with the end of what it wrote to its standard
// error.
func (c *candidate) fate() string {
	text := "it runs on"
	select {
	case <-c.ended:
		text = fmt.Sprintf("it ended (%v)", c.cmd.ProcessState)
		if said := bytes.TrimSpace(c.stderr.Bytes()); len(said) > 0 {
			text += " and wrote " + start200(said[utf8cut.After(said, len(said)-200):])
		}
	case <-time.After(time.Second):
	}
	return text
}

func start200(b []byte) string {
	if start := utf8cut.Start(b, 200); len(start) < len(b) {
		return fmt.Sprintf("%q and %d more bytes", start, len(b)-len(start))
	}
	return fmt.Sprintf("%q", b)
}

// begin brings it to where it takes tasks.
func (c *candidate) begin() error {
	if err := c.send(hello); err != nil {
		return err
	}
	l, err := c.next(`the line {"ready":{"version":1}}`)
	switch {
	case err != nil:
		return err
	case l.Ready == nil:
		return errors.New(`its first line has no "ready": a process says {"ready":{"version":1}} before anything else`)
	case l.Ready.Version == nil || *l.Ready.Version != 1:
		return errors.New(`"ready" has no "version":1: it is to name the version that it speaks, as in {"ready":{"version":1}}`)
	}
	c.ahead = l.Ready.Ahead
	return nil
}

// do hands over one task and takes its reply.
func (c *candidate) do(id, data string) error {
	quoted := rawjson.AppendQuote(nil, id)
	c.grant()
	if err := c.send(fmt.Sprintf(`{"task_id":%s,"attempt":1,"data":%s}`+"\n", quoted, data)); err != nil {
		return err
	}
	return c.reply(id)
}

// reply takes the reply to a task that was run.
func (c *candidate) reply(id string) error {
	l, err := c.next(fmt.Sprintf("the reply to task %q", id))
	switch {
	case err != nil:
		return err
	case l.Ready != nil:
		return errors.New(`it said "ready" a second time, in place of a reply`)
	case l.TaskID == nil:
		return fmt.Errorf(`the reply to task %q has no "task_id": it repeats the task's own`, id)
	case string(*l.TaskID) != id:
		return fmt.Errorf("the reply to task %q names task %q: replies come in the order of the tasks, and repeat their ids", id, string(*l.TaskID))
	case l.Returned:
		return fmt.Errorf(`task %q was replied to with "returned", though there was a byte to claim it with in the pipe CTWORKER_CLAIM_FD`, id)
	}
	return nil
}

// end says that there are no more tasks, and waits for it to exit.
func (c *candidate) end() error {
	conn, err := c.socket.SyscallConn()
	if err != nil {
		return err
	}
	_ = conn.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	select {
	case <-c.ended:
		if c.cmd.ProcessState.ExitCode() != 0 {
			return fmt.Errorf("at the end of its tasks it is to exit with code 0: %s", c.fate())
		}
		return nil
	case <-time.After(c.timeout):
		return fmt.Errorf("at the end of its tasks, which is end of file, it is to exit: it still runs after %v", c.timeout)
	}
}
