package procexec

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"
)

// seat is one slot of a crew: the process that it has, if any, and the jobs that
// are meant for it. One goroutine, run, owns its processes. The crew's mu guards
// the fields.
type seat[J any] struct {
	c    *crew[J]
	slot int
	cond *sync.Cond // something has come for run

	pending []entry[J] // not sent yet
	handed  []entry[J] // sent, in the order of the replies; the first one runs
	voided  []string   // sent and taken back: the process still has to say so
	out     []byte     // lines that flush sends; guarded by sending

	sess     *session // of a process that tasks can be sent to
	proc     handle
	ahead    bool      // it takes tasks ahead
	left     int       // how many tasks it may still be sent; below 0: any number
	answered int       // how many tasks it has said something of
	retired  bool      // it has been told that there will be no more
	began    time.Time // its start
	head     time.Time // when handed[0] began to run

	starting time.Time // until when it has to be ready; zero: it is
	end      End       // why it is being ended; 0: it is not
	killAt   time.Time // when it will be killed; zero: not
	giveUp   time.Time // when it is no longer waited for; zero: not
	late     bool      // it was not ready in time
	rubbish  string    // what is wrong with what it said
	held     *Report   // of its only task, until it has ended

	shortSince time.Time // since when no process could be forked; zero: one could

	sending sync.Mutex // around what flush sends, so that lines keep their order
}

func newSeat[J any](c *crew[J], slot int) *seat[J] {
	return &seat[J]{c: c, slot: slot, cond: sync.NewCond(&c.mu)}
}

// isReady reports whether it has a process that takes tasks.
func (s *seat[J]) isReady() bool {
	return s.sess != nil && s.starting.IsZero() && !s.retired && s.end == 0 && s.rubbish == ""
}

func (s *seat[J]) isIdle() bool {
	return s.isReady() && len(s.handed)+len(s.pending)+len(s.voided) == 0
}

// want is how many more tasks it is to be assigned.
func (s *seat[J]) want() int {
	if !s.isReady() || !s.ahead || len(s.voided) > 0 {
		busy := len(s.handed)
		if s.retired || s.end != 0 {
			busy = 0 // the next process can start as soon as this one has ended
		}
		return 1 - busy - len(s.pending)
	}
	have := len(s.handed) + len(s.pending)
	want := s.c.depth()
	if s.left >= 0 {
		want = min(want, s.left+len(s.handed))
	}
	if have > want/2 {
		return 0 // not yet: a few at a time cost as much as many
	}
	return want - have
}

func (s *seat[J]) has(e entry[J]) bool {
	for _, h := range s.handed {
		if h.done == e.done {
			return true
		}
	}
	return false
}

// assign gives it a job; flush sends it.
func (s *seat[J]) assign(e entry[J]) {
	s.pending = append(s.pending, e)
	if s.sess == nil {
		s.cond.Broadcast()
	}
}

// flush sends what the process may have now.
func (s *seat[J]) flush() {
	s.sending.Lock()
	defer s.sending.Unlock()
	c := s.c
	var lost []entry[J]
	c.mu.Lock()
	if !s.isReady() || len(s.voided) > 0 {
		c.mu.Unlock()
		return
	}
	most := 1
	if s.ahead {
		most = max(c.depth(), 1)
	}
	s.out = s.out[:0]
	n := 0
	for len(s.pending) > 0 && len(s.handed) < most && s.left != 0 {
		e := s.pending[0]
		s.pending = s.pending[1:]
		if e.lost != nil && isClosed(e.lost) {
			lost = append(lost, e)
			continue
		}
		if len(s.handed) == 0 {
			s.head = time.Now()
		}
		s.handed = append(s.handed, e)
		s.left--
		s.out = appendTask(s.out, e.task)
		n++
	}
	sess, last := s.sess, s.left == 0
	if n > 0 {
		// A process may read a claim as soon as it has read the line, so the
		// claims come first; under mu, so that they agree with handed.
		if s.ahead {
			sess.grant(n)
		}
		if last {
			s.retired = true
		}
		c.expect(s.due())
	}
	c.mu.Unlock()
	if n > 0 {
		sess.write(s.out)
		if last {
			sess.end()
		}
	}
	if cap(s.out) > 16*handBytes {
		s.out = nil
	}
	for _, e := range lost {
		c.done(e, Report{End: Dropped, Slot: s.slot})
	}
}

