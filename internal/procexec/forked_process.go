package procexec

import (
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ctworker/ctworker/internal/taskproto"
)

// forkedProcess is a process that this program has requested from the fork server.
type forkedProcess struct {
	server     *ForkServer
	launcher   *Launcher
	id         int64
	tableEntry int          // index in the table of process groups that the guard reads
	pid        atomic.Int64 // 0 until the fork server reports the pid
	grace      atomic.Int64 // how long the other processes of the group may run after the leader exits, in nanoseconds

	done           chan struct{}
	exit           Exit  // valid once done is closed
	err            error // why the process could not be forked; valid once done is closed
	forkServerDied bool  // the process was killed because the fork server exited; valid once done is closed
}

// fork requests a process from the fork server, and returns before the process exists. The caller
// can send a task immediately: the process reads the task when it has started. The process prints to
// the descriptors in output, one for each of streams.
func (h *ForkServer) fork(l *Launcher, slotIndex int, child taskproto.ChildFDs, streams []Stream, output []int) (*forkedProcess, error) {
	entry, err := l.table.reserve()
	if err != nil {
		return nil, err
	}
	id, marker := l.nextEnvMarker()
	f := &forkedProcess{server: h, launcher: l, id: id, tableEntry: entry, done: make(chan struct{})}
	h.mu.Lock()
	if h.exited {
		h.mu.Unlock()
		l.table.release(entry)
		return nil, h.ExitError()
	}
	h.live[id] = f
	h.mu.Unlock()
	fds := []int{child.Socket}
	if child.Permits >= 0 {
		fds = append(fds, child.Permits)
	}
	line := make([]byte, 0, 128)
	line = append(line, `{"fork":`...)
	line = strconv.AppendInt(line, id, 10)
	line = append(line, `,"slot":`...)
	line = strconv.AppendInt(line, int64(slotIndex), 10)
	line = append(line, `,"last":`...)
	line = strconv.AppendBool(line, child.Permits < 0)
	for i := range output {
		if i == 0 {
			line = append(line, `,"streams":[`...)
		} else {
			line = append(line, ',')
		}
		line = strconv.AppendInt(line, int64(streams[i]), 10)
	}
	if len(output) > 0 {
		line = append(line, ']')
		fds = append(fds, output...)
	}
	line = append(line, `,"mark":"`...)
	line = append(line, marker...)
	line = append(line, "\"}\n"...)
	if err := h.sendLine(line, fds...); err != nil {
		if h.find(id, true) != nil {
			l.table.release(entry)
			return nil, err
		}
	}
	return f, nil
}

func (f *forkedProcess) Pid() int              { return int(f.pid.Load()) }
func (f *forkedProcess) Done() <-chan struct{} { return f.done }
func (f *forkedProcess) Exit() Exit            { <-f.done; return f.exit }

// end records that the process has exited or could not be forked. It is called once, by the
// goroutine that removed f from the running forks. The fields exit, err and forkServerDied must be
// set before the call.
func (f *forkedProcess) end() {
	f.launcher.table.release(f.tableEntry)
	close(f.done)
}

// diedWithForkServer reports whether the process was killed because the fork server exited. It
// blocks until Done is closed.
func (f *forkedProcess) diedWithForkServer() bool { <-f.done; return f.forkServerDied }

// startError returns why the process could not be forked, or nil. It blocks until Done is closed.
func (f *forkedProcess) startError() error { <-f.done; return f.err }

func (f *forkedProcess) Terminate(grace time.Duration) {
	f.grace.Store(int64(grace))
	f.signal(syscall.SIGTERM)
}

func (f *forkedProcess) Kill() { f.signal(syscall.SIGKILL) }

// signal makes the fork server send sig to the process group. This program cannot send the signal
// safely: only the fork server, as the parent, knows whether the pid is still valid. signal does
// not block, so it may be called while a lock is held.
func (f *forkedProcess) signal(sig syscall.Signal) {
	go func() { _ = f.server.send(map[string]any{"signal": f.id, "sig": int(sig)}) }()
}

// lingerAndReap is called when a process has exited after a signal. It waits until the other
// processes of the group have exited, for at most the grace period that was passed to Terminate.
// Then it makes the fork server kill the group and reap the process.
func (f *forkedProcess) lingerAndReap() {
	awaitGroup(f.Pid(), time.Now().Add(time.Duration(f.grace.Load())))
	_ = f.server.send(map[string]any{"reap": f.id})
}
