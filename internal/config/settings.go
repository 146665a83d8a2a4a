package config

import (
	"math"
	"syscall"
	"time"
)

// setting describes one setting: its names, its help, its default, and its field in a Config.
type setting struct {
	name      string // the flag without its dashes, and the key in the config file
	short     string // a one-letter flag for the same setting
	env       string // the variable
	category  string // the heading in the help
	arg       string // the placeholder for the value in the help; "" if the setting is a boolean
	usage     string // the description in the help
	def       string // the default as text, if it has one
	defHelp   string // description of the default in help, if it differs from def
	negatable bool   // a boolean that also has the flag --no-name
	common    bool   // the short help shows this setting; about ten settings are common
	extension bool   // the setting or its variable is not part of the specification
	list      bool   // may be given several times; the values are joined with line breaks
	flagOnly  bool   // not valid in a config file, and not printed by Print

	at func(*Config) value
}

func (s setting) isBool() bool { return s.arg == "" }

// names returns the setting's flags without dashes. The first one is the name of the setting.
func (s setting) names() []string {
	names := []string{s.name}
	if s.negatable {
		names = append(names, negation+s.name)
	}
	if s.short != "" {
		names = append(names, s.short)
	}
	return names
}

// negation is the prefix of the flag that sets a boolean to the opposite, such as --no-is-spot.
const negation = "no-"

// Names of settings that the code uses several times.
const (
	taskFile        = "task-file"
	csvFile         = "csv"
	providerName    = "provider"
	jobID           = "job-id"
	projectID       = "project-id"
	queueName       = "queue-name"
	eventLogFile    = "event-log-file"
	eventLogToFile  = "event-log-to-file"
	eventLogToQueue = "event-log-to-queue"
	numCPUs         = "num-cpus"
	numTasks        = "num-simultaneous-tasks"
	maxRuntime      = "max-runtime"
	retries         = "retries"
	configFile      = "config"
	isolationName   = "isolation"
	logLevel        = "log-level"
)

// Categories of settings. They are the headings of the help, in this order.
const (
	inTasks    = "Tasks"
	inQueue    = "Queue"
	inEvents   = "Events"
	inInstance = "Instance"
	inRunning  = "Running"
	inRetry    = "Retry"
	inSpot     = "Spot"
	inProfile  = "Profiles"
	inOutput   = "Output"
)

const (
	prefix      = "RMS_CLOUD_TASKS_"
	maxTasks    = 1 << 16 // far more than any machine can run, but few enough not to exhaust its memory
	wantSeconds = "give 0 or more, such as 60 or 0.5"
	wantGB      = "give 0 or more, such as 16 (GB), 0.5 or 512M"
)

// settings returns the settings of "ctworker run".
func settings() []setting { return settingsOf(NoSDK) }

