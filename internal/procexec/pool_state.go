package procexec

import "fmt"

// procState is the state of one process of a pool. Only poolProcess.apply changes it, according to
// the table transitions.
type procState uint8

const (
	// launching: another goroutine starts the process, or requests it from the fork server.
	launching procState = iota
	// starting: the process has started, and has not reported that it is ready.
	starting
	// ready: the process has no task and can be sent tasks.
	ready
	// busy: the process has at least one task.
	busy
	// returning: the process has no task to run, but must return tasks that were taken back.
	returning
	// retiring: the input of the process is closed, so the process must exit.
	retiring
	// terminating: the process was sent SIGTERM and must exit.
	terminating
	// killed: the process was sent SIGKILL.
	killed
	// gone: the process has exited and its output was read, or it could not be started.
	gone

	numStates
)

// String returns the name of the state.
func (s procState) String() string {
	return [...]string{"launching", "starting", "ready", "busy", "returning", "retiring", "terminating", "killed", "gone"}[s]
}

// procEvent is an event that can change the state of a process.
type procEvent uint8

const (
	launched   procEvent = iota // the process has started
	forked                      // the fork server was asked to fork the process
	reported                    // the process has reported that it is ready
	sent                        // tasks were sent to the process
	replied                     // the process has replied to its last task
	mustReturn                  // the process has no task to run, but must return tasks that were taken back
	returned                    // the process has returned all tasks that were taken back
	closed                      // ctworker has closed the input of the process, or the process has closed its output
	terminated                  // ctworker sends SIGTERM to the process
	sigkilled                   // ctworker sends SIGKILL to the process
	ended                       // the process has exited, or could not be started

	numEvents
)

// String returns the name of the event.
func (e procEvent) String() string {
	return [...]string{"launched", "forked", "reported", "sent", "replied", "mustReturn", "returned", "closed", "terminated", "sigkilled", "ended"}[e]
}

// impossible marks an event that cannot happen in a state.
const impossible = numStates

// transitions contains the next state for each state and event. The package documentation shows the
// most important transitions in a diagram.
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
		{launching, forked, ready}, // a fork has loaded the program already, so it need not report that it is ready
		{launching, ended, gone},

		{starting, reported, ready},
		{starting, closed, retiring},
		{starting, terminated, terminating},

		{ready, sent, busy},
		{ready, closed, retiring},

		{busy, sent, busy},
		{busy, replied, ready},
		{busy, mustReturn, returning},
		{busy, closed, retiring}, // the last tasks of the process may still run
		{busy, terminated, terminating},

		{returning, returned, ready},
		{returning, closed, retiring},

		{retiring, replied, retiring},
		{retiring, mustReturn, retiring},
		{retiring, returned, retiring},
		{retiring, terminated, terminating},

		{terminating, reported, terminating}, // these events come too late to matter
		{terminating, replied, terminating},
		{terminating, mustReturn, terminating},
		{terminating, returned, terminating},
		{terminating, closed, terminating},

		{killed, reported, killed}, // these events come too late to matter
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

// next returns the state that follows after an event. It panics if the event is impossible in the
// state. The panic makes the run fail.
func (s procState) next(e procEvent) procState {
	to := transitions[s][e]
	if to == impossible {
		panic(fmt.Sprintf("process pool: event %q is impossible in state %q", e, s))
	}
	return to
}
