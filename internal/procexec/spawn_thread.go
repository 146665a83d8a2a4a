package procexec

import (
	"runtime"

	"github.com/sourcegraph/conc/panics"
)

// spawnThread runs functions on one operating-system thread that exists until close.
//
// Linux sends the parent-death signal when the thread that started a process ends, not when the
// program does (prctl(2), PR_SET_PDEATHSIG). A goroutine may run on any thread, and one that is
// locked to its thread ends the thread when it returns. So processes are started only from
// here.
//
// If anyThread is set, do runs functions on the thread of its caller. This is for programs
// whose threads do not end.
type spawnThread struct {
	anyThread bool
	calls     chan spawnCall
	ended     chan struct{}
}

type spawnCall struct {
	f    func()
	done chan *panics.Recovered // receives the panic of f, or nil
}

func newSpawnThread(anyThread bool) *spawnThread {
	t := &spawnThread{anyThread: anyThread, calls: make(chan spawnCall), ended: make(chan struct{})}
	if !anyThread {
		go t.run()
	}
	return t
}

func (t *spawnThread) run() {
	runtime.LockOSThread()
	defer close(t.ended)
	defer runtime.UnlockOSThread()
	for c := range t.calls {
		c.done <- panics.Try(c.f)
	}
}

// do runs f on the thread and waits for it. A panic in f is raised again in the caller's
// goroutine.
func (t *spawnThread) do(f func()) {
	if t.anyThread {
		runtime.LockOSThread() // the tracer of a process is one thread
		defer runtime.UnlockOSThread()
		f()
		return
	}
	c := spawnCall{f, make(chan *panics.Recovered, 1)}
	t.calls <- c
	if p := <-c.done; p != nil {
		panic(p.Value) // the caller may recover it
	}
}

// close ends the thread. No call of do may be running or follow.
func (t *spawnThread) close() {
	if t.anyThread {
		return
	}
	close(t.calls)
	<-t.ended
}
