package ctworker

import (
	"encoding/json"
	"fmt"
	"time"
)

// WorkerData describes the worker that runs a task: the specification's attributes
// of the same names. A text that was not given is empty, and a pointer nil.
type WorkerData struct {
	// Provider is AWS, GCP or empty.
	Provider  string `json:"provider"`
	ProjectID string `json:"project_id"`
	JobID     string `json:"job_id"`
	// QueueName is the task queue's; default JobID.
	QueueName        string `json:"queue_name"`
	ExactlyOnceQueue bool   `json:"exactly_once_queue"`

	EventLogToFile  bool   `json:"event_log_to_file"`
	EventLogFile    string `json:"event_log_file"`
	EventLogToQueue bool   `json:"event_log_to_queue"`
	// EventLogQueueName is the name of the event queue, or empty if events are not written to
	// a queue.
	EventLogQueueName string `json:"event_log_queue_name"`
	// KeepaliveInterval is the interval between keep_alive events; 0 disables them.
	KeepaliveInterval time.Duration `json:"-"`

	// InstanceType and the six fields below it are what the worker was told of
	// the computer.
	InstanceType string   `json:"instance_type"`
	NumCPUs      *int     `json:"num_cpus"`
	MemoryGB     *float64 `json:"memory_gb"`
	LocalSSDGB   *float64 `json:"local_ssd_gb"`
	BootDiskGB   *float64 `json:"boot_disk_gb"`
	IsSpot       bool     `json:"is_spot"`
	// PricePerHour is in USD.
	PricePerHour *float64 `json:"price_per_hour"`
	// InstanceID and Zone are what the provider calls this machine and where it is, such
	// as i-0123456789abcdef0 in us-east-1a, or on GCP the instance's name; empty where its metadata service does not say.
	InstanceID string `json:"instance_id"`
	Zone       string `json:"zone"`

	NumSimultaneousTasks int `json:"num_simultaneous_tasks"`
	// MaxRuntime is how long a task may run.
	MaxRuntime time.Duration `json:"-"`
	// MaxMemoryAllowedPerTask is the limit on a task's address space in GB (2^30 bytes), or nil
	// if there is none.
	MaxMemoryAllowedPerTask *float64 `json:"max_memory_allowed_per_task"`
	// ShutdownGracePeriod is how long running tasks may go on after a shutdown
	// request.
	ShutdownGracePeriod time.Duration `json:"-"`
	TasksToSkip         int64         `json:"tasks_to_skip"`
	// MaxNumTasks is nil where there is no limit.
	MaxNumTasks *int64 `json:"max_num_tasks"`

	RetryOnExit      bool `json:"retry_on_exit"`
	RetryOnException bool `json:"retry_on_exception"`
	RetryOnTimeout   bool `json:"retry_on_timeout"`

	SimulateSpotTerminationAfter *time.Duration `json:"-"`
	SimulateSpotTerminationDelay *time.Duration `json:"-"`

	// Slot is which of the simultaneous tasks this is, from 0: a number by which
	// to pick a GPU, say.
	Slot int `json:"-"`
	// Args are the program's arguments after its flags.
	Args []string `json:"-"`

	shutdown, termination func() bool
}

// ReceivedShutdownRequest reports whether the worker has been asked to end, as by
// Ctrl-C. The task may go on for ShutdownGracePeriod, and may end early. It costs
// about a microsecond.
func (d *WorkerData) ReceivedShutdownRequest() bool { return d.shutdown != nil && d.shutdown() }

// ReceivedTerminationNotice reports whether the provider has said that it will take
// the machine away. Ask before you begin what should not be interrupted. It costs
// about a microsecond.
func (d *WorkerData) ReceivedTerminationNotice() bool { return d.termination != nil && d.termination() }

// parseWorkerData reads the "worker" of the task protocol.
func parseWorkerData(b []byte) (*WorkerData, error) {
	d := &WorkerData{}
	var times struct {
		MaxRuntime          float64  `json:"max_runtime"`
		KeepaliveInterval   float64  `json:"keepalive_interval"`
		ShutdownGracePeriod float64  `json:"shutdown_grace_period"`
		After               *float64 `json:"simulate_spot_termination_after"`
		Delay               *float64 `json:"simulate_spot_termination_delay"`
	}
	for _, v := range []any{d, &times} {
		if err := json.Unmarshal(b, v); err != nil {
			return nil, fmt.Errorf("worker data: %w", err)
		}
	}
	d.MaxRuntime, d.ShutdownGracePeriod = seconds(times.MaxRuntime), seconds(times.ShutdownGracePeriod)
	d.KeepaliveInterval = seconds(times.KeepaliveInterval)
	for from, to := range map[*float64]**time.Duration{
		times.After: &d.SimulateSpotTerminationAfter, times.Delay: &d.SimulateSpotTerminationDelay,
	} {
		if from != nil {
			t := seconds(*from)
			*to = &t
		}
	}
	return d, nil
}

// seconds is s seconds. More than a Duration holds is as long as one can be.
func seconds(s float64) time.Duration {
	const most = 1<<63 - 1
	if ns := s * float64(time.Second); ns < most {
		return time.Duration(ns)
	}
	return most
}