// takeBack takes back up to n of the tasks that the process has not begun. They
// are in the backlog then.
func (s *seat[J]) takeBack(n int) int {
	if s.sess == nil || !s.ahead || len(s.handed) == 0 {
		return 0
	}
	got := min(s.sess.takeBack(min(n, len(s.handed))), len(s.handed))
	if got == 0 {
		return 0
	}
	keep := len(s.handed) - got
	back := s.handed[keep:]
	// They come before those that were taken back earlier.
	voided := make([]string, 0, got+len(s.voided))
	for _, e := range back {
		voided = append(voided, e.task.ID)
	}
	s.voided = append(voided, s.voided...)
	if s.left >= 0 {
		s.left += got
	}
	s.c.backlog = append(append(make([]entry[J], 0, len(back)+len(s.c.backlog)), back...), s.c.backlog...)
	s.handed = s.handed[:keep:keep]
	return got
}

// retireIdle tells a process without work that there will be none.
func (s *seat[J]) retireIdle() {
	if s.sess == nil || s.retired || !s.starting.IsZero() || len(s.handed)+len(s.pending)+len(s.voided) > 0 {
		return
	}
	s.retired = true
	s.killAt = time.Now().Add(s.c.pool.opts.KillDelay)
	s.c.expect(s.killAt)
	s.sess.end()
}

// dismiss ends a process that has no work, and will not have any.
func (s *seat[J]) dismiss() {
	if !s.starting.IsZero() && len(s.pending) == 0 {
		s.ended(Ended)
		return
	}
	s.retireIdle()
}

// ended has the process end for a reason that is not its own.
func (s *seat[J]) ended(why End) {
	if s.proc == nil || s.end != 0 {
		return
	}
	if s.held == nil && len(s.handed) > 0 || !s.starting.IsZero() {
		s.end = why
	}
	if why == Dropped || s.c.pool.opts.KillDelay == 0 {
		s.kill()
		return
	}
	if s.end == 0 { // it has nothing to do: let it go
		s.retireIdle()
		return
	}
	s.killAt = time.Now().Add(s.c.pool.opts.KillDelay)
	s.c.expect(s.killAt)
	s.proc.Terminate(s.c.pool.opts.KillDelay)
}

// kill kills the process.
func (s *seat[J]) kill() {
	if s.proc == nil {
		return
	}
	s.killAt = time.Time{}
	if s.giveUp.IsZero() {
		s.giveUp = time.Now().Add(lastWait)
		s.c.expect(s.giveUp)
	}
	s.proc.Kill()
}

// run starts a process whenever there is something to do, and serves it until it
// ends.
func (s *seat[J]) run() {
	c := s.c
	for {
		c.mu.Lock()
		for len(s.pending) == 0 && !c.closing && !c.stopping {
			s.cond.Wait()
		}
		over := len(s.pending) == 0 || c.stopping
		c.mu.Unlock()
		if over || !s.life() {
			return
		}
	}
}

// life is that of one process. It reports whether there may be another.
func (s *seat[J]) life() bool {
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
		select {
		case <-s.proc.Done():
			// What it has said before its end is still there to be read.
			sess.interrupt()
		case <-reaped:
		}
	}()
	s.flush()
	reading := s.read(sess)
	gone := s.awaitEnd()
	close(reaped)
	<-watched
	again := s.conclude(sess, reading, gone)
	sess.close()
	return again
}

// errStopped says that the run ended before the process was started.
var errStopped = errors.New("the run ends")

// open starts a process, and waits where the machine is short of something.
func (s *seat[J]) open() (*session, error) {
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
		}
	}
}

func (s *seat[J]) openOnce() (*session, error) {
	c, p := s.c, s.c.pool
	sess, theirs, claim, err := socketPair(p.lineLimit(), p.claims())
	if err != nil {
		return nil, err
	}
	forked := p.opts.Host != nil
	if !forked {
		sess.write(hello(s.slot, p.opts.MaxResult, p.opts.WorkerData))
	}
	began := time.Now()
	proc, err := p.start(s.slot, theirs, claim)
	closeFD(theirs)
	if err != nil {
		sess.close()
		return nil, err
	}
	c.mu.Lock()
	s.sess, s.proc, s.began = sess, proc, began
	s.ahead, s.left, s.answered, s.retired = false, -1, 0, false
	s.end, s.killAt, s.giveUp, s.late, s.rubbish, s.held = 0, time.Time{}, time.Time{}, false, "", nil
	s.starting = began.Add(p.opts.StartTimeout)
	if p.opts.MaxTasks > 0 {
		s.left = p.opts.MaxTasks
	}
	if forked { // it is there as soon as it has been forked
		s.starting, s.ahead = time.Time{}, p.opts.Host.Hello.Ahead && p.claims()
	}
	c.expect(s.due())
	if c.stopping || c.closing {
		s.dismiss()
	}
	if c.killed {
		s.kill()
	}
	c.mu.Unlock()
	return sess, nil
}

