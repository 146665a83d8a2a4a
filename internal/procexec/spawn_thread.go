package procexec

import (
	"runtime"

	"github.com/sourcegraph/conc/panics"
)

// thread runs functions on one operating-system thread that stays until close.
//
// Linux sends a parent-death signal when the THREAD that started a process
// ends, not when the process does (prctl(2), PR_SET_PDEATHSIG). A goroutine may
// run on any thread, and one that is locked to its thread takes the thread with
// it when it returns, so processes are started from here and nowhere else.
//
// A thread that is anyThread is whichever thread do is called on, for programs
// whose threads all stay.
type thread struct {
	anyThread bool
	calls     chan threadCall
	ended     chan struct{}
}

type threadCall struct {
	f    func()
	done chan *panics.Recovered // receives the panic of f, or nil
}

func newThread(anyThread bool) *thread {
	t := &thread{anyThread: anyThread, calls: make(chan threadCall), ended: make(chan struct{})}
	if !anyThread {
		go t.run()
	}
	return t
}

func (t *thread) run() {
	runtime.LockOSThread()
	defer close(t.ended)
	defer runtime.UnlockOSThread()
	for c := range t.calls {
		c.done <- panics.Try(c.f)
	}
}

// do runs f on the thread and waits for it. A panic in f is rethrown by do.
func (t *thread) do(f func()) {
	if t.anyThread {
		runtime.LockOSThread() // a process that is traced has one thread as its tracer
		defer runtime.UnlockOSThread()
		f()
		return
	}
	c := threadCall{f, make(chan *panics.Recovered, 1)}
	t.calls <- c
	if p := <-c.done; p != nil {
		panic(p.Value) // in the calling goroutine, which may recover it
	}
}

// close ends the thread's goroutine. No do may be under way or follow.
func (t *thread) close() {
	if t.anyThread {
		return
	}
	close(t.calls)
	<-t.ended
}
