package procexec

import (
	"errors"
	"fmt"
	"time"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/taskproto"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// poolProcess is one process of a pool. It exists from the decision to start the process until the
// process is gone.
type poolProcess[J any] struct {
	slot  *slot[J]
	state procState
	limit deadline // when the state, or the running task, will have lasted too long

	conn           *taskproto.EngineConn
	proc           process
	output         *processOutput   // nil if the process shares its streams with this program
	quietIn        int              // number of tasks without output after which the process gets tasks in advance
	lastTask       Task             // the last task that has ended; only set if output is not nil
	stderrLine     string           // last line of standard error of the task that ran when the process exited; valid if exited
	wasReady       bool             // the process has reported that it is ready
	prefetches     bool             // the process accepts further tasks while it runs a task
	inputClosed    bool             // the process gets no more tasks
	tasksRemaining int              // how many more tasks may be sent to the process; negative if unlimited
	sent           fifo[job[J]]     // jobs sent to the process; the process runs the first one, and replies in this order
	revoked        fifo[string]     // ids of tasks that were taken back, and that the process has not returned yet
	replies        int              // number of replies that the process has sent
	claim          claimState       // whether the process has claimed its first task
	launchedAt     time.Time        // when the start of the process began
	headStartedAt  time.Time        // when the process began the first task of sent
	returnBy       time.Time        // time by which the process must return the next task of revoked; used in state returning
	isLong         bool             // the last task of the process is long, so no job should wait for this process
	finalResult    *TaskResult      // result of a process that runs only one task; kept until the process has exited
	batches        chan *replyBatch // empty batches for the goroutine that reads

	stopReason    outcome.Kind // outcome of the running task if ctworker ends the process; 0 if it does not
	violation     string       // how the process violated the task protocol; "" if it did not
	startTimedOut bool         // the process was killed because it did not become ready in time
	readErr       error        // why reading from the process ended; valid if readDone
	readDone      bool
	exited        bool
	abandoned     chan struct{} // closed if the loop no longer waits for the exit of the process
}

// claimState records whether a process has claimed its first task, that is, announced that it
// starts the task. Only processes that accept further tasks while they run a task must claim tasks.
type claimState uint8

const (
	claimUnknown claimState = iota // not checked yet
	claimOverdue                   // checked after MaxRuntime: not claimed, but StartTimeout has not passed
	claimed
	neverClaimed // killed because it did not claim a task, or did not return a task that was taken back
)

// apply changes the state of the process according to an event.
func (w *poolProcess[J]) apply(e procEvent) { w.state = w.state.next(e) }

// acceptsTasks reports whether the process can be sent tasks.
func (w *poolProcess[J]) acceptsTasks() bool {
	return (w.state == ready || w.state == busy) && !w.inputClosed && w.revoked.len() == 0
}

// isEnding reports whether the process will exit soon, so that jobs may wait for the next process.
func (w *poolProcess[J]) isEnding() bool {
	return !w.isLong && (w.state >= returning || w.state == busy && w.inputClosed)
}

// protocolError is a violation of the task protocol by a process.
type protocolError struct{ text string }

func newProtocolError(line []byte, err error) error {
	return &protocolError{fmt.Sprintf("the process violated the task protocol: it sent %s: %v", utf8cut.Quote(line), err)}
}

// Error returns the beginning of the line, and what is wrong with the line.
func (e *protocolError) Error() string { return e.text }

// violate kills a process because it violated the task protocol.
func (l *loop[J, R]) violate(w *poolProcess[J], text string) {
	w.violation = text
	l.kill(w)
}

// onReply handles one line that a process wrote.
func (l *loop[J, R]) onReply(w *poolProcess[J], r *reply) {
	if r.Ready != nil {
		l.onReady(w, r.Ready)
		return
	}
	isNext := w.sent.len() > 0 && (r.tooLong || w.sent.first().task.ID == string(r.id))
	var err error
	switch {
	case w.state == starting:
		err = errors.New("the first line must be \"ready\"")
	case r.Returned && w.sent.len() == 0 && w.revoked.len() > 0 && *w.revoked.first() == string(r.id):
		l.onReturned(w)
		return
	case r.Returned:
		err = errors.New("the task was not revoked, or the process must first reply to, or return, a task that it received earlier")
	case w.sent.len() == 0 || w.finalResult != nil:
		err = errors.New("ctworker expects no reply, because the process has no task")
	case !isNext:
		err = fmt.Errorf("the next reply must be for the task %q", w.sent.first().task.ID)
	default:
		l.onResult(w, r)
		return
	}
	l.violate(w, newProtocolError(fmt.Appendf(nil, `{"task_id":%q, …}`, r.id), err).Error())
}

// onReady handles "ready", the first line that a process writes.
func (l *loop[J, R]) onReady(w *poolProcess[J], r *taskproto.Ready) {
	switch {
	case w.wasReady:
		l.violate(w, "the process violated the task protocol: it sent a second \"ready\"")
		return
	case r.Version != taskproto.Version:
		l.violate(w, fmt.Sprintf("the process uses version %d of the task protocol, but this ctworker supports only version %d: install versions of ctworker and its SDK that match", r.Version, taskproto.Version))
		return
	}
	w.wasReady, w.prefetches = true, r.Ahead && l.pool.usesPermits()
	w.conn.OnReady(*r)
	w.apply(reported)
	l.retireIfOver(w)
}

// onReturned is called when a process has returned the next task that was taken back from it.
func (l *loop[J, R]) onReturned(w *poolProcess[J]) {
	w.revoked.pop()
	w.returnBy = time.Now().Add(l.pool.opts.StartTimeout) // StartTimeout applies to each returned task separately
	if w.revoked.len() == 0 && w.sent.len() == 0 {
		w.apply(returned)
		l.retireIfOver(w)
	}
}

// onResult handles the reply of a process to its first task.
func (l *loop[J, R]) onResult(w *poolProcess[J], r *reply) {
	opts := &l.pool.opts
	j := w.sent.pop()
	took := r.at.Sub(w.headStartedAt)
	w.headStartedAt = r.at
	w.replies++
	l.failures = 0
	l.config.Prefetch.Observe(took, len(j.task.Data))
	if r.Warning != "" {
		if log := l.warnings.take(&opts.Log, j.task.ID, r.Warning); log != nil {
			log()
		}
	}
	if w.stopReason == 0 && took >= opts.MaxRuntime && took < opts.MaxRuntime+suspensionThreshold {
		l.sendTerm(w, outcome.TimedOut) // the deadline has also passed, but is not handled yet
	}
	result := taskResult(&r.Reply, opts.MaxResult)
	switch {
	case w.stopReason != 0: // the process was being terminated when it sent the result
		result = TaskResult{Kind: w.stopReason}
	case r.tooLong:
		result = tooLarge(opts.MaxResult)
	}
	result.Elapsed, result.Slot = took, w.slot.index
	w.countQuiet(j.task)
	if opts.MaxTasks == 1 && w.stopReason == 0 {
		// Keep the result until the process has exited, because the result includes the resource
		// usage of the process.
		final := result // a copy, because the address of result would move result to the heap for every task
		w.finalResult = &final
		w.sent.push(j)
		l.close(w)
		return
	}
	l.end(j, result)
	if w.sent.len() == 0 {
		if w.revoked.len() > 0 {
			w.returnBy = r.at.Add(opts.StartTimeout)
			w.apply(mustReturn)
		} else {
			w.apply(replied)
		}
		if w.inputClosed && w.state < retiring {
			l.close(w)
		}
		l.retireIfOver(w)
	}
}

// countQuiet is called when a task has ended. It updates quietIn: a task that has printed output
// restarts the count of tasks without output.
func (w *poolProcess[J]) countQuiet(task Task) {
	if w.output == nil {
		return
	}
	w.lastTask = Task{ID: task.ID, Attempt: task.Attempt}
	switch {
	case w.output.printed.Swap(false):
		w.quietIn = quietTasks
	case w.quietIn > 0:
		w.quietIn--
	}
}

// takesTasksInAdvance reports whether the process may be sent further tasks while it runs a task.
func (w *poolProcess[J]) takesTasksInAdvance() bool {
	return w.prefetches && (w.output == nil || w.quietIn == 0)
}

// retireIfOver ends a process that has no task if no further tasks will be sent.
func (l *loop[J, R]) retireIfOver(w *poolProcess[J]) {
	if l.closing || l.stopping {
		l.retire(w)
	}
}

// retire closes the input of a process that has no task, so that the process exits. Before that,
// the process must return the tasks that were taken back. It is killed if it does not exit within
// the kill delay.
func (l *loop[J, R]) retire(w *poolProcess[J]) {
	if (w.state == ready || w.state == returning) && w.sent.len() == 0 {
		l.close(w)
	}
}

// close closes the input of a process. The process is killed if it does not exit within the kill
// delay.
func (l *loop[J, R]) close(w *poolProcess[J]) {
	w.inputClosed = true
	w.apply(closed)
	l.setLimit(w, time.Now().Add(l.pool.opts.KillDelay))
	w.conn.CloseWrite()
}

// stopIdle ends a process without a task, because no further tasks will be sent. It terminates a
// process that is not ready yet, and closes the input of an idle one.
func (l *loop[J, R]) stopIdle(w *poolProcess[J]) {
	if w.state == starting {
		l.terminate(w, outcome.Interrupted)
		return
	}
	l.retire(w)
}

// terminate ends a process. It sends SIGTERM, and SIGKILL after the kill delay. If the process has
// no task, terminate only closes the input of the process. If reason is LeaseLost, or if the kill
// delay is 0, terminate only sends SIGKILL, immediately. reason becomes the outcome of the running
// task.
func (l *loop[J, R]) terminate(w *poolProcess[J], reason outcome.Kind) {
	if w.state == launching || w.state >= terminating || w.stopReason != 0 {
		return
	}
	hasTask := w.state == starting || w.sent.len() > 0 && w.finalResult == nil
	switch {
	case reason == outcome.LeaseLost || l.pool.opts.KillDelay == 0:
		if hasTask {
			w.stopReason = reason
		}
		l.kill(w)
	case hasTask:
		l.sendTerm(w, reason)
	default:
		l.retire(w)
	}
}

// sendTerm sends SIGTERM to a process. The process is killed if it does not exit within the kill
// delay.
func (l *loop[J, R]) sendTerm(w *poolProcess[J], reason outcome.Kind) {
	w.stopReason = reason
	w.apply(terminated)
	l.setLimit(w, time.Now().Add(l.pool.opts.KillDelay))
	w.proc.Terminate(l.pool.opts.KillDelay)
}

// kill sends SIGKILL to a process.
func (l *loop[J, R]) kill(w *poolProcess[J]) {
	if w.state == launching || w.state == gone {
		return
	}
	if w.state != killed {
		l.setLimit(w, time.Now().Add(sigkillTimeout))
	}
	w.apply(sigkilled)
	w.proc.Kill()
}

// revoke takes back up to n tasks that the process has not claimed, the newest first, and moves
// them to the start of the backlog. It returns how many it took back.
func (l *loop[J, R]) revoke(w *poolProcess[J], n int) int {
	if w.state == launching || !w.prefetches || w.sent.len() == 0 || w.finalResult != nil {
		return 0
	}
	got := min(w.conn.Revoke(min(n, w.sent.len())), w.sent.len())
	if got == 0 {
		return 0
	}
	jobs := w.sent.takeLast(got)
	// The process will return these tasks before the tasks that were revoked earlier, because it
	// received these tasks first.
	var ids fifo[string]
	for _, j := range jobs {
		ids.push(j.task.ID)
	}
	for _, id := range w.revoked.list() {
		ids.push(id)
	}
	w.revoked = ids
	l.backlog = append(jobs, l.backlog...)
	if w.sent.len() == 0 {
		w.returnBy = time.Now().Add(l.pool.opts.StartTimeout)
		w.apply(mustReturn)
	}
	l.updateLimit(w)
	return got
}