// read takes what the process says until it says no more, and returns why.
func (s *seat[J]) read(sess *session) error {
	for {
		line, err := sess.next()
		if err != nil && !errors.Is(err, errOver) {
			return err
		}
		if !s.take(line, errors.Is(err, errOver)) {
			return nil
		}
	}
}

// take takes one line. It returns false where no more is to be read.
func (s *seat[J]) take(line []byte, over bool) bool {
	c := s.c
	c.mu.Lock()
	expected, first := "", entry[J]{}
	if len(s.handed) > 0 {
		first = s.handed[0]
		expected = first.task.ID
	}
	c.mu.Unlock()
	// Only this goroutine takes the first of handed out while a process runs, but
	// for what is taken back, which cannot have been begun.
	var r reply
	var err error
	if over {
		r, err = overlong(line, expected)
	} else {
		r, err = parseReply(line, expected)
	}
	if err == nil && r.ready != nil {
		return s.becomeReady(r.ready)
	}
	c.mu.Lock()
	switch {
	case err != nil:
	case !s.starting.IsZero():
		err = errors.New("it came before the line that says \"ready\"")
	case r.returned:
		if len(s.handed) == 0 && len(s.voided) > 0 && s.voided[0] == r.id {
			s.voided = s.voided[1:]
			idle := len(s.voided) == 0
			c.mu.Unlock()
			if idle {
				s.caughtUp()
			}
			return true
		}
		err = errors.New("no task with that id has been taken back")
	case len(s.handed) == 0:
		err = errors.New("no task is under way")
	case r.id != s.handed[0].task.ID:
		err = fmt.Errorf("it is of another task than %q, which is next", s.handed[0].task.ID)
	}
	if err != nil {
		s.rubbish = fmt.Sprintf("the process spoke no task protocol: it sent %s: %v", quoteStart(line), err)
		s.kill()
		c.mu.Unlock()
		return false
	}
	e := s.handed[0]
	s.handed[0] = entry[J]{}
	s.handed = s.handed[1:]
	now := time.Now()
	took := now.Sub(s.head)
	s.head = now
	s.answered++
	c.failures = 0
	c.observe(took, len(e.task.Data)+64)
	report := r.report(c.pool.opts.MaxResult)
	report.Elapsed = took
	if over {
		report = tooLarge(c.pool.opts.MaxResult)
		report.Elapsed = took
	}
	if most := c.pool.opts.MaxRuntime; s.end == 0 && took >= most && took < most+stoppedFor {
		s.end = TimedOut // the clock was about to say so
		s.killAt = now.Add(c.pool.opts.KillDelay)
		c.expect(s.killAt)
		s.proc.Terminate(c.pool.opts.KillDelay)
	}
	switch {
	case s.end != 0: // it was told to stop before it had a result
		report = Report{End: s.end, Elapsed: took}
	case c.pool.opts.MaxTasks == 1:
		s.held = &report
		s.handed = append(s.handed, e) // until it has ended
		s.killAt = now.Add(c.pool.opts.KillDelay)
		c.expect(s.killAt)
		c.mu.Unlock()
		return true
	}
	if s.left == 0 && len(s.handed) == 0 {
		s.killAt = now.Add(c.pool.opts.KillDelay)
		c.expect(s.killAt)
	}
	waits := len(s.pending) > 0 && len(s.handed) <= c.depth()/2
	hungry := s.want() > 0
	if c.closing || c.stopping {
		s.retireIdle()
	}
	c.mu.Unlock()
	report.Slot = s.slot
	c.done(e, report)
	if waits {
		s.flush()
	}
	if hungry {
		c.signal()
	}
	return true
}

// overlong is the reply of a line that is too long to be read whole.
func overlong(start []byte, expected string) (reply, error) {
	if !bytes.HasPrefix(start, replyStart) {
		return reply{}, errors.New("it is no reply, and longer than any may be")
	}
	return reply{id: expected}, nil
}

// becomeReady takes the process's first line.
func (s *seat[J]) becomeReady(r *readyLine) bool {
	c := s.c
	c.mu.Lock()
	switch {
	case s.starting.IsZero():
		s.rubbish = "the process spoke no task protocol: it said a second time that it is ready"
	case r.Version != ProtocolVersion:
		s.rubbish = fmt.Sprintf("the process speaks version %d of the task protocol, and ctworker version %d", r.Version, ProtocolVersion)
	}
	if s.rubbish != "" {
		s.kill()
		c.mu.Unlock()
		return false
	}
	s.starting = time.Time{}
	s.ahead = r.Ahead && c.pool.claims()
	if c.closing || c.stopping {
		s.retireIdle()
	}
	c.mu.Unlock()
	s.flush()
	c.signal()
	return true
}

