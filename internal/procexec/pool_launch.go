package procexec

import (
	"errors"
	"fmt"
	"time"

	"github.com/ctworker/ctworker/internal/taskproto"
	"github.com/ctworker/ctworker/internal/unixfd"
)

// launch is the result of starting a process.
type launch struct {
	conn   *taskproto.EngineConn
	proc   process
	output *processOutput // nil if the process shares its streams with this program
	at     time.Time      // when the successful attempt to start the process began
	err    error          // errStopped if the run ended before the process was started
}

// errStopped means that the run ended before the process was started.
var errStopped = errors.New("the run ended before the process was started")

// launch starts a process for a slot in another goroutine, which sends the result to the loop.
func (l *loop[J, R]) launch(s *slot[J]) *poolProcess[J] {
	w := &poolProcess[J]{
		slot: s, tasksRemaining: -1, batches: make(chan *replyBatch, 2), abandoned: make(chan struct{}),
		limit: deadline{index: -1},
	}
	w.limit.expire = func(now time.Time) { l.onLimit(w, now) }
	if l.pool.opts.MaxTasks > 0 {
		w.tasksRemaining = l.pool.opts.MaxTasks
	}
	l.live++
	l.spawn(func() {
		result := l.pool.launch(s.index, l.cancelLaunch)
		if !l.post(event[J]{process: w, launched: &result}) && result.err == nil { // Run has returned, because of a panic
			result.proc.Kill()
			result.conn.Close()
			if result.output != nil {
				result.output.closeFiles()
			}
		}
	})
	return w
}

// launch starts a process. If the machine is short of memory, processes or descriptors, it tries
// again, for at most maxRetryTime. Closing cancel ends the attempts.
func (p *Pool) launch(slotIndex int, cancel <-chan struct{}) launch {
	began := time.Now()
	for delay := initialRetryDelay; ; delay = min(2*delay, maxRetryDelay) {
		if isClosed(cancel) {
			return launch{err: errStopped}
		}
		at := time.Now()
		result, err := p.connect(slotIndex)
		switch {
		case err == nil:
			result.at = at
			return result
		case !isShortage(err):
			return launch{err: err}
		case time.Since(began) > maxRetryTime:
			return launch{err: &shortageError{err}}
		}
		p.launcher.warnShortage(err)
		select {
		case <-time.After(delay):
		case <-cancel:
		}
	}
}

// connect starts a process, or requests one from the fork server. It returns the process, the
// connection to it, and the reader of its output.
func (p *Pool) connect(slotIndex int) (result launch, err error) {
	conn, fds, err := taskproto.NewEngineConn(p.lineLimit(), p.usesPermits())
	if err != nil {
		return launch{}, err
	}
	defer unixfd.Close(fds.Socket)
	result.conn = conn
	defer func() {
		if err != nil {
			conn.Close()
			if result.output != nil {
				result.output.closeFiles()
			}
		}
	}()
	var output []int
	if p.opts.Output != nil {
		if result.output, output, err = newProcessOutput(p.opts.Output, slotIndex, p.opts.Streams); err != nil {
			return result, err
		}
		defer func() {
			for _, fd := range output {
				unixfd.Close(fd)
			}
		}()
	}
	if p.opts.ForkServer != nil {
		result.proc, err = p.opts.ForkServer.fork(p.launcher, slotIndex, fds, p.opts.Streams, output)
		return result, err
	}
	conn.Write(taskproto.Hello{Version: taskproto.Version, Slot: slotIndex, MaxResultSize: p.opts.MaxResult, Worker: p.opts.WorkerData}.Append(nil))
	if p.usesPermits() {
		// Offer the process the ring, which is shared memory. If there is no ring, the process replies
		// over the socket and claims tasks with the pipe.
		if fd, err := conn.OpenRing(); err == nil && fd >= 0 {
			fds.Ring = fd
			defer unixfd.Close(fd)
		}
	}
	result.proc, err = p.start(slotIndex, fds, output)
	return result, err
}

