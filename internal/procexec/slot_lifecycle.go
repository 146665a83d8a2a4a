package procexec

import (
	"errors"
	"fmt"
	"time"

	"github.com/ctworker/ctworker/internal/taskproto"
	"github.com/ctworker/ctworker/internal/unixfd"
)

// run starts a process whenever the slot has a job and no process, until the run ends.
func (s *slot[J]) run() {
	c := s.sched
	defer s.discardPrefork()
	for {
		c.mu.Lock()
		for s.pending.len() == 0 && !c.closing && !c.stopping {
			s.cond.Wait()
		}
		finished := s.pending.len() == 0 || c.stopping
		c.mu.Unlock()
		if finished || !s.runProcess() {
			return
		}
	}
}

// runProcess starts one process and serves it until it has exited. It reports whether the slot
// may start another.
func (s *slot[J]) runProcess() bool {
	conn, err := s.startProcess()
	if err != nil {
		if errors.Is(err, errStopped) {
			return false
		}
		s.sched.halt(err)
		return false
	}
	watched := make(chan struct{})
	reaped := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-s.preforkRequests:
				s.sched.guarded(s.startPrefork)
			case <-s.proc.Done():
				// The reader still reads what the process wrote before it exited.
				conn.Interrupt()
				return
			case <-reaped:
				return
			}
		}
	}()
	if s.sendPending(); s.sched.pool.preforks() {
		s.requestPrefork()
		s.sched.requestSchedule() // the process gets no more tasks: there may be a job for the next one
	}
	readErr := s.read(conn)
	exited := s.awaitExit()
	close(reaped)
	<-watched
	another := s.finishProcess(conn, readErr, exited)
	conn.Close()
	return another
}

// errStopped is returned if the run ended before the process was started.
var errStopped = errors.New("the run ends")

// startProcess starts a process. While the machine is short of a resource, it waits and tries
// again.
func (s *slot[J]) startProcess() (*taskproto.EngineConn, error) {
	c, p := s.sched, s.sched.pool
	began := time.Now()
	for delay := initialRetryDelay; ; delay = min(2*delay, maxRetryDelay) {
		conn, err := s.tryStart()
		switch {
		case err == nil:
			return conn, nil
		case !isShortage(err):
			return nil, err
		case time.Since(began) > maxRetryTime:
			return nil, &shortageError{err}
		}
		p.launcher.warnShortage(err)
		select {
		case <-time.After(delay):
		case <-c.stop:
			return nil, errStopped
		case <-c.idle:
			return nil, errStopped
		}
	}
}

