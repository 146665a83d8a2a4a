package procexec

import (
	"time"

	"github.com/ctworker/ctworker/internal/taskproto"
)

// want makes dispatch check whether a slot needs a job or a process.
func (l *loop[J, R]) want(s *slot[J]) {
	if !s.isHungry {
		s.isHungry = true
		l.hungry = append(l.hungry, s)
	}
}

// maxUnsentResults is the number of results that Output has not accepted from which on no further
// task is started.
const maxUnsentResults = 256

// dispatch sends jobs to the slots that need some, and launches processes for the others.
func (l *loop[J, R]) dispatch() {
	for !l.stopping && !l.closing && l.results.len() < maxUnsentResults {
		s, room := l.neediestSlot()
		if s != nil {
			if l.assign(s.current, room) > 0 {
				continue
			}
			// No job waits. An idle process gets tasks that wait behind others.
			if s.current.state == ready && l.stealWork() {
				continue
			}
		}
		break
	}
	l.launchProcesses()
	l.armBacklog()
}

// neediestSlot returns the slot whose process should get jobs next, and how many. It prefers a slot
// whose process has no task. It removes the slots that need nothing from hungry.
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

// demand returns how many more jobs should be sent to a process.
func (l *loop[J, R]) demand(w *poolProcess[J]) int {
	if w == nil || !w.acceptsTasks() {
		return 0
	}
	have := w.sent.len()
	if !w.prefetches {
		return 1 - have
	}
	want := l.prefetchDepth()
	if w.tasksRemaining >= 0 {
		want = min(want, w.tasksRemaining+have)
	}
	if have > want*3/4 {
		return 0 // sending a few tasks costs as much as sending many
	}
	return want - have
}

// endsSoon reports whether the slot will soon be free for a job, but is not now.
func (s *slot[J]) endsSoon() bool {
	w := s.current
	return w != nil && (w.state == launching || w.state == starting || w.isEnding())
}

// needsProcess reports whether a process could be launched for the slot.
func (l *loop[J, R]) needsProcess(s *slot[J]) bool {
	return s.current == nil && s.retryLaunch.index < 0
}

// wantsJobs reports whether a job could be sent to a process soon.
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

// accept adds a job to the backlog, and watches for the loss of its lease.
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

// watchLease reports the loss of a job's lease. It is not part of newJob, because a job that a
// goroutine refers to is allocated on the heap.
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

// nextJob returns the next job, from the backlog or else from the input, if there is one now.
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

// assign sends up to n jobs to a process, and returns how many jobs it took from the backlog and the
// input. Jobs whose lease is lost are not sent.
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
			l.end(j, TaskResult{Kind: LeaseLost, Slot: w.slot.index})
			continue
		}
		if w.sent.len() == 0 {
			w.headStartedAt = time.Now()
		}
		w.sent.push(j)
		l.out = taskproto.AppendTask(l.out, j.task.ID, j.task.Attempt, j.task.Data)
		count++
	}
	if count == 0 {
		return taken
	}
	w.tasksRemaining -= count // negative numbers mean that there is no limit
	w.apply(sent)
	// The permits come before the lines, because a process may claim a task as soon as it has read
	// the line.
	if w.prefetches {
		w.conn.AddPermits(count)
	}
	w.conn.Write(l.out)
	if w.tasksRemaining == 0 {
		w.inputClosed = true
		w.conn.CloseWrite()
		l.want(w.slot) // a job may wait for the end of the process
	}
	l.updateLimit(w)
	if cap(l.out) > 16*maxPrefetchBytes {
		l.out = nil
	}
	return taken
}

// stealWork moves tasks that wait behind other tasks of a process to the backlog, for an idle
// process. It reports whether it moved any.
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

// launchProcesses launches as many processes as jobs wait for one.
func (l *loop[J, R]) launchProcesses() {
	if l.stopping || l.closing || len(l.backlog) == 0 {
		return
	}
	coming := 0
	for _, s := range l.slots {
		if s.current != nil && (s.current.state == launching || s.current.state == starting || s.current.state == ready) || s.preforked != nil {
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
		case l.pool.preforks() && s.preforked == nil && s.current != nil && s.current.isEnding() && s.current.state != gone:
			s.preforked = l.launch(s)
		default:
			continue
		}
		coming++
	}
}

// armBacklog starts the time limit of the backlog, unless it has started.
func (l *loop[J, R]) armBacklog() {
	switch {
	case l.stuckJobs() <= 0:
		l.deadlines.clear(&l.backlogDeadline)
	case l.config.MaxQueueTime > 0 && l.backlogDeadline.index < 0:
		l.deadlines.set(&l.backlogDeadline, time.Now().Add(l.config.MaxQueueTime))
	}
}

// stuckJobs returns the number of jobs in the backlog for which no slot will soon be free.
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

// onBacklogOverdue releases the jobs that have been stuck in the backlog for MaxQueueTime.
func (l *loop[J, R]) onBacklogOverdue(time.Time) {
	if n := l.stuckJobs(); n > 0 {
		l.config.OnStall()
		l.releaseLast(n)
	}
}

// releaseBacklog releases the jobs in the backlog.
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

// onLost kills the process of a job whose lease is lost. If the job has not started, assign notices
// the loss.
func (l *loop[J, R]) onLost(lost job[J]) {
	l.forEachProcess(func(w *poolProcess[J]) {
		for _, j := range w.sent.list() {
			if j.done != lost.done {
				continue
			}
			l.revoke(w, w.sent.len())
			if w.sent.len() > 0 && w.sent.first().done == lost.done {
				l.terminate(w, LeaseLost)
			}
			break
		}
		l.want(w.slot)
	})
}
