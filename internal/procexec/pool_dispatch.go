package procexec

import (
	"time"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/taskproto"
)

// want makes dispatch check whether slot s needs a job or a process.
func (l *loop[J, R]) want(s *slot[J]) {
	if !s.isHungry {
		s.isHungry = true
		l.hungry = append(l.hungry, s)
	}
}

// maxKeptBuffer is the maximum capacity of the buffer that assign keeps for the next tasks.
const maxKeptBuffer = 1 << 20

// maxUnsentResults is the maximum number of results that may wait because Output is full. While
// that many results wait, no further task is sent to a process.
const maxUnsentResults = 256

// dispatch sends jobs to processes that need some, and starts processes for jobs that wait.
func (l *loop[J, R]) dispatch() {
	for !l.stopping && !l.closing && l.results.len() < maxUnsentResults {
		s, room := l.neediestSlot()
		if s != nil {
			if l.assign(s.current, room) > 0 {
				continue
			}
			// There is no job to assign. Give the idle process a task that waits in a busy process.
			if s.current.state == ready && l.stealWork() {
				continue
			}
		}
		break
	}
	l.launchProcesses()
	l.armBacklog()
}

// neediestSlot returns the slot whose process should get jobs next, and how many jobs it should
// get. It prefers a slot whose process has no task. If a slot needs neither a job nor a process,
// neediestSlot removes it from l.hungry.
func (l *loop[J, R]) neediestSlot() (best *slot[J], room int) {
	kept := l.hungry[:0]
	for _, s := range l.hungry {
		n := l.demand(s.current)
		if n <= 0 && !l.needsProcess(s) && !s.endsSoon() {
			s.isHungry = false
			continue
		}
		kept = append(kept, s)
		isIdle := n > 0 && s.current.state == ready
		if n > 0 && (best == nil || isIdle && best.current.state != ready || isIdle == (best.current.state == ready) && n > room) {
			best, room = s, n
		}
	}
	clear(l.hungry[len(kept):])
	l.hungry = kept
	return best, room
}

// demand returns how many more jobs should be sent to a process. The result can be negative.
func (l *loop[J, R]) demand(w *poolProcess[J]) int {
	if w == nil || !w.acceptsTasks() {
		return 0
	}
	have := w.sent.len()
	if !w.takesTasksInAdvance() {
		return 1 - have
	}
	want := l.config.Prefetch.PerProcess()
	if w.tasksRemaining >= 0 {
		want = min(want, w.tasksRemaining+have)
	}
	if have > want*3/4 {
		return 0 // wait until more tasks are done: sending one task costs as much as sending many
	}
	return want - have
}

// endsSoon reports whether the slot cannot take a job now, but will probably be able to soon.
func (s *slot[J]) endsSoon() bool {
	w := s.current
	return w != nil && (w.state == launching || w.state == starting || w.isEnding())
}

// needsProcess reports whether the slot has no process, and may start a process now.
func (l *loop[J, R]) needsProcess(s *slot[J]) bool {
	return s.current == nil && s.retryLaunch.index < 0
}

// wantsJobs reports whether a further job could be sent to a process now or soon.
func (l *loop[J, R]) wantsJobs() bool {
	if l.stopping || l.closing || l.results.len() >= maxUnsentResults {
		return false
	}
	free := 0
	for _, s := range l.hungry {
		if l.demand(s.current) > 0 {
			return true
		}
		if s.current == nil || s.endsSoon() {
			free++
		}
	}
	return len(l.backlog) < free
}

// accept adds a job that was received from Input to the backlog. If open is false, Input is closed.
func (l *loop[J, R]) accept(value J, open bool) {
	if !open {
		l.input = nil
		return
	}
	l.backlog = append(l.backlog, l.newJob(value))
}

func (l *loop[J, R]) newJob(value J) job[J] {
	l.openJobs++
	j := job[J]{value: value, task: l.config.Task(value)}
	if l.config.Lost != nil {
		j.lost = l.config.Lost(value)
	}
	if j.lost != nil {
		j.done = make(chan struct{})
		l.watchLease(j)
	}
	return j
}

// watchLease sends an event to the loop when the lease of a job is lost. It is a separate function
// because its goroutine refers to j. If newJob contained the goroutine, Go would allocate every job
// on the heap.
func (l *loop[J, R]) watchLease(j job[J]) {
	l.spawn(func() {
		select {
		case <-j.lost:
			l.post(event[J]{lost: &j})
		case <-j.done:
		case <-l.done:
		}
	})
}

// nextJob returns the next job, from the backlog or else from Input. ok is false if no job is
// available now.
func (l *loop[J, R]) nextJob() (j job[J], ok bool) {
	if len(l.backlog) > 0 {
		j = l.backlog[0]
		l.backlog[0] = job[J]{}
		if l.backlog = l.backlog[1:]; len(l.backlog) == 0 {
			l.backlog = nil
		}
		l.deadlines.clear(&l.backlogDeadline)
		return j, true
	}
	if l.input == nil {
		return j, false
	}
	select {
	case value, open := <-l.input:
		if !open {
			l.input = nil
			return j, false
		}
		return l.newJob(value), true
	default:
		return j, false
	}
}

