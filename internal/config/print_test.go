package config_test

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/config"
)

func printed(t *testing.T, c *config.Config) string {
	t.Helper()
	var b strings.Builder
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPrint(t *testing.T) {
	t.Parallel()
	got := printed(t, given{
		args: []string{"--provider", "aws", "-j", "auto", "--no-is-spot", "--print-config"},
		env:  environ{"RMS_CLOUD_TASKS_JOB_ID": "007", "RMS_CLOUD_TASKS_INSTANCE_MEM_GB": "1.50"},
		file: "\n\nmax_runtime: 90.25\n",
	}.must(t))
	want := `# task-file: (not set)
# csv: (not set)
resume: false  # default
# rerun: (not set)
# resume-from: (not set)
provider: AWS  # command line
job-id: "007"  # RMS_CLOUD_TASKS_JOB_ID
# project-id: (not set)
queue-name: "007"  # derived
# region: (not set)
exactly-once-queue: false  # default
lease: 60  # default
event-log-file: events.log  # default
event-log-to-file: false  # derived
event-log-to-queue: true  # derived
discard-events: false  # default
# joblog: (not set)
keepalive-interval: 60  # default
# instance-type: (not set)
# num-cpus: (not set)
memory: 1.5  # RMS_CLOUD_TASKS_INSTANCE_MEM_GB
# local-ssd: (not set)
# boot-disk: (not set)
is-spot: false  # command line, --no-is-spot
# price: (not set)
num-simultaneous-tasks: 12  # command line, -j
max-runtime: 90.25  # worker.yaml, line 3
shutdown-grace-period: 30  # default
kill-delay: 5  # default
idle-timeout: 60  # default
unreachable-timeout: 3600  # default
tasks-to-skip: 0  # default
# max-num-tasks: (not set)
allow-missing-keys: false  # default
# max-failures: (not set)
max-consecutive-failures: 0  # default
# max-memory-allowed-per-task: (not set)
isolation: task  # default
start-timeout: 60  # default
max-tasks-per-process: 0  # default
max-result-size: 16MiB  # default
retry-on-exit: false  # default
retry-on-exception: false  # default
retry-on-timeout: false  # default
retry-delay: 0  # default
max-attempts: 0  # default
retries: 0  # default
retry-backoff: 1  # default
# retry-on-exit-codes: (not set)
# no-retry-on-exit-codes: (not set)
# simulate-spot-termination-after: (not set)
# simulate-spot-termination-delay: (not set)
on-rebalance: ignore  # default
termination-margin: 5  # default
release-at-deadline: true  # default
# signal-on-termination: (not set)
# cpu-profile: (not set)
# mem-profile: (not set)
# trace: (not set)
# debug-address: (not set)
verbose: false  # default
log-level: info  # default
log-format: auto  # default
# status-address: (not set)
# output-log: (not set)
# output-dir-per-task: (not set)
max-output-size: 1MiB  # default
strict: false  # default
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// again loads the output of c.Print, and fails the test unless the loaded settings equal those of
// c.
func again(t *testing.T, c *config.Config, source bool) {
	t.Helper()
	file := printed(t, c)
	if n := strings.Count(file, "\n"); n != len(every)-3 {
		t.Errorf("%d lines, want one for each of %d settings:\n%s", n, len(every)-3, file)
	}
	back := fields(given{file: file, source: source}.must(t))
	want := fields(c)
	for name := range want {
		if name != "File" && name != "PrintConfig" && name != "DryRun" && back[name] != want[name] {
			t.Errorf("%s was %#v and comes back as %#v from\n%s", name, want[name], back[name], file)
		}
	}
}

func TestPrintComesBack(t *testing.T) {
	t.Parallel()
	for i, other := range [2]string{"task-file", "csv"} {
		g := given{env: environ{}}
		for _, k := range every {
			if k.flag == other {
				continue
			}
			k.give(&g, config.CommandLine, k.raw[i])
		}
		g.file = "verbose: false\n"
		again(t, g.must(t), false)
	}
	again(t, given{source: true}.must(t), true)
	again(t, given{args: []string{"--provider=aws", "--job-id=j"}}.must(t), false)
}

// Print masks secrets, because users paste its output into bug reports.
func TestPrintMasksSecrets(t *testing.T) {
	t.Parallel()
	got := printed(t, given{args: []string{"--task-file=https://bob:PASSW0RD@example.org/x.json?sig=TOPSECRET"}}.must(t))
	if want := "task-file: https://bob:xxxxx@example.org/x.json?sig=xxxxx  # command line; secrets masked\n"; !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, k := range every {
		if k.raw[0] != "tasks.json" && k.def != "" {
			continue
		}
		c, err := given{args: []string{"--" + k.flag + "=https://bob:PASSW0RD@h/?sig=TOPSECRET"}, source: !k.namesTasks()}.load(t)
		text := ""
		if err != nil {
			text = err.Error()
		} else {
			text = printed(t, c)
		}
		if strings.Contains(text, "PASSW0RD") || strings.Contains(text, "TOPSECRET") {
			t.Errorf("--%s shows a secret: %s", k.flag, text)
		}
	}
}

func TestPrintQuotes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"plain", "true", "007", "1e3", "null", "~", "a: b", "a #b", "# a", " a ", "-", "- a", "a\nb", "a\n", "\ta", "'", `"`,
		`a\b`, "{a}", "[a", "*a", "&a", "!a", "|", ">", "%a", "@a", "`a", "é", "\u2028", "\u00a0", "\ufeff", "\x01", "\x7f", "\x85",
		"\xff\xfe", strings.Repeat("a b ", 500), "---", "...", "2026-10-17", "=", "<<", "🙂", "\ufffd", "yes", "0x10",
	} {
		again(t, given{args: []string{"--instance-type=" + text}, source: true}.must(t), true)
	}
}

