package procexec

import (
	"errors"
	"fmt"
	"time"
)

// run starts a process whenever there is something to do, and serves it until it
// ends.
func (s *slot[J]) run() {
	c := s.c
	defer s.discardPrefork()
	for {
		c.mu.Lock()
		for s.pending.len() == 0 && !c.closing && !c.stopping {
			s.cond.Wait()
		}
		over := s.pending.len() == 0 || c.stopping
		c.mu.Unlock()
		if over || !s.life() {
			return
		}
	}
}

// life is that of one process. It reports whether there may be another.
func (s *slot[J]) life() bool {
	sess, err := s.open()
	if err != nil {
		if errors.Is(err, errStopped) {
			return false
		}
		s.c.halt(err)
		return false
	}
	watched := make(chan struct{})
	reaped := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-s.preforkRequests:
				s.c.guarded(s.startPrefork)
			case <-s.proc.Done():
				// What it has said before its end is still there to be read.
				sess.interrupt()
				return
			case <-reaped:
				return
			}
		}
	}()
	if s.sendPending(); s.c.pool.forksAhead() {
		s.requestPrefork()
		s.c.requestSchedule() // it has all that it will have: there may be a task for the next
	}
	reading := s.read(sess)
	gone := s.awaitEnd()
	close(reaped)
	<-watched
	again := s.finishProcess(sess, reading, gone)
	sess.close()
	return again
}

// errStopped says that the run ended before the process was started.
var errStopped = errors.New("the run ends")

// open starts a process, and waits where the machine is short of something.
func (s *slot[J]) open() (*conn, error) {
	c, p := s.c, s.c.pool
	began := time.Now()
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		sess, err := s.openOnce()
		switch {
		case err == nil:
			return sess, nil
		case !isShortage(err):
			return nil, err
		case time.Since(began) > retryFor:
			return nil, &shortageError{err}
		}
		p.launcher.warnShort(err)
		select {
		case <-time.After(delay):
		case <-c.stop:
			return nil, errStopped
		case <-c.idle:
			return nil, errStopped
		}
	}
}

