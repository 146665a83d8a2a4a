package taskproto

// Version is the version of the task protocol.
const Version = 1

// The environment variables that name the descriptors of a worker process.
const (
	// FDVar names the socket.
	FDVar = "CTWORKER_FD"
	// ClaimFDVar names the pipe of permits. If the variable is not set, tasks arrive one at a time
	// and are not claimed.
	ClaimFDVar = "CTWORKER_CLAIM_FD"
	// RingFDVar names the memory of the ring (Linux).
	RingFDVar = "CTWORKER_RING_FD"
	// ShutdownFDVar names a descriptor that becomes readable when the worker shuts down.
	// TerminationFDVar names a descriptor that becomes readable when the machine is about to be
	// terminated.
	ShutdownFDVar    = "CTWORKER_SHUTDOWN_FD"
	TerminationFDVar = "CTWORKER_TERMINATION_FD"
	// ShutdownFileVar and TerminationFileVar name files that are created at the same times.
	ShutdownFileVar    = "CTWORKER_SHUTDOWN_FILE"
	TerminationFileVar = "CTWORKER_TERMINATION_FILE"
	// SlotVar is the number of the process's slot, from 0.
	SlotVar = "CTWORKER_SLOT"
	// ResultFDVar names the descriptor to which a command may write its result.
	ResultFDVar = "CTWORKER_RESULT_FD"
	// ControlFDVar names the control socket to the fork server. It is set if a program with a fork
	// server has started ctworker.
	ControlFDVar = "CTWORKER_CONTROL_FD"
)