func TestPrintExactNumbers(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--max-runtime=0.000000001", "--kill-delay=9223372036.854775807", "--idle-timeout=1234567890.000000012"},
		{"--memory=0.1", "--price=1e300", "--local-ssd=5e-324", "--boot-disk=-0"},
		{"--max-memory-allowed-per-task=0.000000001", "--max-result-size=1", "--tasks-to-skip=9223372036854775807"},
		{"--max-memory-allowed-per-task=8589934591.9999", "--max-result-size=9223372036854775807"},
		{"--max-memory-allowed-per-task=3.3", "--max-result-size=3GiB"},
	} {
		again(t, given{args: args, source: true}.must(t), true)
	}
	got := printed(t, given{args: []string{"--price=-0", "--memory=1e3"}, source: true}.must(t))
	for _, want := range []string{"\nprice: 0  #", "\nmemory: 1000  #"} {
		if !strings.Contains(got, want) {
			t.Errorf("no line %q in\n%s", want, got)
		}
	}
}

func TestPrintOriginIsOneLine(t *testing.T) {
	t.Parallel()
	c, err := config.Load(config.Sources{
		Line:       config.Flags{{Name: "config", Value: "a\nb.yaml"}},
		ReadFile:   func(string) ([]byte, error) { return []byte("price: 1"), nil },
		TaskSource: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := printed(t, c); !strings.Contains(got, "\nprice: 1  # a b.yaml, line 1\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestPrintReportsItsWriter(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	r.Close()
	if err := (given{source: true}).must(t).Print(w); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Print returned %v, want %v", err, io.ErrClosedPipe)
	}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	got := given{
		args: []string{"--provider=aws", "--job-id=j", "-j2", "--is-spot", "--price=0.5", "--keepalive-interval=1"},
		env:  environ{"RMS_CLOUD_TASKS_RETRY_ON_EXIT": "true", "RMS_CLOUD_TASKS_MAX_RUNTIME": "0.50"},
		file: "simulate-spot-termination-after: 0\nmemory: 16.0\n",
	}.must(t).Env()
	want := []string{
		"RMS_CLOUD_TASKS_PROVIDER=AWS",
		"RMS_CLOUD_TASKS_JOB_ID=j",
		"RMS_CLOUD_TASKS_QUEUE_NAME=j",
		"RMS_CLOUD_TASKS_EXACTLY_ONCE_QUEUE=0",
		"RMS_CLOUD_TASKS_EVENT_LOG_FILE=events.log",
		"RMS_CLOUD_TASKS_EVENT_LOG_TO_FILE=0",
		"RMS_CLOUD_TASKS_EVENT_LOG_TO_QUEUE=1",
		"RMS_CLOUD_TASKS_INSTANCE_MEM_GB=16",
		"RMS_CLOUD_TASKS_INSTANCE_IS_SPOT=1",
		"RMS_CLOUD_TASKS_INSTANCE_PRICE=0.5",
		"RMS_CLOUD_TASKS_NUM_TASKS_PER_INSTANCE=2",
		"RMS_CLOUD_TASKS_MAX_RUNTIME=0.5",
		"RMS_CLOUD_TASKS_SHUTDOWN_GRACE_PERIOD=30",
		"RMS_CLOUD_TASKS_TO_SKIP=0",
		"RMS_CLOUD_TASKS_RETRY_ON_EXIT=1",
		"RMS_CLOUD_TASKS_RETRY_ON_EXCEPTION=0",
		"RMS_CLOUD_TASKS_RETRY_ON_TIMEOUT=0",
		"RMS_CLOUD_TASKS_SIMULATE_SPOT_TERMINATION_AFTER=0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A worker with the variables that Env returns has the same settings.
func TestEnvComesBack(t *testing.T) {
	t.Parallel()
	queue := []string{"--provider=aws", "--job-id=j", "-j2", "--price=1e-7", "--max-num-tasks=0"}
	c := given{args: queue}.must(t)
	env := environ{}
	for _, kv := range c.Env() {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	if back := (given{env: env}).must(t); !maps.Equal(fields(back), fields(c)) {
		t.Errorf("got\n%v, want\n%v", fields(back), fields(c))
	}
}
