package config_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/config"
)

// known is the expected definition of one setting. It comes from the specification, or from the
// design of ctworker if the setting is not part of the specification.
type known struct {
	flag, env, field string
	def              any       // the default with a task source
	raw              [2]string // two values; the first is not the default
	want             [2]any
}

const sec = time.Second

var bools = [2]string{"true", "false"}
var bothBools = [2]any{true, false}

// namesTasks reports whether the setting names the file of the tasks. At most one such setting is given, and
// none if the program has a task source.
func (k known) namesTasks() bool { return k.flag == "task-file" || k.flag == "csv" }

// every contains all settings, in the order of the specification. It is written by hand from the
// specification, because a list that is derived from the code could not find errors in the code.
var every = []known{
	{"task-file", "RMS_CLOUD_TASKS_TASK_FILE", "TaskFile", "",
		[2]string{"tasks.json", "s3://b/t.yaml"}, [2]any{"tasks.json", "s3://b/t.yaml"}},
	{"csv", "RMS_CLOUD_TASKS_CSV", "CSV", "",
		[2]string{"sites.csv", "s3://b/t.txt"}, [2]any{"sites.csv", "s3://b/t.txt"}},
	{"resume", "RMS_CLOUD_TASKS_RESUME", "Resume", false, bools, bothBools},
	{"rerun", "RMS_CLOUD_TASKS_RERUN", "Rerun", "",
		[2]string{"failed", "exited,timed_out"}, [2]any{"failed", "exited,timed_out"}},
	{"resume-from", "RMS_CLOUD_TASKS_RESUME_FROM", "ResumeFrom", "",
		[2]string{"old.log", "a b.log"}, [2]any{"old.log", "a b.log"}},
	{"provider", "RMS_CLOUD_TASKS_PROVIDER", "Provider", "",
		[2]string{"aws", "Gcp"}, [2]any{"AWS", "GCP"}},
	{"job-id", "RMS_CLOUD_TASKS_JOB_ID", "JobID", "",
		[2]string{"job-1", "true"}, [2]any{"job-1", "true"}},
	{"project-id", "RMS_CLOUD_TASKS_PROJECT_ID", "ProjectID", "",
		[2]string{"p1", "007"}, [2]any{"p1", "007"}},
	{"queue-name", "RMS_CLOUD_TASKS_QUEUE_NAME", "QueueName", "",
		[2]string{"q1", "q2"}, [2]any{"q1", "q2"}},
	{"region", "RMS_CLOUD_TASKS_REGION", "Region", "",
		[2]string{"us-east-1", "eu-west-1"}, [2]any{"us-east-1", "eu-west-1"}},
	{"exactly-once-queue", "RMS_CLOUD_TASKS_EXACTLY_ONCE_QUEUE", "ExactlyOnceQueue", false, bools, bothBools},
	{"lease", "RMS_CLOUD_TASKS_LEASE", "Lease", 60 * sec,
		[2]string{"1", "90.5"}, [2]any{1 * sec, 90500 * time.Millisecond}},
	{"event-log-file", "RMS_CLOUD_TASKS_EVENT_LOG_FILE", "EventLogFile", "events.log",
		[2]string{"e1", "dir/e 2"}, [2]any{"e1", "dir/e 2"}},
	{"event-log-to-file", "RMS_CLOUD_TASKS_EVENT_LOG_TO_FILE", "EventLogToFile", true,
		[2]string{"false", "true"}, [2]any{false, true}},
	{"event-log-to-queue", "RMS_CLOUD_TASKS_EVENT_LOG_TO_QUEUE", "EventLogToQueue", false, bools, bothBools},
	{"discard-events", "RMS_CLOUD_TASKS_DISCARD_EVENTS", "DiscardEvents", false, bools, bothBools},
	{"joblog", "RMS_CLOUD_TASKS_JOBLOG", "JobLog", "",
		[2]string{"jobs.log", "dir/j 2"}, [2]any{"jobs.log", "dir/j 2"}},
	{"keepalive-interval", "RMS_CLOUD_TASKS_KEEPALIVE_INTERVAL", "KeepaliveInterval", 60 * sec,
		[2]string{"0", "1.5"}, [2]any{0 * sec, 1500 * time.Millisecond}},
	{"instance-type", "RMS_CLOUD_TASKS_INSTANCE_TYPE", "InstanceType", "",
		[2]string{"m5.large", "n1"}, [2]any{"m5.large", "n1"}},
	{"num-cpus", "RMS_CLOUD_TASKS_INSTANCE_NUM_VCPUS", "NumCPUs", nil,
		[2]string{"4", "8"}, [2]any{4, 8}},
	{"memory", "RMS_CLOUD_TASKS_INSTANCE_MEM_GB", "MemoryGB", nil,
		[2]string{"16", "0.5"}, [2]any{16.0, 0.5}},
	{"local-ssd", "RMS_CLOUD_TASKS_INSTANCE_SSD_GB", "LocalSSDGB", nil,
		[2]string{"0", "375.25"}, [2]any{0.0, 375.25}},
	{"boot-disk", "RMS_CLOUD_TASKS_INSTANCE_BOOT_DISK_GB", "BootDiskGB", nil,
		[2]string{"10", "20"}, [2]any{10.0, 20.0}},
	{"is-spot", "RMS_CLOUD_TASKS_INSTANCE_IS_SPOT", "IsSpot", false, bools, bothBools},
	{"price", "RMS_CLOUD_TASKS_INSTANCE_PRICE", "PricePerHour", nil,
		[2]string{"0.34", "2e-3"}, [2]any{0.34, 0.002}},
	{"num-simultaneous-tasks", "RMS_CLOUD_TASKS_NUM_TASKS_PER_INSTANCE", "NumSimultaneousTasks", 1,
		[2]string{"3", "auto"}, [2]any{3, 12}},
	{"max-runtime", "RMS_CLOUD_TASKS_MAX_RUNTIME", "MaxRuntime", 600 * sec,
		[2]string{"20", "0.25"}, [2]any{20 * sec, 250 * time.Millisecond}},
	{"shutdown-grace-period", "RMS_CLOUD_TASKS_SHUTDOWN_GRACE_PERIOD", "ShutdownGracePeriod", 30 * sec,
		[2]string{"0", "45"}, [2]any{0 * sec, 45 * sec}},
	{"kill-delay", "RMS_CLOUD_TASKS_KILL_DELAY", "KillDelay", 5 * sec,
		[2]string{"0", "7"}, [2]any{0 * sec, 7 * sec}},
	{"idle-timeout", "RMS_CLOUD_TASKS_IDLE_TIMEOUT", "IdleTimeout", 60 * sec,
		[2]string{"0", "90"}, [2]any{0 * sec, 90 * sec}},
	{"unreachable-timeout", "RMS_CLOUD_TASKS_UNREACHABLE_TIMEOUT", "UnreachableTimeout", 3600 * sec,
		[2]string{"0", "7200"}, [2]any{0 * sec, 7200 * sec}},
	{"tasks-to-skip", "RMS_CLOUD_TASKS_TO_SKIP", "TasksToSkip", int64(0),
		[2]string{"5", "3000000000"}, [2]any{int64(5), int64(3000000000)}},
	{"max-num-tasks", "RMS_CLOUD_TASKS_MAX_NUM_TASKS", "MaxNumTasks", nil,
		[2]string{"10", "0"}, [2]any{int64(10), int64(0)}},
	{"allow-missing-keys", "RMS_CLOUD_TASKS_ALLOW_MISSING_KEYS", "AllowMissingKeys", false, bools, bothBools},
	{"max-failures", "RMS_CLOUD_TASKS_MAX_FAILURES", "MaxFailures", config.FailureLimit{},
		[2]string{"10", "2.5%"}, [2]any{config.FailureLimit{Count: 10}, config.FailureLimit{Percent: 2.5}}},
	{"max-consecutive-failures", "RMS_CLOUD_TASKS_MAX_CONSECUTIVE_FAILURES", "MaxConsecutiveFailures", int64(0),
		[2]string{"10", "0"}, [2]any{int64(10), int64(0)}},
	{"max-memory-allowed-per-task", "RMS_CLOUD_TASKS_MAX_MEMORY_ALLOWED_PER_TASK", "MaxMemoryAllowedPerTask", int64(0),
		[2]string{"2", "0.5"}, [2]any{int64(2 << 30), int64(512 << 20)}},
	{"isolation", "RMS_CLOUD_TASKS_ISOLATION", "Isolation", "task", [2]string{"reuse", "task"}, [2]any{"reuse", "task"}},
	{"start-timeout", "RMS_CLOUD_TASKS_START_TIMEOUT", "StartTimeout", 60 * sec,
		[2]string{"5", "0.5"}, [2]any{5 * sec, 500 * time.Millisecond}},
	{"max-tasks-per-process", "RMS_CLOUD_TASKS_MAX_TASKS_PER_PROCESS", "MaxTasksPerProcess", 0,
		[2]string{"1", "100"}, [2]any{1, 100}},
	{"max-result-size", "RMS_CLOUD_TASKS_MAX_RESULT_SIZE", "MaxResultSize", int64(16 << 20),
		[2]string{"64KiB", "2 GiB"}, [2]any{int64(64 << 10), int64(2 << 30)}},
	{"retry-on-exit", "RMS_CLOUD_TASKS_RETRY_ON_EXIT", "RetryOnExit", false, bools, bothBools},
	{"retry-on-exception", "RMS_CLOUD_TASKS_RETRY_ON_EXCEPTION", "RetryOnException", false, bools, bothBools},
	{"retry-on-timeout", "RMS_CLOUD_TASKS_RETRY_ON_TIMEOUT", "RetryOnTimeout", false, bools, bothBools},
	{"retry-delay", "RMS_CLOUD_TASKS_RETRY_DELAY", "RetryDelay", 0 * sec,
		[2]string{"5", "0.5"}, [2]any{5 * sec, 500 * time.Millisecond}},
	{"max-attempts", "RMS_CLOUD_TASKS_MAX_ATTEMPTS", "MaxAttempts", 0,
		[2]string{"3", "100"}, [2]any{3, 100}},
	{"retries", "RMS_CLOUD_TASKS_RETRIES", "Retries", 0, [2]string{"3", "100"}, [2]any{3, 100}},
	{"retry-backoff", "RMS_CLOUD_TASKS_RETRY_BACKOFF", "RetryBackoff", sec,
		[2]string{"5", "0.5"}, [2]any{5 * sec, 500 * time.Millisecond}},
	{"retry-on-exit-codes", "RMS_CLOUD_TASKS_RETRY_ON_EXIT_CODES", "RetryOnExitCodes", config.ExitCodes{},
		[2]string{"2", "75,100-110"}, [2]any{config.ExitCodes{}.With(2, 2), config.ExitCodes{}.With(75, 75).With(100, 110)}},
	{"no-retry-on-exit-codes", "RMS_CLOUD_TASKS_NO_RETRY_ON_EXIT_CODES", "NoRetryOnExitCodes", config.ExitCodes{},
		[2]string{"1-255", "3"}, [2]any{config.ExitCodes{}.With(1, 255), config.ExitCodes{}.With(3, 3)}},
	{"simulate-spot-termination-after", "RMS_CLOUD_TASKS_SIMULATE_SPOT_TERMINATION_AFTER",
		"SimulateSpotTerminationAfter", nil, [2]string{"0", "12.5"}, [2]any{0 * sec, 12500 * time.Millisecond}},
	{"simulate-spot-termination-delay", "RMS_CLOUD_TASKS_SIMULATE_SPOT_TERMINATION_DELAY",
		"SimulateSpotTerminationDelay", nil, [2]string{"0", "3"}, [2]any{0 * sec, 3 * sec}},
	{"on-rebalance", "RMS_CLOUD_TASKS_ON_REBALANCE", "OnRebalance", "ignore", [2]string{"drain", "ignore"}, [2]any{"drain", "ignore"}},
	{"termination-margin", "RMS_CLOUD_TASKS_TERMINATION_MARGIN", "TerminationMargin", 5 * sec, [2]string{"0", "2.5"}, [2]any{0 * sec, 2500 * time.Millisecond}},
	{"release-at-deadline", "RMS_CLOUD_TASKS_RELEASE_AT_DEADLINE", "ReleaseAtDeadline", true, bools, bothBools},
	{"signal-on-termination", "RMS_CLOUD_TASKS_SIGNAL_ON_TERMINATION", "SignalOnTermination", syscall.Signal(0), [2]string{"USR1", "sigterm"}, [2]any{syscall.SIGUSR1, syscall.SIGTERM}},
	{"cpu-profile", "RMS_CLOUD_TASKS_CPU_PROFILE", "CPUProfile", "", [2]string{"cpu.pprof", "a b"}, [2]any{"cpu.pprof", "a b"}},
	{"mem-profile", "RMS_CLOUD_TASKS_MEM_PROFILE", "MemProfile", "", [2]string{"mem.pprof", "a b"}, [2]any{"mem.pprof", "a b"}},
	{"trace", "RMS_CLOUD_TASKS_TRACE", "Trace", "", [2]string{"trace.out", "a b"}, [2]any{"trace.out", "a b"}},
	{"debug-address", "RMS_CLOUD_TASKS_DEBUG_ADDRESS", "DebugAddress", "", [2]string{"127.0.0.1:0", "localhost:6060"}, [2]any{"127.0.0.1:0", "localhost:6060"}},
	{"verbose", "RMS_CLOUD_TASKS_VERBOSE", "Verbose", false, bools, bothBools},
	{"log-level", "RMS_CLOUD_TASKS_LOG_LEVEL", "LogLevel", "info", [2]string{"debug", "debug"}, [2]any{"debug", "debug"}},
	{"log-format", "RMS_CLOUD_TASKS_LOG_FORMAT", "LogFormat", "auto", [2]string{"json", "console"}, [2]any{"json", "console"}},
	{"status-address", "RMS_CLOUD_TASKS_STATUS_ADDRESS", "StatusAddress", "", [2]string{"8080", "0.0.0.0:9"}, [2]any{"127.0.0.1:8080", "0.0.0.0:9"}},
	{"output-log", "RMS_CLOUD_TASKS_OUTPUT_LOG", "OutputLog", "", [2]string{"out.jsonl", "out.jsonl.zst"}, [2]any{"out.jsonl", "out.jsonl.zst"}},
	{"output-dir-per-task", "RMS_CLOUD_TASKS_OUTPUT_DIR_PER_TASK", "OutputDirPerTask", "", [2]string{"out", "logs/out"}, [2]any{"out", "logs/out"}},
	{"max-output-size", "RMS_CLOUD_TASKS_MAX_OUTPUT_SIZE", "MaxOutputSize", int64(1 << 20),
		[2]string{"64KiB", "2 GiB"}, [2]any{int64(64 << 10), int64(2 << 30)}},
	{"strict", "RMS_CLOUD_TASKS_STRICT", "Strict", false, bools, bothBools},
	{"config", "RMS_CLOUD_TASKS_CONFIG", "File", "", [2]string{"worker.yaml", "worker.yaml"}, [2]any{"worker.yaml", "worker.yaml"}},
	{"dry-run", "", "DryRun", false, bools, bothBools},
	{"print-config", "", "PrintConfig", false, bools, bothBools},
}

