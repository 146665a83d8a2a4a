package procexec

import "fmt"

// procState is the state of one process of a pool. The loop changes it only through
// poolProcess.apply, which follows transitions.
type procState uint8

const (
	// launching: a goroutine starts the process, or requests it from the fork server.
	launching procState = iota
	// starting: the process has been started, and must report that it is ready.
	starting
	// ready: the process can be sent tasks, and has none.
	ready
	// busy: the process has tasks.
	busy
	// returning: the process has no task but revoked ones, which it must return unstarted.
	returning
	// retiring: the input of the process is closed, and it must exit.
	retiring
	// terminating: the process was sent SIGTERM, and must exit.
	terminating
	// killed: the process was sent SIGKILL.
	killed
	// gone: the process has exited, or could not be started, and everything it wrote was read.
	gone

	numStates
)

// String returns the name of the state.
func (s procState) String() string {
	return [...]string{"launching", "starting", "ready", "busy", "returning", "retiring", "terminating", "killed", "gone"}[s]
}

// procEvent is what happens to a process of a pool.
type procEvent uint8

const (
	launched   procEvent = iota // the process has been started
	forked                      // the process has been requested from the fork server
	reported                    // the process has reported that it is ready
	sent                        // tasks were sent to the process
	replied                     // the process replied to its last task
	mustReturn                  // the process has no task but revoked ones, which it must return
	returned                    // the process has returned all revoked tasks
	closed                      // the input of the process was closed, or the process closed its output
	terminated                  // SIGTERM is sent
	sigkilled                   // SIGKILL is sent
	ended                       // the process has exited, or could not be started

	numEvents
)

// String returns the name of the event.
func (e procEvent) String() string {
	return [...]string{"launched", "forked", "reported", "sent", "replied", "mustReturn", "returned", "closed", "terminated", "sigkilled", "ended"}[e]
}

// impossible is the next state of an event that cannot happen in a state.
const impossible = numStates

// transitions has the next state for each state and event. The package documentation has it as a
// diagram.
var transitions = func() (t [numStates][numEvents]procState) {
	for s := range t {
		for e := range t[s] {
			t[s][e] = impossible
		}
	}
	for _, row := range []struct {
		from  procState
		event procEvent
		to    procState
	}{
		{launching, launched, starting},
		{launching, forked, ready}, // a fork has the program loaded
		{launching, ended, gone},

		{starting, reported, ready},
		{starting, closed, retiring},
		{starting, terminated, terminating},

		{ready, sent, busy},
		{ready, closed, retiring},

		{busy, sent, busy},
		{busy, replied, ready},
		{busy, mustReturn, returning},
		{busy, closed, retiring}, // its last tasks may still run
		{busy, terminated, terminating},

		{returning, returned, ready},
		{returning, closed, retiring},

		{retiring, replied, retiring},
		{retiring, mustReturn, retiring},
		{retiring, returned, retiring},
		{retiring, terminated, terminating},

		{terminating, reported, terminating}, // too late
		{terminating, replied, terminating},
		{terminating, mustReturn, terminating},
		{terminating, returned, terminating},
		{terminating, closed, terminating},

		{killed, reported, killed}, // too late
		{killed, replied, killed},
		{killed, mustReturn, killed},
		{killed, returned, killed},
		{killed, closed, killed},
		{killed, sigkilled, killed},
	} {
		t[row.from][row.event] = row.to
	}
	for s := starting; s < gone; s++ {
		t[s][sigkilled] = killed
		t[s][ended] = gone
	}
	return t
}()

// next returns the state after an event. It panics if the event is impossible in the state, which
// fails the run.
func (s procState) next(e procEvent) procState {
	to := transitions[s][e]
	if to == impossible {
		panic(fmt.Sprintf("process pool: event %q is impossible in state %q", e, s))
	}
	return to
}
