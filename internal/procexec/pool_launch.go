package procexec

import (
	"errors"
	"time"

	"github.com/ctworker/ctworker/internal/taskproto"
	"github.com/ctworker/ctworker/internal/unixfd"
)

// launch is the result of starting a process.
type launch struct {
	conn *taskproto.EngineConn
	proc process
	at   time.Time // when the successful attempt to start the process began
	err  error     // errStopped if the run ended before the process was started
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
		conn, proc, err := p.connect(slotIndex)
		switch {
		case err == nil:
			return launch{conn: conn, proc: proc, at: at}
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

// connect starts a process, or requests one from the fork server. It returns the process, and the
// connection to it.
func (p *Pool) connect(slotIndex int) (*taskproto.EngineConn, process, error) {
	conn, fds, err := taskproto.NewEngineConn(p.lineLimit(), p.usesPermits())
	if err != nil {
		return nil, nil, err
	}
	defer unixfd.Close(fds.Socket)
	var proc process
	if p.opts.ForkServer != nil {
		proc, err = p.opts.ForkServer.fork(p.launcher, slotIndex, fds)
	} else {
		conn.Write(taskproto.Hello{Version: taskproto.Version, Slot: slotIndex, MaxResultSize: p.opts.MaxResult, Worker: p.opts.WorkerData}.Append(nil))
		if p.usesPermits() {
			// Offer the process the ring, which is shared memory. If there is no ring, the process
			// replies over the socket and claims tasks with the pipe.
			if fd, err := conn.OpenRing(); err == nil && fd >= 0 {
				fds.Ring = fd
				defer unixfd.Close(fd)
			}
		}
		proc, err = p.start(slotIndex, fds)
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, proc, nil
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
		l.post(event[J]{process: w, exited: true})
	case <-w.abandoned:
	case <-l.done:
	}
}