// pairs are the settings that have a --no- flag.
var pairs = []string{
	"resume", "exactly-once-queue", "event-log-to-file", "event-log-to-queue", "is-spot",
	"retry-on-exit", "retry-on-exception", "retry-on-timeout", "release-at-deadline",
}

// give adds a value of the setting to g, with the origin place.
func (k known) give(g *given, place config.Place, raw string) {
	switch place {
	case config.CommandLine:
		g.args = append(g.args, "--"+k.flag+"="+raw)
	case config.Environment:
		g.env[k.env] = raw
	case config.File:
		g.file += k.flag + ": " + raw + "\n"
	}
}

// places returns the origins that the setting can have, in the order of increasing precedence.
func (k known) places() []config.Place {
	switch {
	case k.flag == "config":
		return []config.Place{config.Environment, config.CommandLine}
	case k.env == "":
		return []config.Place{config.CommandLine}
	default:
		return []config.Place{config.File, config.Environment, config.CommandLine}
	}
}

// setup returns the other settings that the setting needs to be valid.
func (k known) setup() given {
	g := given{env: environ{}, source: !k.namesTasks()}
	if k.flag == "event-log-to-queue" {
		g.args = []string{"--provider=AWS", "--queue-name=q"}
	}
	if k.flag == "config" {
		g.unnamed, g.file = true, "verbose: false\n"
	}
	return g
}