func (s *slot[J]) tryStart() (*taskproto.EngineConn, error) {
	c, p := s.sched, s.sched.pool
	forked := p.opts.ForkServer != nil
	began := time.Now()
	proc := s.takePrefork()
	if proc == nil {
		var err error
		if proc, err = s.spawn(); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	s.conn, s.proc, s.startedAt = proc.conn, proc.proc, began
	s.prefetches, s.tasksRemaining, s.replies, s.inputClosed, s.longTask = false, -1, 0, false, false
	s.stopReason, s.killAt, s.abandonAt, s.startTimedOut, s.protocolErr, s.finalResult = 0, time.Time{}, time.Time{}, false, "", nil
	s.claim, s.revokedAt = claimUnknown, time.Time{}
	s.readyBy = began.Add(p.opts.StartTimeout)
	if p.opts.MaxTasks > 0 {
		s.tasksRemaining = p.opts.MaxTasks
	}
	if forked { // ready from the start
		s.readyBy, s.prefetches = time.Time{}, p.opts.ForkServer.Hello.Ahead && p.usesPermits()
	}
	c.armTimer(s.deadline())
	if c.stopping || c.closing {
		s.stopIdle()
	}
	if c.killed {
		s.kill()
	}
	c.mu.Unlock()
	return proc.conn, nil
}

// started is a process, and the connection to it.
type started struct {
	conn *taskproto.EngineConn
	proc process
}

// spawn starts a process, or requests one from the fork server.
func (s *slot[J]) spawn() (*started, error) {
	p := s.sched.pool
	conn, fds, err := taskproto.NewEngineConn(p.lineLimit(), p.usesPermits())
	if err != nil {
		return nil, err
	}
	defer unixfd.Close(fds.Socket)
	var proc process
	if p.opts.ForkServer != nil {
		// At most two forks of a slot are alive at once. They alternate between the two entries
		// of the slot in the guard's table.
		tableIndex := s.index + s.forkCount%2*p.opts.Slots
		s.forkCount++
		proc, err = p.opts.ForkServer.fork(p.launcher, s.index, tableIndex, fds)
	} else {
		conn.Write(taskproto.Hello{Version: taskproto.Version, Slot: s.index, MaxResultSize: p.opts.MaxResult, Worker: p.opts.WorkerData}.Append(nil))
		if p.usesPermits() {
			// Without a ring, the process uses the socket and the pipe.
			if fd, err := conn.OpenRing(); err == nil && fd >= 0 {
				fds.Ring = fd
				defer unixfd.Close(fd)
			}
		}
		proc, err = p.start(s.index, fds)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &started{conn, proc}, nil
}

// awaitExit waits until a process that sends nothing more has exited. It returns false if the
// process did not exit even after SIGKILL.
func (s *slot[J]) awaitExit() bool {
	c := s.sched
	c.mu.Lock()
	if s.killAt.IsZero() && s.abandonAt.IsZero() {
		s.scheduleKill(time.Now())
	}
	c.mu.Unlock()
	for {
		timer := time.NewTimer(sigkillTimeout + c.pool.opts.KillDelay)
		select {
		case <-s.proc.Done():
			timer.Stop()
			return true
		case <-timer.C:
		}
		c.mu.Lock()
		abandon := !s.abandonAt.IsZero() && time.Now().After(s.abandonAt)
		c.mu.Unlock()
		if abandon {
			return false
		}
	}
}

// finishProcess reports the results of the tasks that the process was running, and keeps the
// jobs that it had not claimed for the next process. It reports whether the slot may start
// another process.
func (s *slot[J]) finishProcess(conn *taskproto.EngineConn, readErr error, exited bool) bool {
	c := s.sched
	exit := Exit{}
	if exited {
		exit = s.proc.Exit()
	}
	f, forked := s.proc.(*forkedProcess)
	if forked && exited && f.startError() != nil {
		return s.forkFailed(f.startError())
	}
	c.mu.Lock()
	if forked && exited && f.diedWithForkServer() && s.stopReason == 0 {
		s.stopReason = Interrupted
	}
	begun := s.sent.len()
	switch {
	case s.finalResult != nil:
	case s.prefetches:
		begun -= min(conn.Revoke(s.sent.len()), begun)
	case !s.readyBy.IsZero() || conn.Unread(readErr):
		begun = 0 // the process did not read the task
	}
	waiting := s.sent.len()
	kept := append(s.sent.takeLast(waiting-begun), s.pending.list()...)
	ran := s.sent.list()
	s.sent, s.revoked, s.pending = fifo[job[J]]{}, nil, fifo[job[J]]{items: kept}
	reason, protocolErr, finalResult := s.stopReason, s.protocolErr, s.finalResult
	failedStart := ""
	if reason == 0 && !c.stopping && begun == 0 && s.replies == 0 && finalResult == nil {
		switch {
		case protocolErr != "":
			failedStart = protocolErr
		case s.readyBy.IsZero() && s.inputClosed && waiting == 0: // the process was retired
		case s.claim == neverClaimed:
			failedStart = fmt.Sprintf("process %d was ready but did not begin a task within %v", s.proc.Pid(), c.pool.opts.StartTimeout)
		case s.readyBy.IsZero():
			failedStart = exitText(exit) + " after it was ready and before it began a task"
		case s.startTimedOut:
			failedStart = fmt.Sprintf("process %d did not become ready within %v", s.proc.Pid(), c.pool.opts.StartTimeout)
		default:
			failedStart = exitText(exit) + " before it was ready"
		}
	} else if begun > 0 {
		c.failures = 0
	}
	unresponsive := s.claim == neverClaimed && failedStart == ""
	s.conn, s.proc, s.readyBy, s.shortageSince = nil, nil, time.Time{}, time.Time{}
	if c.stopping {
		s.unassign()
	}
	elapsed := time.Since(s.startedAt)
	headElapsed := time.Since(s.headStartedAt)
	c.mu.Unlock()

	for i, j := range ran {
		var r TaskResult
		switch {
		case finalResult != nil && i == 0:
			r = *finalResult
		case reason != 0:
			r = TaskResult{Kind: reason}
		case protocolErr != "":
			r = failed("%s", protocolErr)
		default:
			r = TaskResult{Kind: Exited, ExitCode: exit.Code}
		}
		r.Elapsed, r.Slot = headElapsed, s.index
		if c.pool.opts.MaxTasks == 1 {
			r.Elapsed = elapsed
			r.CPU, r.PeakMemory = exit.CPU, exit.PeakMemory
		}
		c.finishJob(j, r)
	}
	if unresponsive {
		c.pool.opts.Log.Warn().Int("slot", s.index).Msg("killed a worker process that did not return revoked tasks")
	}
	if !exited {
		c.pool.opts.Log.Warn().Int("slot", s.index).Msg("process did not exit after SIGKILL: no longer waiting for it")
	}
	c.releaseIfStopping()
	c.requestSchedule()
	return failedStart == "" || c.startFailed(failedStart)
}

// forkFailed keeps the jobs of a process that could not be forked. If the machine is short of a
// resource, it waits. It reports whether to try again.
func (s *slot[J]) forkFailed(err error) bool {
	c := s.sched
	c.mu.Lock()
	s.pending = fifo[job[J]]{items: append(s.sent.takeLast(s.sent.len()), s.pending.list()...)}
	s.conn, s.proc = nil, nil
	if c.stopping {
		s.unassign()
	}
	if s.shortageSince.IsZero() {
		s.shortageSince = time.Now()
	}
	short := time.Since(s.shortageSince)
	c.mu.Unlock()
	c.releaseIfStopping()
	switch {
	case !isShortage(err):
		c.halt(err)
		return false
	case short > maxRetryTime:
		c.halt(&shortageError{err})
		return false
	}
	c.pool.launcher.warnShortage(err)
	select {
	case <-time.After(min(maxRetryDelay, initialRetryDelay+short/4)):
		return true
	case <-c.stop:
		return false
	case <-c.idle:
		return false
	}
}
