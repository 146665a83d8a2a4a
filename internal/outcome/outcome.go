// Package outcome names the ways in which the execution of a task can end. Packages procexec and
// pipeline share the names.
package outcome

// Kind is the way in which the execution of a task ended.
type Kind uint8

// The kinds. The zero Kind is invalid: a Kind that was never set must not count as a success.
const (
	// Completed: the task returned a result.
	Completed Kind = iota + 1
	// Exception: the task raised an exception, or its result is invalid.
	Exception
	// TimedOut: the task was killed because it exceeded the maximum runtime.
	TimedOut
	// Exited: the process of the task ended without a result.
	Exited
	// Interrupted: the task was terminated because the worker shut down.
	Interrupted
	// LeaseLost: the task was killed because its lease was lost.
	LeaseLost
)

// String returns the name of the kind in lower case, such as "timed out".
func (k Kind) String() string {
	switch k {
	case Completed:
		return "completed"
	case Exception:
		return "exception"
	case TimedOut:
		return "timed out"
	case Exited:
		return "exited"
	case Interrupted:
		return "interrupted"
	case LeaseLost:
		return "lease lost"
	default:
		return "invalid"
	}
}