func TestEveryFlagIsInTheTable(t *testing.T) {
	t.Parallel()
	var line config.Flags
	var have, want []string
	for _, f := range config.FlagsOf(&line) {
		have = append(have, f.Names()...)
	}
	for _, k := range every {
		want = append(want, k.flag)
		if slices.Contains(pairs, k.flag) {
			want = append(want, "no-"+k.flag)
		}
		switch k.flag {
		case "num-simultaneous-tasks":
			want = append(want, "j")
		case "verbose":
			want = append(want, "v")
		}
	}
	if !slices.Equal(have, want) {
		t.Errorf("flags are\n%q, want\n%q", have, want)
	}
}

func TestEveryFieldIsInTheTable(t *testing.T) {
	t.Parallel()
	asked := []string{"InstanceID", "Zone"} // from the provider, not from settings
	for name := range fields(&config.Config{}) {
		if !slices.Contains(asked, name) && !slices.ContainsFunc(every, func(k known) bool { return k.field == name }) {
			t.Errorf("no setting fills %s", name)
		}
	}
}

func TestEveryPlaceSetsEverySetting(t *testing.T) {
	t.Parallel()
	for _, k := range every {
		for _, place := range k.places() {
			for i, raw := range k.raw {
				g := k.setup()
				k.give(&g, place, raw)
				c := g.must(t)
				if got := fields(c)[k.field]; got != k.want[i] {
					t.Errorf("%s from place %d: %q set %s to %v, want %v", k.flag, place, raw, k.field, got, k.want[i])
				}
				if got := c.Origin(k.flag).Place; got != place {
					t.Errorf("%s from place %d: origin is place %d", k.flag, place, got)
				}
			}
		}
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	for _, k := range every {
		places := k.places()
		for low := range places {
			for high := low + 1; high < len(places); high++ {
				for i, raw := range k.raw {
					g := k.setup()
					k.give(&g, places[low], k.raw[1-i])
					k.give(&g, places[high], raw)
					if got := fields(g.must(t))[k.field]; got != k.want[i] {
						t.Errorf("%s: place %d over place %d gave %v, want %v", k.flag, places[high], places[low], got, k.want[i])
					}
				}
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := given{source: true}.must(t)
	for _, k := range every {
		if got := fields(c)[k.field]; got != k.def {
			t.Errorf("default of %s is %v, want %v", k.flag, got, k.def)
		}
		want := config.Default
		if strings.HasPrefix(k.flag, "event-log-to-") {
			want = config.Derived
		}
		if got := c.Origin("--" + k.flag).Place; got != want {
			t.Errorf("origin of %s is place %d, want %d", k.flag, got, want)
		}
	}
}

// A variable with the value "" or None counts as not set, because the specification's pool manager
// exports None for settings that its user has not set.
func TestEmptyVariablesCountAsUnset(t *testing.T) {
	t.Parallel()
	for _, unset := range []string{"", "None"} {
		env := environ{}
		for _, k := range every {
			env[k.env] = unset
		}
		c := given{env: env, source: true}.must(t)
		for _, k := range every {
			if got := fields(c)[k.field]; got != k.def {
				t.Errorf("with %q in its variable, %s is %v, want the default %v", unset, k.flag, got, k.def)
			}
			if got := c.Origin(k.flag).Place; got != config.Default && got != config.Derived {
				t.Errorf("with %q in its variable, the origin of %s is place %d", unset, k.flag, got)
			}
		}
		g := given{env: env}
		if faults := g.faults(t); len(faults) != 2 || !strings.Contains(faults[0], "required") || !strings.Contains(faults[1], "required") {
			t.Errorf("with %q in all variables: %q", unset, faults)
		}
	}
}

func TestSpellingsOfBooleans(t *testing.T) {
	t.Parallel()
	words := map[string]bool{
		"1": true, "true": true, "True": true, "TRUE": true, "yes": true, "Yes": true, "YES": true, "on": true, "On": true, "ON": true,
		"0": false, "false": false, "False": false, "FALSE": false, "no": false, "No": false, "NO": false, "off": false, "Off": false, "OFF": false,
	}
	for _, k := range every {
		if _, isBool := k.want[0].(bool); !isBool {
			continue
		}
		for _, place := range k.places() {
			for raw, want := range words {
				g := k.setup()
				k.give(&g, place, raw)
				if got := fields(g.must(t))[k.field]; got != want {
					t.Errorf("%s from place %d: %q is %v, want %v", k.flag, place, raw, got, want)
				}
			}
			for _, raw := range []string{"maybe", "2", "t", "y", "-1", "True "} {
				g := k.setup()
				k.give(&g, place, `"`+raw+`"`)
				if place != config.File {
					g = k.setup()
					k.give(&g, place, raw)
				}
				if faults := g.faults(t); !strings.Contains(faults[0], "not a boolean") {
					t.Errorf("%s from place %d: %q: %q", k.flag, place, raw, faults)
				}
			}
		}
	}
}

// withoutVariable contains the flags that have no variable, and the reason.
var withoutVariable = map[string]string{
	"print-config": "it prevents the run; a forgotten variable would stop all workers",
	"dry-run":      "it prevents the run; a forgotten variable would stop all workers",
}

func TestEveryFlagHasAVariable(t *testing.T) {
	t.Parallel()
	var line config.Flags
	for _, f := range config.FlagsOf(&line) {
		doc, ok := f.(interface{ GetEnvVars() []string })
		if !ok {
			t.Fatalf("%v has no method GetEnvVars", f.Names())
		}
		name := f.Names()[0]
		if variables, without := doc.GetEnvVars(), withoutVariable[name] != ""; (len(variables) == 0) != without {
			t.Errorf("--%s has the variables %q", name, variables)
		}
	}
}

func TestLastOfAPairWins(t *testing.T) {
	t.Parallel()
	for _, name := range pairs {
		at := slices.IndexFunc(every, func(k known) bool { return k.flag == name })
		for _, c := range []struct {
			args []string
			env  string
			want bool
		}{
			{args: []string{"--" + name}, want: true},
			{args: []string{"--no-" + name}, want: false},
			{args: []string{"--" + name, "--no-" + name}, want: false},
			{args: []string{"--no-" + name, "--" + name}, want: true},
			{args: []string{"-no-" + name, "-" + name, "--no-" + name}, want: false},
			{args: []string{"--" + name + "=false"}, want: false},
			{args: []string{"--" + name + "=1"}, want: true},
			{args: []string{"--no-" + name + "=false"}, want: true},
			{args: []string{"--no-" + name + "=1"}, want: false},
			{args: []string{"--no-" + name}, env: "1", want: false},
			{args: []string{"--" + name}, env: "0", want: true},
			{env: "1", want: true},
			{env: "0", want: false},
			{env: "true", want: true},
			{env: "false", want: false},
		} {
			g := every[at].setup()
			g.args = append(g.args, c.args...)
			g.env[every[at].env] = c.env
			if got := fields(g.must(t))[every[at].field]; got != c.want {
				t.Errorf("%q with %s=%q: got %v, want %v", c.args, every[at].env, c.env, got, c.want)
			}
		}
	}
}