// settingsOf returns all settings. The settings of the specification are in the order of the
// specification, and each additional setting is next to a related setting. sdk affects only the
// setting --isolation.
func settingsOf(sdk SDK) []setting {
	return []setting{
		{
			name: taskFile, common: true, env: prefix + "TASK_FILE", category: inTasks, arg: "FILE", extension: true,
			usage: "Take the tasks from this JSON, YAML or CSV file instead of a queue; a local file, or a gs://, s3:// or http(s):// address",
			at:    func(c *Config) value { return field[string]{&c.TaskFile, text("the name of a file")} },
		},
		{
			name: csvFile, env: prefix + "CSV", category: inTasks, arg: "FILE", extension: true,
			usage: "Like --" + taskFile + ", for a CSV file with any name: each row after the first is a task, and {data.COLUMN} is its value in a column",
			at:    func(c *Config) value { return field[string]{&c.CSV, text("the name of a file")} },
		},
		{
			name: "resume", common: true, env: prefix + "RESUME", category: inTasks, negatable: true, def: "false", extension: true,
			usage: "Continue an earlier run: skip the tasks that are done according to --" + eventLogFile + ", and add the new events to it",
			at:    func(c *Config) value { return field[bool]{&c.Resume, boolean()} },
		},
		{
			name: "rerun", env: prefix + "RERUN", category: inTasks, arg: "KIND[,KIND…]", extension: true,
			usage: "Like --resume, but also run the tasks again whose last event is of this kind: failed, exception, exited, timed_out",
			at:    func(c *Config) value { return field[string]{&c.Rerun, rerunKinds()} },
		},
		{
			name: "resume-from", env: prefix + "RESUME_FROM", category: inTasks, arg: "LOG", extension: true, list: true,
			usage: "Like --resume, but also skip the tasks that are done according to this event log; may be given several times",
			at:    func(c *Config) value { return field[string]{&c.ResumeFrom, text("the name of a file")} },
		},
		{
			name: providerName, common: true, env: prefix + "PROVIDER", category: inQueue, arg: "AWS|GCP",
			usage: "Use the queues and termination notices of this cloud; required without a task file",
			at:    func(c *Config) value { return field[string]{&c.Provider, provider()} },
		},
		{
			name: jobID, common: true, env: prefix + "JOB_ID", category: inQueue, arg: "ID",
			usage: "Use the task queue of this job; required without a task file or --queue-name",
			at:    func(c *Config) value { return field[string]{&c.JobID, text("the ID of a job")} },
		},
		{
			name: projectID, common: true, env: prefix + "PROJECT_ID", category: inQueue, arg: "ID",
			usage: "Use the queues in this Google Cloud project; required with --" + providerName + " GCP",
			at:    func(c *Config) value { return field[string]{&c.ProjectID, text("the ID of a project")} },
		},
		{
			name: queueName, env: prefix + "QUEUE_NAME", category: inQueue, arg: "NAME", defHelp: "the job ID",
			usage: "Use the task queue with this name",
			at:    func(c *Config) value { return field[string]{&c.QueueName, text("the name of a queue")} },
		},
		{
			name: "region", env: prefix + "REGION", category: inQueue, arg: "REGION", defHelp: "as for the provider's own tools", extension: true,
			usage: "Use the queues in this region; with an exactly-once queue of GCP, use the same region for all workers",
			at:    func(c *Config) value { return field[string]{&c.Region, text("a region, such as us-east-1")} },
		},
		{
			name: "exactly-once-queue", env: prefix + "EXACTLY_ONCE_QUEUE", category: inQueue, negatable: true, def: "false",
			usage: "Use task and event queues that deliver each message exactly once",
			at:    func(c *Config) value { return field[bool]{&c.ExactlyOnceQueue, boolean()} },
		},
		{
			name: "lease", env: prefix + "LEASE", category: inQueue, arg: "SECONDS", def: "60", extension: true,
			usage: "Hide a received task from other workers for this long, and extend this time while the task runs; if this worker crashes, other workers get the task after this time",
			at: func(c *Config) value {
				const want = "give 1 or more, such as 60"
				return field[time.Duration]{&c.Lease, atLeast(seconds(want), time.Second, want)}
			},
		},
		{
			name: eventLogFile, common: true, env: prefix + "EVENT_LOG_FILE", category: inEvents, arg: "FILE", def: "events.log",
			usage: "Write events to this local file, if --" + eventLogToFile + " is set",
			at:    func(c *Config) value { return field[string]{&c.EventLogFile, localFile()} },
		},
		{
			name: eventLogToFile, env: prefix + "EVENT_LOG_TO_FILE", category: inEvents, negatable: true,
			defHelp: "true with a task file",
			usage:   "Write events to the file of --" + eventLogFile,
			at:      func(c *Config) value { return field[bool]{&c.EventLogToFile, boolean()} },
		},
		{
			name: eventLogToQueue, env: prefix + "EVENT_LOG_TO_QUEUE", category: inEvents, negatable: true,
			defHelp: "true without a task file",
			usage:   "Write events to the event queue of the job",
			at:      func(c *Config) value { return field[bool]{&c.EventLogToQueue, boolean()} },
		},
		{
			name: "discard-events", env: prefix + "DISCARD_EVENTS", category: inEvents, def: "false", extension: true,
			usage: "Permit a run that writes its events nowhere, so that all results are lost",
			at:    func(c *Config) value { return field[bool]{&c.DiscardEvents, boolean()} },
		},
		{
			name: "joblog", env: prefix + "JOBLOG", category: inEvents, arg: "FILE", extension: true,
			usage: "For each attempt that has ended, also append a line to this local file, in the format of --joblog of GNU parallel",
			at:    func(c *Config) value { return field[string]{&c.JobLog, localFile()} },
		},
		{
			name: "keepalive-interval", env: prefix + "KEEPALIVE_INTERVAL", category: inEvents, arg: "SECONDS",
			def: "60", extension: true,
			usage: "Send a keep_alive event to the event queue at this interval; 0 disables these events",
			at:    func(c *Config) value { return field[time.Duration]{&c.KeepaliveInterval, seconds(wantSeconds)} },
		},
		{
			name: "instance-type", env: prefix + "INSTANCE_TYPE", category: inInstance, arg: "TYPE",
			usage: "Instance type of this machine; passed to tasks, not used by ctworker",
			at:    func(c *Config) value { return field[string]{&c.InstanceType, text("an instance type")} },
		},
		{
			name: numCPUs, env: prefix + "INSTANCE_NUM_VCPUS", category: inInstance, arg: "N",
			usage: "Number of vCPUs of this machine; the default of --" + numTasks,
			at:    func(c *Config) value { return optional[int]{&c.NumCPUs, integer(1, maxTasks)} },
		},
		{
			name: "memory", env: prefix + "INSTANCE_MEM_GB", category: inInstance, arg: "GB",
			usage: "Memory of this machine, in GB or with a unit, as in 512M; passed to tasks, not used by ctworker",
			at:    func(c *Config) value { return optional[float64]{&c.MemoryGB, gigabytes(wantGB)} },
		},
		{
			name: "local-ssd", env: prefix + "INSTANCE_SSD_GB", category: inInstance, arg: "GB",
			usage: "Size of the local SSD of this machine, in GB or with a unit; passed to tasks, not used by ctworker",
			at:    func(c *Config) value { return optional[float64]{&c.LocalSSDGB, gigabytes(wantGB)} },
		},
		{
			name: "boot-disk", env: prefix + "INSTANCE_BOOT_DISK_GB", category: inInstance, arg: "GB",
			usage: "Size of the boot disk of this machine, in GB or with a unit; passed to tasks, not used by ctworker",
			at:    func(c *Config) value { return optional[float64]{&c.BootDiskGB, gigabytes(wantGB)} },
		},
		{
			name: "is-spot", env: prefix + "INSTANCE_IS_SPOT", category: inInstance, negatable: true, def: "false",
			defHelp: "as the metadata service reports",
			usage:   "This machine is a spot instance: watch for termination notices; with --no-is-spot, never watch",
			at:      func(c *Config) value { return field[bool]{&c.IsSpot, boolean()} },
		},
		{
			name: "price", env: prefix + "INSTANCE_PRICE", category: inInstance, arg: "USD",
			usage: "Price of this machine per hour; passed to tasks, not used by ctworker",
			at: func(c *Config) value {
				return optional[float64]{&c.PricePerHour, quantity("a price", "give USD an hour, such as 0.34")}
			},
		},
		{
			name: numTasks, common: true, short: "j", env: prefix + "NUM_TASKS_PER_INSTANCE", category: inRunning, arg: "N|auto",
			defHelp: "--" + numCPUs + ", else 1",
			usage:   "Number of concurrent tasks; auto means one per usable CPU",
			at:      func(c *Config) value { return field[int]{&c.NumSimultaneousTasks, taskCount(maxTasks)} },
		},
		{
			name: maxRuntime, common: true, env: prefix + "MAX_RUNTIME", category: inRunning, arg: "SECONDS", def: "600",
			usage: "Kill a task that runs longer than this",
			at: func(c *Config) value {
				const want = "give a number above 0, such as 600"
				return field[time.Duration]{&c.MaxRuntime, positive(seconds(want), want)}
			},
		},
		{
			name: "shutdown-grace-period", env: prefix + "SHUTDOWN_GRACE_PERIOD", category: inRunning, arg: "SECONDS",
			def:   "30",
			usage: "After SIGINT, SIGTERM or SIGHUP, give running tasks this long to finish; then kill them",
			at:    func(c *Config) value { return field[time.Duration]{&c.ShutdownGracePeriod, seconds(wantSeconds)} },
		},
		{
			name: "kill-delay", env: prefix + "KILL_DELAY", category: inRunning, arg: "SECONDS", def: "5", extension: true,
			usage: "When a task is killed, send SIGKILL this long after SIGTERM",
			at:    func(c *Config) value { return field[time.Duration]{&c.KillDelay, seconds(wantSeconds)} },
		},
		{
			name: "idle-timeout", env: prefix + "IDLE_TIMEOUT", category: inRunning, arg: "SECONDS", def: "60", extension: true,
			usage: "Exit when the queue has been empty and no task has run for this long; 0 disables this limit",
			at:    func(c *Config) value { return field[time.Duration]{&c.IdleTimeout, seconds(wantSeconds)} },
		},
		{
			name: "unreachable-timeout", env: prefix + "UNREACHABLE_TIMEOUT", category: inRunning, arg: "SECONDS", def: "3600", extension: true,
			usage: "If a queue has not responded for this long, fetch no more tasks, and exit with code 1; 0 disables this limit",
			at:    func(c *Config) value { return field[time.Duration]{&c.UnreachableTimeout, seconds(wantSeconds)} },
		},
		{
			name: "tasks-to-skip", env: prefix + "TO_SKIP", category: inRunning, arg: "N", def: "0",
			usage: "Skip this many tasks at the start",
			at:    func(c *Config) value { return field[int64]{&c.TasksToSkip, integer[int64](0, math.MaxInt64)} },
		},
		{
			name: "max-num-tasks", env: prefix + "MAX_NUM_TASKS", category: inRunning, arg: "N", defHelp: "no limit",
			usage: "Run at most this many tasks",
			at:    func(c *Config) value { return optional[int64]{&c.MaxNumTasks, integer[int64](0, math.MaxInt64)} },
		},
		{
			name: "allow-missing-keys", env: prefix + "ALLOW_MISSING_KEYS", category: inRunning, def: "false", extension: true,
			usage: "Continue if the data of a task lacks the key of a placeholder {data.KEY}: only that task fails then. With a queue, this flag is always on",
			at:    func(c *Config) value { return field[bool]{&c.AllowMissingKeys, boolean()} },
		},
		{
			name: "max-failures", env: prefix + "MAX_FAILURES", category: inRunning, arg: "N|P%", defHelp: "no limit", extension: true,
			usage: "Start no more tasks after N failed tasks or, once 20 tasks have ended, if P% of the ended tasks have failed; exit with code 4",
			at:    func(c *Config) value { return field[FailureLimit]{&c.MaxFailures, failureLimit()} },
		},
		{
			name: "max-consecutive-failures", env: prefix + "MAX_CONSECUTIVE_FAILURES", category: inRunning, arg: "N", def: "0", extension: true,
			usage: "Start no more tasks after N tasks that failed one after the other; exit with code 4; 0 means no limit",
			at: func(c *Config) value {
				return field[int64]{&c.MaxConsecutiveFailures, integer[int64](0, math.MaxInt64)}
			},
		},
		{
			name: "max-memory-allowed-per-task", env: prefix + "MAX_MEMORY_ALLOWED_PER_TASK", category: inRunning,
			arg: "SIZE", defHelp: "no limit", extension: true,
			usage: "Limit the address space (RLIMIT_AS) of each process of a task to this size, such as 500M or 2GiB; a number without a unit is in GB (2^30 bytes)",
			at: func(c *Config) value {
				const want = "give a number above 0, such as 4 (GB), 500M or 2GiB"
				return field[int64]{&c.MaxMemoryAllowedPerTask, positive(memory(want), want)}
			},
		},
		sdk.isolation(),
		{
			name: "start-timeout", env: prefix + "START_TIMEOUT", category: inRunning, arg: "SECONDS", def: "60", extension: true,
			usage: "Kill a worker process that is not ready, or has not started its first task, within this time",
			at: func(c *Config) value {
				const want = "give a number above 0, such as 60"
				return field[time.Duration]{&c.StartTimeout, positive(seconds(want), want)}
			},
		},
		{
			name: "max-tasks-per-process", env: prefix + "MAX_TASKS_PER_PROCESS", category: inRunning, arg: "N", def: "0", extension: true,
			usage: "Replace a worker process after this many tasks; 0 disables this limit",
			at:    func(c *Config) value { return field[int]{&c.MaxTasksPerProcess, integer(0, math.MaxInt32)} },
		},
		{
			name: "max-result-size", env: prefix + "MAX_RESULT_SIZE", category: inRunning, arg: "BYTES", def: "16MiB", extension: true,
			usage: "Reject a result that is larger than this size, such as 500K or 16MiB; a number without a unit is in bytes",
			at: func(c *Config) value {
				const want = "give a number above 0, such as 65536 or 16MiB"
				return field[int64]{&c.MaxResultSize, positive(size(want), want)}
			},
		},
		{
			name: "retry-on-exit", common: true, env: prefix + "RETRY_ON_EXIT", category: inRetry, negatable: true, def: "false",
			usage: "Retry a task whose event is task_exited, for example after exit code 1 or a crash",
			at:    func(c *Config) value { return field[bool]{&c.RetryOnExit, boolean()} },
		},
		{
			name: "retry-on-exception", env: prefix + "RETRY_ON_EXCEPTION", category: inRetry, negatable: true, def: "false",
			usage: "Retry a task whose event is task_exception, for example after an unhandled exception",
			at:    func(c *Config) value { return field[bool]{&c.RetryOnException, boolean()} },
		},
		{
			name: "retry-on-timeout", env: prefix + "RETRY_ON_TIMEOUT", category: inRetry, negatable: true, def: "false",
			usage: "Retry a task that runs longer than --" + maxRuntime,
			at:    func(c *Config) value { return field[bool]{&c.RetryOnTimeout, boolean()} },
		},
		{
			name: "retry-delay", env: prefix + "RETRY_DELAY", category: inRetry, arg: "SECONDS", def: "0", extension: true,
			usage: "Wait this long before a task from a queue is retried",
			at:    func(c *Config) value { return field[time.Duration]{&c.RetryDelay, seconds(wantSeconds)} },
		},
		{
			name: "max-attempts", env: prefix + "MAX_ATTEMPTS", category: inRetry, arg: "N", def: "0", extension: true,
			usage: "Do not retry a task after this many attempts; 0 means no limit",
			at:    func(c *Config) value { return field[int]{&c.MaxAttempts, integer(0, math.MaxInt32)} },
		},
		{
			name: retries, common: true, env: prefix + "RETRIES", category: inRetry, arg: "N", def: "0", extension: true,
			usage: "Run a task up to N more times if it fails; not for a queue",
			at:    func(c *Config) value { return field[int]{&c.Retries, integer(0, math.MaxInt16)} },
		},
		{
			name: "retry-backoff", env: prefix + "RETRY_BACKOFF", category: inRetry, arg: "SECONDS", def: "1", extension: true,
			usage: "With --" + retries + ", wait this long before the first retry of a task, and twice as long before each further one",
			at:    func(c *Config) value { return field[time.Duration]{&c.RetryBackoff, seconds(wantSeconds)} },
		},
		{
			name: "retry-on-exit-codes", env: prefix + "RETRY_ON_EXIT_CODES", category: inRetry, arg: "LIST", extension: true,
			usage: "Retry a task that exits with one of these codes, such as 2,100-110",
			at:    func(c *Config) value { return field[ExitCodes]{&c.RetryOnExitCodes, exitCodes()} },
		},
		{
			name: "no-retry-on-exit-codes", env: prefix + "NO_RETRY_ON_EXIT_CODES", category: inRetry, arg: "LIST", extension: true,
			usage: "Do not retry a task that exits with one of these codes",
			at:    func(c *Config) value { return field[ExitCodes]{&c.NoRetryOnExitCodes, exitCodes()} },
		},
		{
			name: "simulate-spot-termination-after", env: prefix + "SIMULATE_SPOT_TERMINATION_AFTER", category: inSpot,
			arg:   "SECONDS",
			usage: "Simulate a termination notice this long after the start",
			at: func(c *Config) value {
				return optional[time.Duration]{&c.SimulateSpotTerminationAfter, seconds(wantSeconds)}
			},
		},
		{
			name: "simulate-spot-termination-delay", env: prefix + "SIMULATE_SPOT_TERMINATION_DELAY", category: inSpot,
			arg:   "SECONDS",
			usage: "Kill all running tasks this long after the simulated notice",
			at: func(c *Config) value {
				return optional[time.Duration]{&c.SimulateSpotTerminationDelay, seconds(wantSeconds)}
			},
		},
		{
			name: "on-rebalance", env: prefix + "ON_REBALANCE", category: inSpot, arg: "ignore|drain", def: "ignore", extension: true,
			usage: "When AWS recommends a rebalance, either ignore it, or start no further tasks and exit after the running ones",
			at:    func(c *Config) value { return field[string]{&c.OnRebalance, oneOf("ignore", "drain")} },
		},
		{
			name: "termination-margin", env: prefix + "TERMINATION_MARGIN", category: inSpot, arg: "SECONDS", def: "5", extension: true,
			usage: "Kill and release running tasks this long before the machine is terminated",
			at:    func(c *Config) value { return field[time.Duration]{&c.TerminationMargin, seconds(wantSeconds)} },
		},
		{
			name: "release-at-deadline", env: prefix + "RELEASE_AT_DEADLINE", category: inSpot, negatable: true, def: "true", extension: true,
			usage: "Kill and release running tasks before the machine is terminated; otherwise, other workers get these tasks when their leases end",
			at:    func(c *Config) value { return field[bool]{&c.ReleaseAtDeadline, boolean()} },
		},
		{
			name: "signal-on-termination", env: prefix + "SIGNAL_ON_TERMINATION", category: inSpot, arg: "SIGNAL", extension: true,
			usage: "Send this signal, such as USR1, to all running tasks on a termination notice",
			at:    func(c *Config) value { return field[syscall.Signal]{&c.SignalOnTermination, signalName()} },
		},
		{
			name: "cpu-profile", env: prefix + "CPU_PROFILE", category: inProfile, arg: "FILE", extension: true,
			usage: "Write a CPU profile of ctworker, without its tasks, to this file; for \"go tool pprof\"",
			at:    func(c *Config) value { return field[string]{&c.CPUProfile, localFile()} },
		},
		{
			name: "mem-profile", env: prefix + "MEM_PROFILE", category: inProfile, arg: "FILE", extension: true,
			usage: "Write a memory profile of ctworker to this file at the end; for \"go tool pprof\"",
			at:    func(c *Config) value { return field[string]{&c.MemProfile, localFile()} },
		},
		{
			name: "trace", env: prefix + "TRACE", category: inProfile, arg: "FILE", extension: true,
			usage: "Write an execution trace of ctworker to this file; for \"go tool trace\", about 10 MB per second",
			at:    func(c *Config) value { return field[string]{&c.Trace, localFile()} },
		},
		{
			name: "debug-address", env: prefix + "DEBUG_ADDRESS", category: inProfile, arg: "HOST:PORT", extension: true,
			usage: "Serve profiles of ctworker at this address, under /debug/pprof/; anyone who can connect can read them",
			at:    func(c *Config) value { return field[string]{&c.DebugAddress, hostPort()} },
		},
		{
			name: "verbose", short: "v", env: prefix + "VERBOSE", category: inOutput, def: "false", extension: true,
			usage: "The same as --log-level debug",
			at:    func(c *Config) value { return field[bool]{&c.Verbose, boolean()} },
		},
		{
			name: logLevel, env: prefix + "LOG_LEVEL", category: inOutput, arg: "LEVEL", def: "info", extension: true,
			usage: "Log only lines of this level and above: debug, info, warn or error",
			at:    func(c *Config) value { return field[string]{&c.LogLevel, oneOf("debug", "info", "warn", "error")} },
		},
		{
			name: "log-format", env: prefix + "LOG_FORMAT", category: inOutput, arg: "auto|console|json", def: "auto", extension: true,
			usage: "Format of the log; auto means text on a terminal and JSON lines elsewhere",
			at:    func(c *Config) value { return field[string]{&c.LogFormat, oneOf("auto", "console", "json")} },
		},
		{
			name: "status-address", env: prefix + "STATUS_ADDRESS", category: inOutput, arg: "[HOST:]PORT", extension: true,
			usage: "Serve a live page of the run, metrics for Prometheus, health checks and profiles at this address; without HOST, only for this machine; with port 0, at a free port",
			at:    func(c *Config) value { return field[string]{&c.StatusAddress, portOrHostPort()} },
		},
		{
			name: "output-log", env: prefix + "OUTPUT_LOG", category: inOutput, arg: "FILE", extension: true,
			usage: "Record the lines that tasks print in this local file, with the task and the time of each line; compressed if the name ends with .zst. Show it with \"ctworker output\"",
			at:    func(c *Config) value { return field[string]{&c.OutputLog, localFile()} },
		},
		{
			name: "output-dir-per-task", env: prefix + "OUTPUT_DIR_PER_TASK", category: inOutput, arg: "DIR", extension: true,
			usage: "Record the lines that tasks print in text files in this local directory: TASK/ATTEMPT.stdout and TASK/ATTEMPT.stderr",
			at:    func(c *Config) value { return field[string]{&c.OutputDirPerTask, localFile()} },
		},
		{
			name: "max-output-size", env: prefix + "MAX_OUTPUT_SIZE", category: inOutput, arg: "BYTES", def: "1MiB", extension: true,
			usage: "If an attempt of a task prints more than this size, record only its first and last lines; a number without a unit is in bytes",
			at: func(c *Config) value {
				const want = "give 4096 or more, such as 65536 or 1MiB"
				return field[int64]{&c.MaxOutputSize, sizeFrom(4096, want)}
			},
		},
		{
			name: "strict", env: prefix + "STRICT", category: inOutput, def: "false", extension: true,
			usage: "Exit with code 3 if any task did not complete",
			at:    func(c *Config) value { return field[bool]{&c.Strict, boolean()} },
		},
		{
			name: configFile, common: true, env: prefix + "CONFIG", category: inOutput, arg: "FILE", extension: true, flagOnly: true,
			usage: "Read settings from this YAML file; its keys are the names of flags without the leading dashes",
			at:    func(c *Config) value { return field[string]{&c.File, text("the name of a file")} },
		},
		{
			name: "dry-run", category: inOutput, def: "false", extension: true, flagOnly: true,
			usage: "Read all tasks and print how the first ones would run, but run none",
			at:    func(c *Config) value { return field[bool]{&c.DryRun, boolean()} },
		},
		{
			name: "print-config", category: inOutput, def: "false", extension: true, flagOnly: true,
			usage: "Print all settings with their values and origins, and exit",
			at:    func(c *Config) value { return field[bool]{&c.PrintConfig, boolean()} },
		},
	}
}

// alias is one flag of a setting.
type alias struct {
	setting setting
	negated bool // the flag sets the opposite, as --no-is-spot does
}

// aliases returns all flags of "ctworker run". The keys are the flags without dashes.
func aliases() map[string]alias { return aliasesOf(settings()) }

func aliasesOf(table []setting) map[string]alias {
	all := make(map[string]alias)
	for _, s := range table {
		for _, name := range s.names() {
			all[name] = alias{setting: s, negated: s.negatable && name == negation+s.name}
		}
	}
	return all
}

// flagged returns the flag for name, with one dash or two.
func flagged(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
