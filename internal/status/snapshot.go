package status

import (
	"context"
	"time"
)

// A Source provides the state of a run. It is safe for concurrent use.
type Source interface {
	// Snapshot returns the current state. It blocks for a short time at most.
	Snapshot(ctx context.Context) Snapshot
	// Responsive returns an error if the part of the program that runs tasks does not respond before ctx
	// is done.
	Responsive(ctx context.Context) error
}

// The phases of a run.
const (
	PhaseRunning  = "running"  // tasks are fetched and run
	PhaseStopping = "stopping" // no further tasks are fetched; running tasks may finish
	PhaseEnded    = "ended"
)

// A Snapshot is the state of a run. It is the JSON document of /api/v1/status. Fields may be added.
// Durations are in seconds, sizes in bytes, and times in RFC 3339.
type Snapshot struct {
	Version    string    `json:"version"`
	Program    string    `json:"program"`
	Hostname   string    `json:"hostname"`
	RunID      string    `json:"run_id"`
	Phase      string    `json:"phase"`
	StopReason string    `json:"stop_reason,omitempty"`
	StartedAt  time.Time `json:"started_at"`
	Now        time.Time `json:"now"`
	Slots      int       `json:"slots"`
	Tasks      Tasks     `json:"tasks"`
	// Rate is the number of tasks per second, averaged over about 30 seconds. RemainingSeconds is the
	// estimated time until the end of the run, or null if it is unknown.
	Rate             float64  `json:"tasks_per_second"`
	RemainingSeconds *float64 `json:"remaining_seconds"`
	// Duration are the durations of executions. Latency are the times from receiving a task to writing
	// its event.
	Duration Quantiles `json:"duration_seconds"`
	Latency  Quantiles `json:"latency_seconds"`
	History  History   `json:"history"`
	// Running are the tasks that have run the longest, at most 200. If RunningKnown is false, the running
	// tasks could not be determined.
	Running      []RunningTask `json:"running"`
	RunningKnown bool          `json:"running_known"`
	// Failures are the last failed attempts, newest first, at most 50. Slowest are the attempts that took
	// the longest, longest first, at most 20.
	Failures []Failure `json:"failures"`
	Slowest  []Slow    `json:"slowest"`
	Engine   Engine    `json:"engine"`
	Queue    *Queue    `json:"queue,omitempty"`
}

// Tasks are numbers of tasks.
type Tasks struct {
	Completed   int64 `json:"completed"`
	Exception   int64 `json:"exception"`
	TimedOut    int64 `json:"timed_out"`
	Exited      int64 `json:"exited"`
	Interrupted int64 `json:"interrupted"`
	LeaseLost   int64 `json:"lease_lost"`
	Retries     int64 `json:"retries"`
	// Done is the number of tasks with a final event, and Failed is the number of those that did not complete.
	// Both include DoneEarlier, the tasks that earlier runs have done.
	Done        int64 `json:"done"`
	Failed      int64 `json:"failed"`
	DoneEarlier int64 `json:"done_earlier"`
	Running     int64 `json:"running"`
	// WaitingForRetry is the number of tasks that wait for a retry. Unreported is the number of tasks that
	// have ended and whose events have not been written yet.
	WaitingForRetry int64 `json:"waiting_for_retry"`
	Unreported      int64 `json:"unreported"`
	// Total is the number of tasks in the run, or null if it is unknown. Estimated reports whether it is an
	// estimate.
	Total     *int64 `json:"total"`
	Estimated bool   `json:"total_estimated"`
}

// Quantiles are quantiles of a distribution. A quantile exceeds the exact value by at most an eighth.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// History are the numbers of tasks that ended in consecutive intervals, oldest first. The last interval
// ends at Snapshot.Now.
type History struct {
	IntervalSeconds float64 `json:"interval_seconds"`
	Completed       []int64 `json:"completed"`
	Failed          []int64 `json:"failed"`
}

// RunningTask is a task that runs.
type RunningTask struct {
	Slot       int     `json:"slot"`
	TaskID     string  `json:"task_id"`
	Attempt    int     `json:"attempt"`
	AgeSeconds float64 `json:"age_seconds"`
	// MemoryBytes is the resident memory of the task's process, without its children, or null if it is
	// unknown.
	MemoryBytes *int64 `json:"memory_bytes"`
	// Pid is the process of the task, or 0 if it runs in the process of ctworker.
	Pid int `json:"pid"`
}

// Failure is a failed attempt.
type Failure struct {
	At      time.Time `json:"at"`
	TaskID  string    `json:"task_id"`
	Attempt int       `json:"attempt"`
	Slot    int       `json:"slot"`
	Outcome string    `json:"outcome"`
	Reason  string    `json:"reason"`
	Retried bool      `json:"retried"`
}

// Slow is an attempt and its duration.
type Slow struct {
	TaskID  string  `json:"task_id"`
	Attempt int     `json:"attempt"`
	Slot    int     `json:"slot"`
	Seconds float64 `json:"seconds"`
	Outcome string  `json:"outcome"`
	elapsed time.Duration
}

// Engine is the resource usage of ctworker itself, without the tasks.
type Engine struct {
	CPUSeconds        float64 `json:"cpu_seconds"`
	CPUSecondsPerTask float64 `json:"cpu_seconds_per_task"`
	PeakMemoryBytes   int64   `json:"peak_memory_bytes"`
	Goroutines        int     `json:"goroutines"`
}

// Queue is the state of a task queue.
type Queue struct {
	Name       string `json:"name"`
	EventQueue string `json:"event_queue,omitempty"`
	// InFlight is the number of tasks that this worker has received and not settled.
	InFlight     int64 `json:"in_flight"`
	Malformed    int64 `json:"malformed"`
	SettleFailed int64 `json:"settle_failed"`
	// LeasesExtended is the number of extensions of leases, and ExtendFailed that of failed attempts.
	LeasesExtended int64 `json:"leases_extended"`
	ExtendFailed   int64 `json:"extend_failed"`
}