// onLaunched handles the result of starting a process.
func (l *loop[J, R]) onLaunched(w *poolProcess[J], result *launch) {
	if result.err != nil {
		w.apply(ended)
		l.remove(w)
		if !errors.Is(result.err, errStopped) {
			l.halt(result.err)
		}
		return
	}
	w.conn, w.proc, w.launchedAt = result.conn, result.proc, result.at
	if w.output = result.output; w.output != nil {
		w.output.locate = func() (Task, bool) { return l.locate(w) }
		w.quietIn = quietTasks
		w.output.start()
	}
	if fs := l.pool.opts.ForkServer; fs != nil {
		w.wasReady, w.prefetches = true, fs.Hello.Ahead && l.pool.usesPermits()
		w.apply(forked)
	} else {
		w.apply(launched)
	}
	w.batches <- new(replyBatch)
	w.batches <- new(replyBatch)
	l.spawn(func() { l.read(w) })
	l.spawn(func() { l.awaitExit(w) })
	l.updateLimit(w)
	if l.closing || l.stopping {
		l.stopIdle(w)
	}
	if l.killed {
		l.kill(w)
	}
	l.want(w.slot)
}

// read reads what a process writes, and sends it to the loop in batches.
func (l *loop[J, R]) read(w *poolProcess[J]) {
	for {
		select {
		case b := <-w.batches:
			b.fill(w.conn)
			l.readOutput(w, b)
			if failed := b.err != nil; !l.post(event[J]{process: w, batch: b}) || failed {
				return
			}
		case <-l.done:
			return
		}
	}
}

// awaitExit sends an event to the loop when a process has exited. It then also makes read return
// after the output of the process has been read. Without this, read would wait for a grandchild
// that holds the socket open.
func (l *loop[J, R]) awaitExit(w *poolProcess[J]) {
	select {
	case <-w.proc.Done():
		w.conn.Interrupt()
		l.finishOutput(w)
		l.post(event[J]{process: w, exited: true})
	case <-w.abandoned:
		l.finishOutput(w)
	case <-l.done:
		l.finishOutput(w)
	}
}

// readOutput reads what a process has printed before the replies in b.
func (l *loop[J, R]) readOutput(w *poolProcess[J], b *replyBatch) {
	switch {
	case w.output == nil || len(b.replies) == 0:
	case b.replies[0].Ready != nil:
		w.output.readStart()
	case l.pool.opts.MaxTasks != 1: // otherwise, the output belongs to the task until the process exits
		w.output.endTask()
	}
}

// finishOutput reads the rest of what a process has printed. If the receiver of the output has
// panicked, the run fails.
func (l *loop[J, R]) finishOutput(w *poolProcess[J]) {
	if w.output == nil {
		return
	}
	var err error
	if w.stderrLine, err = w.output.finish(); err != nil {
		l.post(event[J]{panicked: fmt.Errorf("receiver of PoolOptions.Output: %w", err)})
	}
}

// locate returns the task that a process with tasks in advance runs now, or ran last. It is called
// by the goroutine that reads the output of the process. The process gets no more tasks in advance.
func (l *loop[J, R]) locate(w *poolProcess[J]) (Task, bool) {
	found := make(chan Task, 1)
	if !l.post(event[J]{process: w, printed: found}) {
		return Task{}, false
	}
	select {
	case task := <-found:
		return task, task.ID != ""
	case <-l.done:
		return Task{}, false
	}
}

// onPrinted answers locate.
func (l *loop[J, R]) onPrinted(w *poolProcess[J], found chan<- Task) {
	w.quietIn = quietTasks
	if w.state == busy {
		l.revoke(w, w.sent.len())
	}
	task := w.lastTask
	if w.sent.len() > 0 {
		task = w.sent.first().task
	}
	task.Slot = w.slot.index
	found <- task // never blocks: the channel has a place for it
	l.want(w.slot)
}
