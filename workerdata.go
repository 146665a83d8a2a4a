package ctworker

import (
	"time"

	"github.com/ctworker/ctworker/internal/sdk"
	"github.com/ctworker/ctworker/internal/taskproto"
)

// WorkerData describes the worker that runs a task. Its fields have the names of the
// specification's attributes. If an attribute is not set, a string field is "", and a pointer field
// is nil.
type WorkerData struct {
	// Provider is "AWS", "GCP" or empty.
	Provider  string `json:"provider"`
	ProjectID string `json:"project_id"`
	JobID     string `json:"job_id"`
	// QueueName is the name of the task queue. Defaults to JobID.
	QueueName        string `json:"queue_name"`
	ExactlyOnceQueue bool   `json:"exactly_once_queue"`

	EventLogToFile  bool   `json:"event_log_to_file"`
	EventLogFile    string `json:"event_log_file"`
	EventLogToQueue bool   `json:"event_log_to_queue"`
	// EventLogQueueName is the name of the event queue, or empty if events are not written to
	// a queue.
	EventLogQueueName string `json:"event_log_queue_name"`
	// KeepaliveInterval is the interval between keep_alive events; 0 disables them.
	KeepaliveInterval time.Duration `json:"keepalive_interval"`

	// InstanceType, NumCPUs, MemoryGB, LocalSSDGB, BootDiskGB, IsSpot and PricePerHour describe
	// this machine. Their values are configured, not measured.
	InstanceType string   `json:"instance_type"`
	NumCPUs      *int     `json:"num_cpus"`
	MemoryGB     *float64 `json:"memory_gb"`
	LocalSSDGB   *float64 `json:"local_ssd_gb"`
	BootDiskGB   *float64 `json:"boot_disk_gb"`
	IsSpot       bool     `json:"is_spot"`
	// PricePerHour is in USD.
	PricePerHour *float64 `json:"price_per_hour"`
	// InstanceID and Zone are the provider's ID of this machine and its zone, such as
	// i-0123456789abcdef0 and us-east-1a. On GCP, the ID is the name of the instance. They
	// are empty if the metadata service does not provide them.
	InstanceID string `json:"instance_id"`
	Zone       string `json:"zone"`

	NumSimultaneousTasks int `json:"num_simultaneous_tasks"`
	// MaxRuntime is the maximum runtime of a task.
	MaxRuntime time.Duration `json:"max_runtime"`
	// MaxMemoryAllowedPerTask is the limit on a task's address space in GB (2^30 bytes), or nil
	// if there is none.
	MaxMemoryAllowedPerTask *float64 `json:"max_memory_allowed_per_task"`
	// ShutdownGracePeriod is how long running tasks may continue after a shutdown request.
	ShutdownGracePeriod time.Duration `json:"shutdown_grace_period"`
	TasksToSkip         int64         `json:"tasks_to_skip"`
	// MaxNumTasks is the maximum number of tasks, or nil if there is no limit.
	MaxNumTasks *int64 `json:"max_num_tasks"`

	RetryOnExit      bool `json:"retry_on_exit"`
	RetryOnException bool `json:"retry_on_exception"`
	RetryOnTimeout   bool `json:"retry_on_timeout"`

	SimulateSpotTerminationAfter *time.Duration `json:"simulate_spot_termination_after"`
	SimulateSpotTerminationDelay *time.Duration `json:"simulate_spot_termination_delay"`

	// Slot is the number of the slot that runs the task, from 0. It can be used to select a
	// GPU, for example.
	Slot int `json:"-"`
	// Args are the arguments of the program after its flags.
	Args []string `json:"-"`

	shutdown, termination func() bool
}

// ReceivedShutdownRequest reports whether a shutdown of the worker has been requested, for
// example by Ctrl-C. The task may continue for ShutdownGracePeriod, or end early. A call
// takes about a microsecond.
func (d *WorkerData) ReceivedShutdownRequest() bool { return d.shutdown != nil && d.shutdown() }

// ReceivedTerminationNotice reports whether the provider has announced the termination of
// this machine. Call it before starting work that should not be interrupted. A call takes
// about a microsecond.
func (d *WorkerData) ReceivedTerminationNotice() bool { return d.termination != nil && d.termination() }

// Simulate sets what ReceivedShutdownRequest and ReceivedTerminationNotice return, to test a Func.
func (d *WorkerData) Simulate(shutdown, termination bool) {
	d.shutdown = func() bool { return shutdown }
	d.termination = func() bool { return termination }
}

// newWorkerData parses the "worker" field of the task protocol into a *WorkerData.
func newWorkerData(info sdk.WorkerInfo) (any, error) {
	d := &WorkerData{Slot: info.Slot, Args: info.Args, shutdown: info.Shutdown, termination: info.Termination}
	if err := taskproto.DecodeWorkerData(info.JSON, d); err != nil {
		return nil, err
	}
	return d, nil
}
