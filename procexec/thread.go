package procexec

import "runtime"

// thread runs functions on one operating-system thread that stays until close.
//
// Linux sends a parent-death signal when the THREAD that started a process
// ends, not when the process does (prctl(2), PR_SET_PDEATHSIG). A goroutine may
// run on any thread, and one that is locked to its thread takes the thread with
// it when it returns, so processes are started from here and nowhere else.
type thread struct {
	calls chan threadCall
	ended chan struct{}
}

type threadCall struct {
	f    func()
	done chan struct{}
}

func newThread() *thread {
	t := &thread{calls: make(chan threadCall), ended: make(chan struct{})}
	go t.run()
	return t
}

func (t *thread) run() {
	runtime.LockOSThread()
	defer close(t.ended)
	defer runtime.UnlockOSThread()
	for c := range t.calls {
		c.f()
		close(c.done)
	}
}

// do runs f on the thread and waits for it.
func (t *thread) do(f func()) {
	c := threadCall{f, make(chan struct{})}
	t.calls <- c
	<-c.done
}

// close ends the thread's goroutine. No do may be under way or follow.
func (t *thread) close() {
	close(t.calls)
	<-t.ended
}
