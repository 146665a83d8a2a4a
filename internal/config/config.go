package config

import (
	"cmp"
	"strings"
	"syscall"
	"time"
)

// The values of Config.Provider.
const (
	AWS = "AWS"
	GCP = "GCP"
)

// Lines returns the values of a setting that may be given several times.
func Lines(value string) []string {
	if value == "" {
		return nil
	}
	return strings.Split(value, "\n")
}

// Config contains the value of every setting of a worker. If a setting was not given and has no
// default, its field is nil or an empty string.
type Config struct {
	// TaskFile is a local JSON or YAML file, or a gs://, s3:// or https:// URL. It is empty if the
	// tasks come from a queue. It is also empty if the program passes its own task source, which
	// takes precedence over a task file.
	TaskFile string
	// CSV is like TaskFile, for a CSV file with any name. At most one of TaskFile and CSV is set.
	CSV string

	// Resume skips the tasks that are done according to the event logs. It is true if Rerun or
	// ResumeFrom is set.
	Resume bool
	// Rerun lists the kinds of failed tasks that are run again; see journal.ParseKinds. It is empty if
	// no failed tasks are run again.
	Rerun string
	// ResumeFrom are the names of further event logs, separated by line breaks.
	ResumeFrom string

	// Provider is the provider of the queues and of the termination notices: AWS, GCP or
	// empty.
	Provider string
	// JobID is the default of QueueName.
	JobID string
	// ProjectID is the GCP project. It is not empty if a GCP queue is used.
	ProjectID string
	// QueueName is the name of the task queue. Defaults to JobID.
	QueueName string
	// Region is the AWS region. If it is empty, the AWS SDK selects the region.
	Region string
	// Lease is the lease duration of a task, at least 1s. Defaults to 60s.
	Lease time.Duration
	// ExactlyOnceQueue requires queues with exactly-once delivery.
	ExactlyOnceQueue bool

	// EventLogFile is the file to which events are written if EventLogToFile is set. Defaults to
	// events.log.
	EventLogFile string
	// EventLogToFile enables the event log. Defaults to true if the tasks come from a task file or
	// task source.
	EventLogToFile bool
	// EventLogToQueue enables the event queue. Defaults to true if the tasks come from a queue.
	EventLogToQueue bool
	// DiscardEvents permits a run that writes its events nowhere.
	DiscardEvents bool
	// JobLog is a file to which a line per attempt is written, in the format of GNU parallel. Defaults
	// to "", which means that no job log is written.
	JobLog string
	// StatusAddress is the address at which the status of the run is served. Defaults to "", which means
	// that it is not served.
	StatusAddress string
	// OutputLog is a file in which the output of all tasks is recorded. Defaults to "", which means
	// that no such file is written.
	OutputLog string
	// OutputDirPerTask is a directory in which the output of each attempt is recorded in text files.
	// Defaults to "", which means that no such files are written.
	OutputDirPerTask string
	// MaxOutputSize is the maximum size of the recorded output of an attempt in bytes. Defaults to 1
	// MiB.
	MaxOutputSize int64
	// KeepaliveInterval is the time between keep_alive events; 0 disables them. Defaults to
	// 60s.
	KeepaliveInterval time.Duration

	// InstanceType and the following six fields describe the machine to the tasks. ctworker itself
	// uses only NumCPUs and IsSpot.
	InstanceType string
	// NumCPUs is also the default of NumSimultaneousTasks.
	NumCPUs    *int
	MemoryGB   *float64
	LocalSSDGB *float64
	BootDiskGB *float64
	// IsSpot enables watching for termination notices of the provider.
	IsSpot bool
	// PricePerHour is in USD.
	PricePerHour *float64

	// NumSimultaneousTasks is the number of concurrent tasks, at least 1.
	NumSimultaneousTasks int
	// MaxRuntime is the time after which a running task is killed, above 0. Defaults to 600s.
	MaxRuntime time.Duration
	// ShutdownGracePeriod is the time for which running tasks may continue after SIGINT or
	// SIGTERM. Defaults to 30s.
	ShutdownGracePeriod time.Duration
	// KillDelay is the time from SIGTERM to SIGKILL. Defaults to 5s.
	KillDelay time.Duration
	// IdleTimeout is the time after which the run ends if the queue is empty and no task
	// runs; 0 disables it. Defaults to 60s.
	IdleTimeout time.Duration
	// UnreachableTimeout is the time after which the run fails if the provider of a
	// queue has not answered any request; 0 disables it. Defaults to 1h.
	UnreachableTimeout time.Duration
	// TasksToSkip is the number of tasks to skip at the start of the task file or task
	// source. Defaults to 0.
	TasksToSkip int64
	// MaxNumTasks is the maximum number of tasks to process. Nil, the default, means that the
	// number is unlimited. 0 means that no task is processed.
	MaxNumTasks *int64
	// MaxMemoryAllowedPerTask is the limit of a task's address space in bytes (RLIMIT_AS). 0,
	// the default, disables it.
	MaxMemoryAllowedPerTask int64
	// Isolation selects how tasks are isolated from each other. The values for a command are
	// IsolationTask (the default) and IsolationReuse. The values for a Go program are
	// IsolationReuse (the default) and IsolationTask. The values for a Python program are
	// IsolationFork (the default, except on macOS), IsolationSpawn (the default on macOS) and
	// IsolationReuse.
	Isolation string
	// StartTimeout limits the time until a worker process is ready, and then the time until the
	// process starts its first task. It is above 0. Defaults to 60s.
	StartTimeout time.Duration
	// MaxTasksPerProcess is the number of tasks after which a worker process is replaced. 0,
	// the default, disables it.
	MaxTasksPerProcess int
	// MaxResultSize is the maximum size of a result in bytes. Defaults to 16 MiB.
	MaxResultSize int64

	// RetryOnExit, RetryOnException and RetryOnTimeout enable retries after the events task_exited,
	// task_exception and task_timed_out. They default to false.
	RetryOnExit      bool
	RetryOnException bool
	RetryOnTimeout   bool
	// RetryDelay is the time after which a failed task becomes available for its retry. Defaults to
	// 0.
	RetryDelay time.Duration
	// MaxAttempts is the number of receives after which a task is not retried. 0, the
	// default, means unlimited.
	MaxAttempts int
	// Retries is the maximum number of retries of a task in this run. It is valid only if the tasks
	// do not come from a queue. Defaults to 0. RetryBackoff is the time before the first retry of a
	// task, and doubles with each further retry. Defaults to 1s.
	Retries      int
	RetryBackoff time.Duration
	// RetryOnExitCodes are exit codes after which a task is retried even if RetryOnExit is false.
	// NoRetryOnExitCodes are exit codes after which a task is not retried even if RetryOnExit is true.
	RetryOnExitCodes, NoRetryOnExitCodes ExitCodes

	// AllowMissingKeys continues the run if the data of a task from a file does not contain the key
	// of a placeholder. Such a task fails with an exception.
	AllowMissingKeys bool

	// MaxFailures is the number or the share of failed tasks after which the run starts no more
	// tasks. MaxConsecutiveFailures is the number of consecutive failed tasks after which the run
	// starts no more tasks. By default, there are no such limits.
	MaxFailures            FailureLimit
	MaxConsecutiveFailures int64

	// SimulateSpotTerminationAfter is the time from the start of the worker to a simulated
	// termination notice. If it is nil, nothing is simulated.
	SimulateSpotTerminationAfter *time.Duration
	// SimulateSpotTerminationDelay is the time from the simulated notice until all running tasks
	// are killed. If it is nil, the tasks are not killed.
	SimulateSpotTerminationDelay *time.Duration

	// OnRebalance selects the reaction to a rebalance recommendation. "ignore", the default, does
	// nothing. "drain" handles the recommendation like a termination notice without a deadline.
	OnRebalance string
	// TerminationMargin is the time before the termination of the machine at which all running
	// tasks are killed and released. Defaults to 5s. If ReleaseAtDeadline is false, the tasks are
	// neither killed nor released.
	TerminationMargin time.Duration
	ReleaseAtDeadline bool
	// SignalOnTermination is sent to all running tasks at a termination notice. 0, the
	// default, disables it.
	SignalOnTermination syscall.Signal

	// Verbose sets LogLevel to "debug".
	Verbose bool
	// LogLevel is the lowest level of the lines that are logged: "debug", "info", "warn" or "error".
	// Defaults to "info".
	LogLevel string
	// LogFormat is auto (the default), console or json.
	LogFormat string
	// Strict makes a run exit with code 3 if a task did not complete.
	Strict bool
	// CPUProfile, MemProfile and Trace are the files to which profiles of this process are written.
	// An empty name disables the profile.
	CPUProfile, MemProfile, Trace string
	// DebugAddress is the address at which ctworker serves profiles (net/http/pprof). If it is
	// empty, ctworker serves no profiles.
	DebugAddress string
	// File is the config file that was read, if any.
	File string
	// DryRun makes the command print how tasks would run instead of running them.
	DryRun bool
	// PrintConfig makes the command print the settings instead of running tasks.
	PrintConfig bool

	// InstanceID and Zone identify this machine to its provider; "" if unknown. They come
	// from the provider's metadata service, not from a setting.
	InstanceID, Zone string

	origins map[string]Origin // by setting name; every setting has one
	outer   outer             // the variables inherited from the run that started this task
}

// Origin returns where the value of a setting comes from. flag is any of the setting's names, with
// or without dashes. For an unknown name, Origin returns the zero Origin.
func (c *Config) Origin(flag string) Origin {
	return c.origins[aliases()[strings.TrimLeft(flag, "-")].setting.name]
}

// TaskPath returns the path or the URL of the file that contains the tasks, which is TaskFile or CSV. It is
// empty if neither is set.
func (c *Config) TaskPath() string { return cmp.Or(c.TaskFile, c.CSV) }
