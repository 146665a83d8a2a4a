package procexec

import (
	"errors"
	"fmt"
	"time"

	"github.com/ctworker/ctworker/internal/taskproto"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// poolProcess is one process of a pool, from the request to launch it until it is gone.
type poolProcess[J any] struct {
	slot  *slot[J]
	entry int // in the guard's table of process groups
	state procState
	limit deadline // when the state, or the running task, has lasted too long

	conn           *taskproto.EngineConn
	proc           process
	wasReady       bool             // it has reported that it is ready
	prefetches     bool             // it accepts tasks while it runs another
	inputClosed    bool             // no more tasks will be sent to it
	tasksRemaining int              // how many more tasks may be sent to the process; negative if unlimited
	sent           fifo[job[J]]     // its tasks, in the order of the replies; it runs the first one
	revoked        fifo[string]     // ids of tasks that were revoked and that it has yet to return
	replies        int              // number of replies
	claim          claimState       // whether it has claimed its first task
	launchedAt     time.Time        // when it was started
	headStartedAt  time.Time        // when it began its first task of sent
	returnBy       time.Time        // when it must have returned its next revoked task; valid in state returning
	isLong         bool             // its last task runs for long, so no job must wait for its end
	finalResult    *TaskResult      // result of its only task, until it has exited
	batches        chan *replyBatch // batches for its reader

	stopReason    ExitKind // outcome of its running task if it was terminated or killed, or 0
	violation     string   // how it violated the task protocol, or ""
	startTimedOut bool     // it was killed because it did not become ready in time
	readErr       error    // why nothing more can be read from it; valid if readDone
	readDone      bool
	exited        bool
	abandoned     chan struct{} // closed if the loop does not wait for its exit any more
}

// claimState records whether a process that prefetches tasks has claimed its first task.
type claimState uint8

const (
	claimUnknown claimState = iota // not checked yet
	claimOverdue                   // not claimed when MaxRuntime had passed
	claimed
	neverClaimed // killed because it did not claim a task, or did not return a revoked one
)

// apply changes the state, as the event does.
func (w *poolProcess[J]) apply(e procEvent) { w.state = w.state.next(e) }

// acceptsTasks reports whether the process can be sent tasks.
func (w *poolProcess[J]) acceptsTasks() bool {
	return (w.state == ready || w.state == busy) && !w.inputClosed && w.revoked.len() == 0
}

// isEnding reports whether the process will exit soon, so that its slot is free for the next one.
func (w *poolProcess[J]) isEnding() bool {
	return !w.isLong && (w.state >= returning || w.state == busy && w.inputClosed)
}

// protocolError is how a process violated the task protocol.
type protocolError struct{ text string }

func newProtocolError(line []byte, err error) error {
	return &protocolError{fmt.Sprintf("the process violated the task protocol: it sent %s: %v", utf8cut.Quote(line), err)}
}

// Error returns the line and what is wrong with it.
func (e *protocolError) Error() string { return e.text }

// violate kills a process that violated the task protocol.
func (l *loop[J, R]) violate(w *poolProcess[J], text string) {
	w.violation = text
	l.kill(w)
}

// onReply handles one line.
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
		err = errors.New("the task was not taken back (revoked), or another task must be returned first")
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

// onReady handles the first line of a process.
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

// onReturned handles the return of the next revoked task.
func (l *loop[J, R]) onReturned(w *poolProcess[J]) {
	w.revoked.pop()
	w.returnBy = time.Now().Add(l.pool.opts.StartTimeout) // each task has its own time limit
	if w.revoked.len() == 0 && w.sent.len() == 0 {
		w.apply(returned)
		l.retireIfOver(w)
	}
}

// onResult handles the reply to the first task of a process.
func (l *loop[J, R]) onResult(w *poolProcess[J], r *reply) {
	opts := &l.pool.opts
	j := w.sent.pop()
	took := r.at.Sub(w.headStartedAt)
	w.headStartedAt = r.at
	w.replies++
	l.failures = 0
	l.observe(took, len(j.task.Data)+64)
	if r.Warning != "" {
		if log := l.warnings.take(&opts.Log, j.task.ID, r.Warning); log != nil {
			log()
		}
	}
	if w.stopReason == 0 && took >= opts.MaxRuntime && took < opts.MaxRuntime+suspensionThreshold {
		l.sendTerm(w, TimedOut) // its deadline was about to do so
	}
	result := taskResult(&r.Reply, opts.MaxResult)
	switch {
	case w.stopReason != 0: // the process was terminated before it sent the result
		result = TaskResult{Kind: w.stopReason}
	case r.tooLong:
		result = tooLarge(opts.MaxResult)
	}
	result.Elapsed, result.Slot = took, w.slot.index
	if opts.MaxTasks == 1 && w.stopReason == 0 { // report it with the resource usage, once the process has exited
		final := result // result itself would be allocated on the heap for every task
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

// retireIfOver retires a process that has no task if no more tasks will be sent.
func (l *loop[J, R]) retireIfOver(w *poolProcess[J]) {
	if l.closing || l.stopping {
		l.retire(w)
	}
}

// retire closes the input of a process that has no task. It exits after it has returned the revoked
// tasks, or is killed.
func (l *loop[J, R]) retire(w *poolProcess[J]) {
	if (w.state == ready || w.state == returning) && w.sent.len() == 0 {
		l.close(w)
	}
}

// close closes the input of a process, which must then exit within the kill delay.
func (l *loop[J, R]) close(w *poolProcess[J]) {
	w.inputClosed = true
	w.apply(closed)
	l.setLimit(w, time.Now().Add(l.pool.opts.KillDelay))
	w.conn.CloseWrite()
}

// stopIdle terminates a process that is starting, and retires one that has no task. It is called
// when no more tasks will be sent.
func (l *loop[J, R]) stopIdle(w *poolProcess[J]) {
	if w.state == starting {
		l.terminate(w, Interrupted)
		return
	}
	l.retire(w)
}

// terminate sends SIGTERM to a process, and SIGKILL after the kill delay, or SIGKILL at once if the
// lease is lost. A process that has no task is retired instead. reason becomes the outcome of the
// running task.
func (l *loop[J, R]) terminate(w *poolProcess[J], reason ExitKind) {
	if w.state == launching || w.state >= terminating || w.stopReason != 0 {
		return
	}
	hasTask := w.state == starting || w.sent.len() > 0 && w.finalResult == nil
	switch {
	case reason == LeaseLost || l.pool.opts.KillDelay == 0:
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

// sendTerm sends SIGTERM to a process with a task, and SIGKILL after the kill delay.
func (l *loop[J, R]) sendTerm(w *poolProcess[J], reason ExitKind) {
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

// revoke takes back up to n tasks that the process has not claimed, the last ones first, and moves
// them to the start of the backlog. It returns their number.
func (l *loop[J, R]) revoke(w *poolProcess[J], n int) int {
	if w.state == launching || !w.prefetches || w.sent.len() == 0 || w.finalResult != nil {
		return 0
	}
	got := min(w.conn.Revoke(min(n, w.sent.len())), w.sent.len())
	if got == 0 {
		return 0
	}
	jobs := w.sent.takeLast(got)
	// They come before the tasks that were revoked earlier.
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