// assign sends up to n jobs to a process. It does not send jobs whose lease is lost. It returns how
// many jobs it took from the backlog and from Input, including jobs that it did not send.
func (l *loop[J, R]) assign(w *poolProcess[J], n int) (taken int) {
	l.out = l.out[:0]
	count := 0
	for count < n {
		j, ok := l.nextJob()
		if !ok {
			break
		}
		taken++
		if j.lost != nil && isClosed(j.lost) {
			l.end(j, TaskResult{Kind: outcome.LeaseLost, Slot: w.slot.index})
			continue
		}
		if w.sent.len() == 0 {
			w.headStartedAt = time.Now()
			w.beginOutput(j.task)
		}
		w.sent.push(j)
		l.out = taskproto.AppendTask(l.out, j.task.ID, j.task.Attempt, j.task.Data)
		count++
	}
	if count == 0 {
		return taken
	}
	w.tasksRemaining -= count // may be negative already, which means that there is no limit
	w.apply(sent)
	// Add the permits before the tasks are written, because the process may claim a task as soon as
	// it has read the task.
	if w.prefetches {
		w.conn.AddPermits(count)
	}
	w.conn.Write(l.out)
	if w.tasksRemaining == 0 {
		w.inputClosed = true
		w.conn.CloseWrite()
		l.want(w.slot) // the next job may wait for the exit of the process
	}
	l.updateLimit(w)
	if cap(l.out) > maxKeptBuffer {
		l.out = nil
	}
	return taken
}

// beginOutput prepares to read the output of a task that is about to be sent to an idle process.
func (w *poolProcess[J]) beginOutput(task Task) {
	switch {
	case w.output == nil:
	case w.takesTasksInAdvance():
		w.output.prefetching.Store(true)
	default:
		w.output.begin(task)
	}
}

// stealWork takes back half of the tasks that wait in the busiest process, and puts them into the
// backlog for an idle process. It reports whether it took back any task.
func (l *loop[J, R]) stealWork() bool {
	var from *poolProcess[J]
	waiting := 0
	for _, s := range l.slots {
		if w := s.current; w != nil && w.state == busy && w.prefetches && w.sent.len()-1 > waiting {
			from, waiting = w, w.sent.len()-1
		}
	}
	return from != nil && l.revoke(from, (waiting+1)/2) > 0
}

// launchProcesses starts processes until each job in the backlog has a process, or no further slot
// is free.
func (l *loop[J, R]) launchProcesses() {
	if l.stopping || l.closing || len(l.backlog) == 0 {
		return
	}
	coming := 0
	for _, s := range l.slots {
		if s.hasProcessForNextJob() {
			coming++
		}
	}
	for _, s := range l.slots {
		if coming >= len(l.backlog) {
			return
		}
		switch {
		case l.needsProcess(s):
			s.current = l.launch(s)
		case l.pool.preforks() && s.canPrefork():
			s.preforked = l.launch(s)
		default:
			continue
		}
		coming++
	}
}

// hasProcessForNextJob reports whether the slot has a process that has no task yet or is still
// being started.
func (s *slot[J]) hasProcessForNextJob() bool {
	w := s.current
	return s.preforked != nil || w != nil && (w.state == launching || w.state == starting || w.state == ready)
}

// canPrefork reports whether the next process of the slot can be forked while the current process
// ends.
func (s *slot[J]) canPrefork() bool {
	return s.preforked == nil && s.current != nil && s.current.isEnding()
}

// armBacklog sets the deadline of the backlog if jobs wait for a slot, and clears it if none do.
func (l *loop[J, R]) armBacklog() {
	if l.stuckJobs() <= 0 {
		l.deadlines.clear(&l.backlogDeadline)
		return
	}
	if limit := l.config.Prefetch.MaxQueueTime(); limit > 0 && l.backlogDeadline.index < 0 {
		l.deadlines.set(&l.backlogDeadline, time.Now().Add(limit))
	}
}

// stuckJobs returns the number of jobs in the backlog for which no slot will be free soon. A result
// of 0 or less means that there are no such jobs.
func (l *loop[J, R]) stuckJobs() int {
	n := len(l.backlog)
	for _, s := range l.slots {
		if n <= 0 {
			break
		}
		if s.current == nil || s.endsSoon() {
			n--
		}
	}
	return n
}

// onBacklogOverdue releases the jobs that wait for a slot, because they have waited for too long.
func (l *loop[J, R]) onBacklogOverdue(time.Time) {
	if n := l.stuckJobs(); n > 0 {
		l.config.Prefetch.Stalled()
		l.releaseLast(n)
	}
}

// releaseBacklog releases all jobs in the backlog.
func (l *loop[J, R]) releaseBacklog() { l.releaseLast(len(l.backlog)) }

// releaseLast releases the last n jobs in the backlog.
func (l *loop[J, R]) releaseLast(n int) {
	keep := len(l.backlog) - n
	last := l.backlog[keep:]
	l.backlog = l.backlog[:keep:keep]
	l.deadlines.clear(&l.backlogDeadline)
	for _, j := range last {
		l.release(j)
	}
}

// onLost handles the loss of a job's lease. If the task is running, onLost kills its process. If
// the task has not started, onLost moves the job to the backlog, and assign will report the lost
// lease.
func (l *loop[J, R]) onLost(lost job[J]) {
	l.forEachProcess(func(w *poolProcess[J]) {
		for _, j := range w.sent.list() {
			if j.done != lost.done {
				continue
			}
			l.revoke(w, w.sent.len())
			if w.sent.len() > 0 && w.sent.first().done == lost.done {
				l.terminate(w, outcome.LeaseLost)
			}
			break
		}
		l.want(w.slot)
	})
}
