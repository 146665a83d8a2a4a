package procexec

import (
	"fmt"
	"time"

	"github.com/ctworker/ctworker/internal/outcome"
)

// onReadDone is called when reading from a process has ended. The process must now exit.
func (l *loop[J, R]) onReadDone(w *poolProcess[J]) {
	if w.state == starting || w.state == ready || w.state == busy || w.state == returning {
		l.close(w)
	}
	if w.exited {
		l.gone(w)
	}
}

// onExited is called when a process has exited. Some of its output may still be unread.
func (l *loop[J, R]) onExited(w *poolProcess[J]) {
	w.exited = true
	if w.readDone {
		l.gone(w)
	}
}

// gone handles the end of a process. It reports the results of the tasks that had begun, and moves
// the other jobs to the start of the backlog.
func (l *loop[J, R]) gone(w *poolProcess[J]) {
	if w.state == gone {
		return
	}
	l.deadlines.clear(&w.limit)
	exit := Exit{}
	f, isFork := w.proc.(*forkedProcess)
	if w.exited {
		exit = w.proc.Exit()
		if isFork && f.startError() != nil {
			l.forkFailed(w, f.startError())
			return
		}
		if isFork && f.diedWithForkServer() && w.stopReason == 0 {
			w.stopReason = outcome.Interrupted
		}
	} else {
		close(w.abandoned)
		l.pool.opts.Log.Warn().Int("slot", w.slot.index).Msg("process did not exit after SIGKILL; the slot continues without it")
	}
	waiting := w.sent.len()
	begun := l.begun(w)
	l.backlog = append(w.sent.takeLast(waiting-begun), l.backlog...)
	failure := l.startFailure(w, begun, waiting, exit)
	if begun > 0 {
		l.failures = 0
	}
	if w.claim == neverClaimed && failure == "" {
		l.pool.opts.Log.Warn().Int("slot", w.slot.index).Msg("killed a worker process because it did not return revoked tasks; other processes run these tasks")
	}
	w.slot.shortageSince = time.Time{}
	w.apply(ended)
	w.conn.Close()
	l.remove(w)
	now := time.Now()
	for i, j := range w.sent.list() {
		l.end(j, l.lastResult(w, i, exit, now))
	}
	if l.stopping {
		l.releaseBacklog()
		return
	}
	if failure != "" {
		l.startFailed(failure)
	}
}

// begun returns how many of the tasks that were sent to a process had begun when it exited.
func (l *loop[J, R]) begun(w *poolProcess[J]) int {
	n := w.sent.len()
	switch {
	case w.finalResult != nil:
		return n
	case w.prefetches:
		return n - min(w.conn.Revoke(n), n)
	case !w.wasReady || w.conn.Unread(w.readErr):
		return 0 // the process did not read the task, so the task had not begun
	}
	return n
}

// lastResult returns the result of a task that was running when its process exited. i is the index
// of the task in sent.
func (l *loop[J, R]) lastResult(w *poolProcess[J], i int, exit Exit, now time.Time) (r TaskResult) {
	switch {
	case w.finalResult != nil && i == 0:
		r = *w.finalResult
	case w.stopReason != 0:
		r = TaskResult{Kind: w.stopReason}
	case w.violation != "":
		r = failed("%s", w.violation)
	default:
		r = TaskResult{Kind: outcome.Exited, ExitCode: exit.Code}
	}
	r.Elapsed, r.Slot = now.Sub(w.headStartedAt), w.slot.index
	if w.exited && (r.Kind == outcome.Exited || r.Kind == outcome.TimedOut) {
		r.StderrLine = w.stderrLine
	}
	if l.pool.opts.MaxTasks == 1 {
		r.Elapsed = now.Sub(w.launchedAt)
		r.CPU, r.PeakMemory = exit.CPU, exit.PeakMemory
	}
	return r
}

// startFailure returns why the start of a process failed, or "" if it did not fail. A start also
// counts as failed if the process exits before it begins a task, unless ctworker made the process
// exit.
func (l *loop[J, R]) startFailure(w *poolProcess[J], begun, waiting int, exit Exit) string {
	if w.stopReason != 0 || l.stopping || begun > 0 || w.replies > 0 || w.finalResult != nil {
		return ""
	}
	switch {
	case w.violation != "":
		return w.violation
	case w.wasReady && w.inputClosed && waiting == 0: // ctworker made an idle process exit
		return ""
	case w.claim == neverClaimed:
		return fmt.Sprintf("process %d was ready but did not begin a task within %v", w.proc.Pid(), l.pool.opts.StartTimeout)
	case w.wasReady:
		return exitText(exit) + " after it was ready and before it began a task"
	case w.startTimedOut:
		return fmt.Sprintf("process %d did not become ready within %v", w.proc.Pid(), l.pool.opts.StartTimeout)
	default:
		return exitText(exit) + " before it was ready"
	}
}

// startFailed counts a failed start, and ends the run after maxStartFailures consecutive failures.
func (l *loop[J, R]) startFailed(reason string) {
	l.failures++
	l.pool.opts.Log.Warn().Str("command", l.pool.name()).Int("consecutive_failures", l.failures).Str("reason", reason).Msg("worker process failed to start; the run ends after 5 consecutive failures")
	if l.failures >= maxStartFailures {
		l.halt(&StartFailedError{Command: l.pool.name(), Reason: reason, Times: l.failures})
	}
}

// forkFailed handles a process that the fork server could not fork. The jobs of the process return
// to the backlog. If the machine is short of memory or processes, the slot tries again later.
// Otherwise the run ends.
func (l *loop[J, R]) forkFailed(w *poolProcess[J], err error) {
	s := w.slot
	l.backlog = append(w.sent.takeLast(w.sent.len()), l.backlog...)
	w.apply(ended)
	w.conn.Close()
	l.remove(w)
	if l.stopping {
		l.releaseBacklog()
		return
	}
	now := time.Now()
	if s.shortageSince.IsZero() {
		s.shortageSince = now
	}
	short := now.Sub(s.shortageSince)
	switch {
	case !isShortage(err):
		l.halt(err)
	case short > maxRetryTime:
		l.halt(&shortageError{err})
	default:
		l.pool.launcher.warnShortage(err)
		l.deadlines.set(&s.retryLaunch, now.Add(min(maxRetryDelay, initialRetryDelay+short/4)))
	}
}

// remove removes the process w, whose state is gone, from its slot.
func (l *loop[J, R]) remove(w *poolProcess[J]) {
	l.live--
	s := w.slot
	if s.preforked == w {
		s.preforked = nil
	} else {
		s.current, s.preforked = s.preforked, nil
		if s.current != nil {
			s.current.launchedAt = time.Now() // count from now, not from when the process was started in advance
		}
	}
	l.want(s)
}
