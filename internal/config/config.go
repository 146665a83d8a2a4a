package config

import (
	"strings"
	"syscall"
	"time"
)

// Providers that a Config can name.
const (
	AWS = "AWS"
	GCP = "GCP"
)

// Config is every setting of a worker, resolved. A pointer is nil, and a
// string is empty, where the setting was not given and has no default.
type Config struct {
	// TaskFile is a local JSON or YAML file, or a gs://, s3:// or https://
	// address. It is empty where tasks come from a queue or from a task source
	// that a program passed, which overrides it.
	TaskFile string

	// Provider is AWS, GCP or empty: whose queues and termination notices.
	Provider string
	// JobID names the queue where QueueName does not.
	JobID string
	// ProjectID is GCP's project. It is never empty where a GCP queue is used.
	ProjectID string
	// QueueName is the task queue's name; default JobID.
	QueueName string
	// Region is the region of AWS; empty: as AWS's own tools find it.
	Region string
	// Lease is for how long a task is held at a time; 1 s or more, default 60 s.
	Lease time.Duration
	// ExactlyOnceQueue asks for queues that deliver a message exactly once.
	ExactlyOnceQueue bool

	// EventLogFile is where events go if EventLogToFile; default events.log.
	EventLogFile string
	// EventLogToFile defaults to true for a task file or task source.
	EventLogToFile bool
	// EventLogToQueue defaults to true without a task file or task source.
	EventLogToQueue bool
	// KeepaliveInterval is the time between keep_alive events; default 60 s, 0
	// is never.
	KeepaliveInterval time.Duration

	// InstanceType and the six fields below it describe the computer. They are
	// information for tasks and, but for NumCPUs and IsSpot, change nothing.
	InstanceType string
	// NumCPUs also is the default of NumSimultaneousTasks.
	NumCPUs    *int
	MemoryGB   *float64
	LocalSSDGB *float64
	BootDiskGB *float64
	// IsSpot asks for the provider's termination notices to be watched.
	IsSpot bool
	// PricePerHour is in USD.
	PricePerHour *float64

	// NumSimultaneousTasks is how many tasks run at once; at least 1.
	NumSimultaneousTasks int
	// MaxRuntime is how long a task may run before it is killed; above 0,
	// default 600 s.
	MaxRuntime time.Duration
	// ShutdownGracePeriod is what running tasks get to finish in after SIGINT
	// or SIGTERM; default 30 s.
	ShutdownGracePeriod time.Duration
	// KillDelay is the time from SIGTERM to SIGKILL; default 5 s.
	KillDelay time.Duration
	// IdleTimeout is how long an empty queue and an idle worker make the run
	// end; default 60 s, 0 is never.
	IdleTimeout time.Duration
	// UnreachableTimeout is the time after which the run fails if the provider of a
	// queue has not answered any request; default 1 h, 0 disables it.
	UnreachableTimeout time.Duration
	// TasksToSkip is how many tasks are passed over first; default 0.
	TasksToSkip int64
	// MaxNumTasks is how many tasks are processed at most. nil, the default,
	// is no limit, and 0 is none at all.
	MaxNumTasks *int64
	// MaxMemoryAllowedPerTask is in bytes (RLIMIT_AS); 0, the default, is no
	// limit.
	MaxMemoryAllowedPerTask int64
	// Isolation is how tasks are kept apart: IsolationTask (the default), IsolationReuse, and
	// for Python programs IsolationFork or IsolationSpawn. A Go program defaults to
	// IsolationReuse, a Python program to IsolationFork (IsolationSpawn on macOS).
	Isolation string
	// StartTimeout limits how long a worker process may take to become ready, and then
	// to claim its first task; above 0, default 60 s.
	StartTimeout time.Duration
	// MaxTasksPerProcess is after how many tasks a worker process is replaced; 0,
	// the default, is never.
	MaxTasksPerProcess int
	// MaxResultSize is in bytes; default 16 MiB.
	MaxResultSize int64

	// RetryOnExit, RetryOnException and RetryOnTimeout say which failed tasks
	// go back to the queue; default none.
	RetryOnExit      bool
	RetryOnException bool
	RetryOnTimeout   bool
	// RetryDelay is how long a task that goes back is kept from being received
	// again; default 0.
	RetryDelay time.Duration
	// MaxAttempts is after how many receives a task does not go back; 0, the
	// default, is never.
	MaxAttempts int

	// SimulateSpotTerminationAfter is the time from the start of the worker to
	// a made-up termination notice; nil is no simulation.
	SimulateSpotTerminationAfter *time.Duration
	// SimulateSpotTerminationDelay is the time from that notice to the end of
	// all running tasks; nil is never.
	SimulateSpotTerminationDelay *time.Duration

	// OnRebalance is ignore, the default, or drain: what a notice that the machine may be
	// taken away soon is worth.
	OnRebalance string
	// TerminationMargin is how long before the machine is taken away what still runs is
	// killed and given back, unless ReleaseAtDeadline is false; default 5 s.
	TerminationMargin time.Duration
	ReleaseAtDeadline bool
	// SignalOnTermination is sent to all running tasks at a termination notice; 0, the
	// default, is none.
	SignalOnTermination syscall.Signal

	// Verbose makes the console's log level DEBUG.
	Verbose bool
	// LogFormat is auto, the default, console or json.
	LogFormat string
	// Strict makes a run in which a task did not complete end with an exit
	// code of its own.
	Strict bool
	// CPUProfile, MemProfile and Trace are the files for profiles of this process; empty is
	// none.
	CPUProfile, MemProfile, Trace string
	// DebugAddress is where Go's profiles are served; empty is nowhere.
	DebugAddress string
	// File is the config file that was read, if any.
	File string
	// PrintConfig asks for Print in place of a run.
	PrintConfig bool

	// InstanceID and Zone are what this machine is to its provider; "" is unknown. They
	// are no settings: the provider's metadata service has them.
	InstanceID, Zone string

	origins map[string]Origin // by setting name; all settings have one
	outer   outer             // the variables inherited from the run that started this task
}

// Origin says where the value of a setting came from. flag is any name of it,
// with or without dashes. For a name that is no setting's it returns the zero
// Origin.
func (c *Config) Origin(flag string) Origin {
	return c.origins[aliases()[strings.TrimLeft(flag, "-")].setting.name]
}