func (s *slot[J]) openOnce() (*conn, error) {
	c, p := s.c, s.c.pool
	forked := p.opts.ForkServer != nil
	began := time.Now()
	now := s.takePrefork()
	if now == nil {
		var err error
		if now, err = s.start(); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	s.conn, s.proc, s.began = now.sess, now.proc, began
	s.ahead, s.tasksRemaining, s.replies, s.retired, s.longTask = false, -1, 0, false, false
	s.ending, s.killAt, s.abandonAt, s.startTimedOut, s.protocolErr, s.finalReport = 0, time.Time{}, time.Time{}, false, "", nil
	s.claim, s.revokedAt = claimUnknown, time.Time{}
	s.readyBy = began.Add(p.opts.StartTimeout)
	if p.opts.MaxTasks > 0 {
		s.tasksRemaining = p.opts.MaxTasks
	}
	if forked { // it is there as soon as it has been forked
		s.readyBy, s.ahead = time.Time{}, p.opts.ForkServer.Hello.Ahead && p.claims()
	}
	c.armTimer(s.deadline())
	if c.stopping || c.closing {
		s.dismiss()
	}
	if c.killed {
		s.kill()
	}
	c.mu.Unlock()
	return now.sess, nil
}

// started is a process with our end of its socket.
type started struct {
	sess *conn
	proc process
}

// start starts a process, or asks the host for one.
func (s *slot[J]) start() (*started, error) {
	p := s.c.pool
	sess, theirs, claim, err := socketPair(p.lineLimit(), p.claims())
	if err != nil {
		return nil, err
	}
	defer closeFD(theirs)
	var proc process
	if p.opts.ForkServer != nil {
		// Two forks of a seat live at once at most, so they take turns in the guard's table.
		place := s.index + s.forks%2*p.opts.Slots
		s.forks++
		proc, err = p.opts.ForkServer.fork(p.launcher, s.index, place, theirs, claim)
	} else {
		sess.write(hello(s.index, p.opts.MaxResult, p.opts.WorkerData))
		shared := -1
		if p.claims() {
			// Without it all is as it is with processes that do not know of it.
			if r, fd, err := newRing(); err == nil {
				sess.ring, shared = r, fd
				defer closeFD(fd)
			}
		}
		proc, err = p.start(s.index, theirs, claim, shared)
	}
	if err != nil {
		sess.close()
		return nil, err
	}
	return &started{sess, proc}, nil
}

// awaitEnd waits for the end of a process that says no more, and reports false
// where not even SIGKILL has brought it about.
func (s *slot[J]) awaitEnd() bool {
	c := s.c
	c.mu.Lock()
	if s.killAt.IsZero() && s.abandonAt.IsZero() {
		s.killLater(time.Now())
	}
	c.mu.Unlock()
	for {
		timer := time.NewTimer(lastWait + c.pool.opts.KillDelay)
		select {
		case <-s.proc.Done():
			timer.Stop()
			return true
		case <-timer.C:
		}
		c.mu.Lock()
		hopeless := !s.abandonAt.IsZero() && time.Now().After(s.abandonAt)
		c.mu.Unlock()
		if hopeless {
			return false
		}
	}
}

// conclude tells what came of the task that the process was running, and keeps
// those that it had not begun. It reports whether there may be another process.
func (s *slot[J]) finishProcess(sess *conn, reading error, gone bool) bool {
	c := s.c
	exit := Exit{}
	if gone {
		exit = s.proc.Exit()
	}
	f, forked := s.proc.(*fork)
	if forked && gone && f.startError() != nil {
		return s.forkFailed(f.startError())
	}
	c.mu.Lock()
	if forked && gone && f.diedWithHost() && s.ending == 0 {
		s.ending = Interrupted
	}
	begun := s.handed.len()
	switch {
	case s.finalReport != nil:
	case s.ahead:
		begun -= min(sess.revoke(s.handed.len()), begun)
	case !s.readyBy.IsZero() || sess.unread(reading):
		begun = 0 // it has not even read it
	}
	waiting := s.handed.len()
	kept := append(s.handed.cut(waiting-begun), s.pending.list()...)
	ran := s.handed.list()
	s.handed, s.revoked, s.pending = fifo[job[J]]{}, nil, fifo[job[J]]{items: kept}
	end, rubbish, held := s.ending, s.protocolErr, s.finalReport
	failedStart := ""
	if end == 0 && !c.stopping && begun == 0 && s.replies == 0 && held == nil {
		switch {
		case rubbish != "":
			failedStart = rubbish
		case s.readyBy.IsZero() && s.retired && waiting == 0: // it had nothing to do
		case s.claim == neverClaimed:
			failedStart = fmt.Sprintf("process %d reported that it was ready but did not begin a task within %v", s.proc.Pid(), c.pool.opts.StartTimeout)
		case s.readyBy.IsZero():
			failedStart = "after it had reported that it was ready, but before it began a task, " + exitText(exit)
		case s.startTimedOut:
			failedStart = fmt.Sprintf("process %d did not report within %v that it was ready", s.proc.Pid(), c.pool.opts.StartTimeout)
		default:
			failedStart = "before it had reported that it was ready, " + exitText(exit)
		}
	} else if begun > 0 {
		c.failures = 0
	}
	deaf := s.claim == neverClaimed && failedStart == ""
	s.conn, s.proc, s.readyBy, s.shortSince = nil, nil, time.Time{}, time.Time{}
	if c.stopping {
		s.unassign()
	}
	elapsed := time.Since(s.began)
	head := time.Since(s.head)
	c.mu.Unlock()

	for i, e := range ran {
		var r TaskResult
		switch {
		case held != nil && i == 0:
			r = *held
		case end != 0:
			r = TaskResult{Kind: end}
		case rubbish != "":
			r = failed("%s", rubbish)
		default:
			r = TaskResult{Kind: Exited, ExitCode: exit.Code}
		}
		r.Elapsed, r.Slot = head, s.index
		if c.pool.opts.MaxTasks == 1 {
			r.Elapsed = elapsed
			r.CPU, r.PeakMemory = exit.CPU, exit.PeakMemory
		}
		c.finishJob(e, r)
	}
	if deaf {
		c.pool.opts.Log.Warn().Int("slot", s.index).Msg("killed a worker process that did not return tasks that were taken back")
	}
	if !gone {
		c.pool.opts.Log.Warn().Int("slot", s.index).Msg("process did not exit after SIGKILL; giving up on it")
	}
	c.releaseIfStopping()
	c.requestSchedule()
	return failedStart == "" || c.startFailed(failedStart)
}

// forkFailed keeps what was meant for a process that there never was, and waits
// where the machine is short of something.
func (s *slot[J]) forkFailed(err error) bool {
	c := s.c
	c.mu.Lock()
	s.pending = fifo[job[J]]{items: append(s.handed.cut(s.handed.len()), s.pending.list()...)}
	s.conn, s.proc = nil, nil
	if c.stopping {
		s.unassign()
	}
	if s.shortSince.IsZero() {
		s.shortSince = time.Now()
	}
	short := time.Since(s.shortSince)
	c.mu.Unlock()
	c.releaseIfStopping()
	switch {
	case !isShortage(err):
		c.halt(err)
		return false
	case short > retryFor:
		c.halt(&shortageError{err})
		return false
	}
	c.pool.launcher.warnShort(err)
	select {
	case <-time.After(min(lastRetry, firstRetry+short/4)):
		return true
	case <-c.stop:
		return false
	case <-c.idle:
		return false
	}
}
