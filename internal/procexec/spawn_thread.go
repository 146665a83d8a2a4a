package procexec

import (
	"runtime"

	"github.com/sourcegraph/conc/panics"
)

// spawnThread starts processes from one operating-system thread, which exists until close.
//
// Linux kills a process with the parent-death signal when the thread that started the process ends
// (PR_SET_PDEATHSIG in prctl(2)), even if the parent itself continues. Go may run a goroutine on
// any thread, and ends a thread when a goroutine that is locked to the thread returns. Therefore
// all processes must be started from a thread that does not end.
//
// If anyThread is set, no thread of the program ends early (see Options.StableThreads), and do runs
// functions on the thread of its caller.
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

// do runs f on the thread and waits until f returns. If f panics, do panics with the same value.
func (t *spawnThread) do(f func()) {
	if t.anyThread {
		runtime.LockOSThread() // only the thread that traces a process may continue it; see limitMemory
		defer runtime.UnlockOSThread()
		f()
		return
	}
	c := spawnCall{f, make(chan *panics.Recovered, 1)}
	t.calls <- c
	if p := <-c.done; p != nil {
		panic(p.Value) // in the goroutine of the caller, who may recover the panic
	}
}

// close ends the thread. Do not call close while do runs, or do after close.
func (t *spawnThread) close() {
	if t.anyThread {
		return
	}
	close(t.calls)
	<-t.ended
}