// caughtUp goes on when the process has said of every task that was taken back
// that it has not been run.
func (s *seat[J]) caughtUp() {
	s.c.mu.Lock()
	if s.c.closing || s.c.stopping {
		s.retireIdle()
	}
	s.c.mu.Unlock()
	s.flush()
	s.c.signal()
}

// awaitEnd waits for the end of a process that says no more, and reports false
// where not even SIGKILL has brought it about.
func (s *seat[J]) awaitEnd() bool {
	c := s.c
	c.mu.Lock()
	if s.killAt.IsZero() && s.giveUp.IsZero() {
		s.killAt = time.Now().Add(c.pool.opts.KillDelay)
		c.expect(s.killAt)
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
		hopeless := !s.giveUp.IsZero() && time.Now().After(s.giveUp)
		c.mu.Unlock()
		if hopeless {
			return false
		}
	}
}

// conclude tells what came of the task that the process was running, and keeps
// those that it had not begun. It reports whether there may be another process.
func (s *seat[J]) conclude(sess *session, reading error, gone bool) bool {
	c := s.c
	exit := Exit{}
	if gone {
		exit = s.proc.Exit()
	}
	if f, ok := s.proc.(*fork); ok && gone && f.startError() != nil {
		return s.forkFailed(f.startError())
	}
	c.mu.Lock()
	begun := len(s.handed)
	switch {
	case s.held != nil:
	case s.ahead:
		begun -= min(sess.takeBack(len(s.handed)), begun)
	case !s.starting.IsZero() || sess.unread(reading):
		begun = 0 // it has not even read it
	}
	waiting := len(s.handed)
	ran := s.handed[:begun]
	kept := append(append([]entry[J]{}, s.handed[begun:]...), s.pending...)
	s.handed, s.voided, s.pending = nil, nil, kept
	end, rubbish, held := s.end, s.rubbish, s.held
	failedStart := ""
	if end == 0 && !c.stopping && begun == 0 && s.answered == 0 && held == nil {
		switch {
		case rubbish != "":
			failedStart = rubbish
		case s.starting.IsZero() && s.retired && waiting == 0: // it had nothing to do
		case s.starting.IsZero():
			failedStart = "after it had said that it is ready, and before it had begun a task, " + exitText(exit)
		case s.late:
			failedStart = fmt.Sprintf("process %d did not say within %v that it is ready", s.proc.Pid(), c.pool.opts.StartTimeout)
		default:
			failedStart = "before it had said that it is ready, " + exitText(exit)
		}
	} else if begun > 0 {
		c.failures = 0
	}
	s.sess, s.proc, s.starting, s.shortSince = nil, nil, time.Time{}, time.Time{}
	if c.stopping {
		c.backlog = append(c.backlog, s.pending...)
		s.pending = nil
	}
	elapsed := time.Since(s.began)
	head := time.Since(s.head)
	c.mu.Unlock()

	for i, e := range ran {
		var r Report
		switch {
		case held != nil && i == 0:
			r = *held
		case end != 0:
			r = Report{End: end}
		case rubbish != "":
			r = failed("%s", rubbish)
		default:
			r = Report{End: Exited, ExitCode: exit.Code}
		}
		r.Elapsed, r.Slot = head, s.slot
		if c.pool.opts.MaxTasks == 1 {
			r.Elapsed = elapsed
			r.CPU, r.PeakMemory = exit.CPU, exit.PeakMemory
		}
		c.done(e, r)
	}
	if !gone {
		c.pool.opts.Log.Warn().Int("slot", s.slot).Msg("a process does not even die of SIGKILL; it is left behind")
	}
	c.giveBackIfStopping()
	c.signal()
	return failedStart == "" || c.startFailed(failedStart)
}

// forkFailed keeps what was meant for a process that there never was, and waits
// where the machine is short of something.
func (s *seat[J]) forkFailed(err error) bool {
	c := s.c
	c.mu.Lock()
	s.pending = append(append([]entry[J]{}, s.handed...), s.pending...)
	s.handed, s.sess, s.proc = nil, nil, nil
	if c.stopping {
		c.backlog = append(c.backlog, s.pending...)
		s.pending = nil
	}
	if s.shortSince.IsZero() {
		s.shortSince = time.Now()
	}
	short := time.Since(s.shortSince)
	c.mu.Unlock()
	c.giveBackIfStopping()
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
	}
}
