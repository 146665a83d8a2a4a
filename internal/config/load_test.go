package config_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/config"
)

func TestFaultOfAValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ arg, want string }{
		{"--max-runtime=ten", `--max-runtime "ten": not a number of seconds; give a number above 0, such as 600`},
		{"--max-runtime=0", `--max-runtime "0": not above 0; give a number above 0, such as 600`},
		{"--max-runtime=0.0000000001", `--max-runtime "0.0000000001": below a nanosecond; give a number above 0, such as 600`},
		{"--max-runtime=-1", `--max-runtime "-1": below 0; give a number above 0, such as 600`},
		{"--max-runtime=1e10000", `--max-runtime "1e10000": too large; give a number above 0, such as 600`},
		{"--max-runtime=1e99999999999999999999", `--max-runtime "1e99999999999999999999": too large; give a number above 0, such as 600`},
		{"--max-runtime=9.3e9", `--max-runtime "9.3e9": too large; give a number above 0, such as 600`},
		{"--max-runtime=0e9", `--max-runtime "0e9": not above 0; give a number above 0, such as 600`},
		{"--max-runtime=-1e2", `--max-runtime "-1e2": below 0; give a number above 0, such as 600`},
		{"--idle-timeout=1e-10", `--idle-timeout "1e-10": below a nanosecond; give 0 or more, such as 60 or 0.5`},
		{"--idle-timeout=1e-99999999999999999999", `--idle-timeout "1e-99999999999999999999": below a nanosecond; give 0 or more, such as 60 or 0.5`},
		{"--max-runtime=1e", `--max-runtime "1e": not a number of seconds; give a number above 0, such as 600`},
		{"--max-runtime=e2", `--max-runtime "e2": not a number of seconds; give a number above 0, such as 600`},
		{"--max-runtime=1e2.5", `--max-runtime "1e2.5": not a number of seconds; give a number above 0, such as 600`},
		{"--max-runtime=1e+-2", `--max-runtime "1e+-2": not a number of seconds; give a number above 0, such as 600`},
		{"--max-runtime=10000000000", `--max-runtime "10000000000": too large; give a number above 0, such as 600`},
		{"--max-runtime=NaN", `--max-runtime "NaN": not a number of seconds; give a number above 0, such as 600`},
		{"--max-runtime=", `--max-runtime "": not a number of seconds; give a number above 0, such as 600`},
		{"--max-runtime=.", `--max-runtime ".": not a number of seconds; give a number above 0, such as 600`},
		{"--max-runtime=1h30", `--max-runtime "1h30": not a number of seconds; give a number above 0, such as 600`},
		{"--max-runtime=1.2.3", `--max-runtime "1.2.3": not a number of seconds; give a number above 0, such as 600`},
		{"--kill-delay=inf", `--kill-delay "inf": not a number of seconds; give 0 or more, such as 60 or 0.5`},
		{"--memory=-1", `--memory "-1": below 0; give 0 or more, such as 16 (GB), 0.5 or 512M`},
		{"--memory=nan", `--memory "nan": not a number of GB; give 0 or more, such as 16 (GB), 0.5 or 512M`},
		{"--memory=0x10", `--memory "0x10": not a number of GB; give 0 or more, such as 16 (GB), 0.5 or 512M`},
		{"--memory=1_0", `--memory "1_0": not a number of GB; give 0 or more, such as 16 (GB), 0.5 or 512M`},
		{"--memory=1e999", `--memory "1e999": too large; give 0 or more, such as 16 (GB), 0.5 or 512M`},
		{"--price=$1", `--price "$1": not a price; give USD an hour, such as 0.34`},
		{"--num-cpus=0", `--num-cpus "0": out of range; give a whole number from 1 to 65536`},
		{"--num-cpus=2.5", `--num-cpus "2.5": not a whole number; give a whole number from 1 to 65536`},
		{"--num-cpus=auto", `--num-cpus "auto": not a whole number; give a whole number from 1 to 65536`},
		{"-j=0", `-j "0": out of range; give a whole number from 1 to 65536, or auto to run one task per usable CPU`},
		{"-j=99999999999999999999", `-j "99999999999999999999": out of range; give a whole number from 1 to 65536, or auto to run one task per usable CPU`},
		{"--tasks-to-skip=-1", `--tasks-to-skip "-1": out of range; give a whole number of at least 0`},
		{"--max-num-tasks=x", `--max-num-tasks "x": not a whole number; give a whole number of at least 0`},
		{"--provider=azure", `--provider "azure": not a provider; give AWS or GCP`},
		{"--job-id=", `--job-id "": empty; give the ID of a job`},
		{"--task-file=", `--task-file "": empty; give the name of a file`},
		{"--job-id=a\x00b", `--job-id "a\x00b": contains a NUL byte; give the ID of a job`},
		{"--is-spot=y", `--is-spot "y": not a boolean; give 1, true, yes, on, 0, false, no or off`},
		{"--no-is-spot=n", `--no-is-spot "n": not a boolean; give 1, true, yes, on, 0, false, no or off`},
		{"--verbose=None", `--verbose "None": not a boolean; give 1, true, yes, on, 0, false, no or off`},
		{"--event-log-file=https://bob:PASSW0RD@h/x?sig=TOPSECRET", `--event-log-file "https://bob:xxxxx@h/x?sig=xxxxx": a URL, but ctworker writes this file only to a local disk; give the name of a file on this machine, and copy the file after the run`},
		{"--task-fil=https://bob:PASSW0RD@h/x?sig=TOPSECRET", `--task-fil "https://bob:xxxxx@h/x?sig=xxxxx": unknown flag; did you mean --task-file?`},
		{"--verbose=", `--verbose "": not a boolean; give 1, true, yes, on, 0, false, no or off`},
		{"--max-memory-allowed-per-task=0", `--max-memory-allowed-per-task "0": not above 0; give a number above 0, such as 4 (GB), 500M or 2GiB`},
		{"--max-memory-allowed-per-task=1e10", `--max-memory-allowed-per-task "1e10": too large; give a number above 0, such as 4 (GB), 500M or 2GiB`},
		{"--max-memory-allowed-per-task=500X", `--max-memory-allowed-per-task "500X": not a size; give a number above 0, such as 4 (GB), 500M or 2GiB`},
		{"--max-memory-allowed-per-task=G", `--max-memory-allowed-per-task "G": not a size; give a number above 0, such as 4 (GB), 500M or 2GiB`},
		{"--max-result-size=0", `--max-result-size "0": not above 0; give a number above 0, such as 65536 or 16MiB`},
		{"--max-result-size=16X", `--max-result-size "16X": not a number of bytes; give a number above 0, such as 65536 or 16MiB`},
		{"--max-result-size=MiB", `--max-result-size "MiB": not a number of bytes; give a number above 0, such as 65536 or 16MiB`},
		{"--max-result-size=9999999999GiB", `--max-result-size "9999999999GiB": out of range; give a number above 0, such as 65536 or 16MiB`},
		{"--max-result-size=-9999999999GiB", `--max-result-size "-9999999999GiB": out of range; give a number above 0, such as 65536 or 16MiB`},
		{"--config=other.yaml", `--config "other.yaml": cannot be read: file does not exist; give the name of a YAML file`},
		{"--config=", `--config "": empty; give the name of a file`},
		{"--job-id=a\nb\x00", `--job-id "a\nb\x00": contains a NUL byte; give the ID of a job`},
	} {
		got := given{args: []string{c.arg}, source: true}.faults(t)
		if !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s:\ngot  %q\nwant %q", c.arg, got, c.want)
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	got := given{
		args: []string{
			"--max-runtim=5", "--max-runtime", "ten", "--num-cpus", "0", "--provider=azure", "--is-spot=maybe",
			"--kill-delay",
		},
		env: environ{
			"RMS_CLOUD_TASKS_MAX_RUNTIME":      "eleven", // overridden, but still a fault
			"RMS_CLOUD_TASKS_INSTANCE_IS_SPOT": "Truth",
		},
		file: "retry-on-exit: y\nmax_num_task: 5\n",
	}.faults(t)
	want := []string{
		`--max-runtim "5": unknown flag; did you mean --max-runtime?`,
		`--kill-delay "": no value; give one, as in --kill-delay SECONDS`,
		`--max-runtime "ten": not a number of seconds; give a number above 0, such as 600`,
		`--num-cpus "0": out of range; give a whole number from 1 to 65536`,
		`--provider "azure": not a provider; give AWS or GCP`,
		`--is-spot "maybe": not a boolean; give 1, true, yes, on, 0, false, no or off`,
		`RMS_CLOUD_TASKS_INSTANCE_IS_SPOT "Truth": not a boolean; give 1, true, yes, on, 0, false, no or off`,
		`RMS_CLOUD_TASKS_MAX_RUNTIME "eleven": not a number of seconds; give a number above 0, such as 600`,
		`worker.yaml:1: retry-on-exit "y": not a boolean; give 1, true, yes, on, 0, false, no or off`,
		`worker.yaml:2: max_num_task "5": unknown setting; did you mean max-num-tasks?`,
		`--job-id (RMS_CLOUD_TASKS_JOB_ID) or --queue-name (RMS_CLOUD_TASKS_QUEUE_NAME): required if neither a task file ` +
			`nor a task source is specified; give the ID of a job or the name of a queue, or a task file with --task-file`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRequired(t *testing.T) {
	t.Parallel()
	const (
		provider = "--provider (RMS_CLOUD_TASKS_PROVIDER): required "
		job      = "--job-id (RMS_CLOUD_TASKS_JOB_ID) or --queue-name (RMS_CLOUD_TASKS_QUEUE_NAME): required "
		project  = "--project-id (RMS_CLOUD_TASKS_PROJECT_ID): required for GCP"
		noTasks  = "if neither a task file nor a task source is specified; "
		byQueue  = "by --event-log-to-queue; "
	)
	for _, c := range []struct {
		args   string
		source bool
		want   []string // the first part of each fault
	}{
		{args: "", want: []string{provider + noTasks, job + noTasks}},
		{args: "--provider=AWS", want: []string{job + noTasks}},
		{args: "--job-id=j", want: []string{provider + noTasks}},
		{args: "--queue-name=q", want: []string{provider + noTasks}},
		{args: "--provider=AWS --job-id=j"},
		{args: "--provider=AWS --queue-name=q"},
		{args: "--provider=GCP --job-id=j", want: []string{project}},
		{args: "--provider=GCP", want: []string{job + noTasks, project}},
		{args: "--provider=gcp --job-id=j --project-id=p"},
		{args: "--provider=GCP --task-file=t"},
		{args: "--provider=GCP --task-file=t --event-log-to-queue", want: []string{job + byQueue, project}},
		{args: "--task-file=t"},
		{source: true},
		{args: "--csv=t"},
		{args: "--csv=t --task-file=t", want: []string{"--csv: cannot be combined with --task-file, because both provide the tasks; remove one of these flags"}},
		{args: "--csv=t --task-file=t", source: true},
		{args: "--task-file=t --event-log-to-queue", want: []string{provider + byQueue, job + byQueue}},
		{args: "--event-log-to-queue", source: true, want: []string{provider + byQueue, job + byQueue}},
		{args: "--task-file=t --event-log-to-queue --provider=AWS --job-id=j"},
		{args: "--task-file=t --no-event-log-to-file"},
		{args: "--provider=AWS --job-id=j --no-event-log-to-queue"},
		// A setting with an invalid value is not also reported as missing.
		{args: "--provider=azure --job-id=j", want: []string{`--provider "azure": `}},
		{args: "--task-fil=t", want: []string{`--task-fil "t": unknown flag; did you mean --task-file?`}},
		{args: "--task-file", want: []string{`--task-file "": no value`}},
	} {
		var got []string
		g := given{args: strings.Fields(c.args), source: c.source}
		if _, err := g.load(t); err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
			t.Errorf("%q: got\n%s\nwant\n%s", c.args, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

func TestDerived(t *testing.T) {
	t.Parallel()
	queue := []string{"--provider=AWS", "--job-id=j"}
	for _, c := range []struct {
		name   string
		args   []string
		source bool
		flag   string
		want   any
		origin string
	}{
		{"a task file is logged to a file", []string{"--task-file=t"}, false, "event-log-to-file", true, "derived"},
		{"a task file is not logged to a queue", []string{"--task-file=t"}, false, "event-log-to-queue", false, "derived"},
		{"a task source is logged to a file", nil, true, "event-log-to-file", true, "derived"},
		{"a queue is not logged to a file", queue, false, "event-log-to-file", false, "derived"},
		{"a queue is logged to a queue", queue, false, "event-log-to-queue", true, "derived"},
		{"a queue is called like the job", queue, false, "queue-name", "j", "derived"},
		{"unless it has a name", append(queue, "--queue-name=q"), false, "queue-name", "q", "command line"},
		{"one task at once", nil, true, "num-simultaneous-tasks", 1, "default"},
		{"a task a CPU", []string{"--num-cpus=6"}, true, "num-simultaneous-tasks", 6, "derived"},
		{"unless given", []string{"--num-cpus=6", "-j2"}, true, "num-simultaneous-tasks", 2, "command line, -j"},
		{"auto", []string{"--num-cpus=6", "-jauto"}, true, "num-simultaneous-tasks", 12, "command line, -j"},
		{"the long flag last", []string{"-j", "2", "--num-simultaneous-tasks=4"}, true, "num-simultaneous-tasks", 4, "command line"},
		{"the short flag last", []string{"--num-simultaneous-tasks", "4", "-j=2"}, true, "num-simultaneous-tasks", 2, "command line, -j"},
		{"a task source overrides a task file", []string{"--task-file=t"}, true, "task-file", "", "default"},
		{"a CSV file is logged to a file", []string{"--csv=t"}, false, "event-log-to-file", true, "derived"},
		{"the last value wins", []string{"--job-id=a", "--job-id", "b"}, true, "job-id", "b", "command line"},
	} {
		cfg := given{args: c.args, source: c.source}.must(t)
		at := slices.IndexFunc(every, func(k known) bool { return k.flag == c.flag })
		if got := fields(cfg)[every[at].field]; got != c.want {
			t.Errorf("%s: %s is %v, want %v", c.name, c.flag, got, c.want)
		}
		if got := cfg.Origin(c.flag).String(); got != c.origin {
			t.Errorf("%s: origin of %s is %q, want %q", c.name, c.flag, got, c.origin)
		}
	}
}

func TestAutoIsWithinRange(t *testing.T) {
	t.Parallel()
	for cpus, want := range map[int]int{-1: 1, 0: 1, 7: 7, math.MaxInt: 65536} {
		c, err := config.Load(config.Sources{
			Line:       config.Flags{{Name: "j", Value: "auto"}},
			TaskSource: true,
			CPUs:       func() int { return cpus },
		})
		if err != nil {
			t.Fatal(err)
		}
		if c.NumSimultaneousTasks != want {
			t.Errorf("%d CPUs make %d tasks, want %d", cpus, c.NumSimultaneousTasks, want)
		}
	}
}

func TestOriginStrings(t *testing.T) {
	t.Parallel()
	c := given{
		args:   []string{"--no-is-spot", "--verbose"},
		env:    environ{"RMS_CLOUD_TASKS_MAX_RUNTIME": "5"},
		file:   "\nprice: 1\n",
		source: true,
	}.must(t)
	for flag, want := range map[string]string{
		"--is-spot":     "command line, --no-is-spot",
		"--no-is-spot":  "command line, --no-is-spot",
		"-verbose":      "command line",
		"max-runtime":   "RMS_CLOUD_TASKS_MAX_RUNTIME",
		"--price":       "worker.yaml, line 2",
		"--kill-delay":  "default",
		"-j":            "default",
		"--no-such":     "unknown",
		"event-log-to":  "unknown",
		"--":            "unknown",
		"--queue-name":  "default",
		"no-verbose":    "unknown",
		"config":        "command line",
		"print-config":  "default",
		"dry-run":       "default",
		"max-num-tasks": "default",
	} {
		if got := c.Origin(flag).String(); got != want {
			t.Errorf("origin of %s is %q, want %q", flag, got, want)
		}
	}
}

func TestProgramsOwnLine(t *testing.T) {
	t.Parallel()
	_, err := config.Load(config.Sources{
		Line:       config.Flags{{Name: "max-runtimes", Value: "5"}, {Name: "strict", Value: "true"}},
		TaskSource: true,
	})
	if want := `--max-runtimes "5": unknown flag; did you mean --max-runtime?`; err == nil || err.Error() != want {
		t.Errorf("got the error %v, want %s", err, want)
	}
}

func TestReadsTheFileOfTheLastConfigFlag(t *testing.T) {
	t.Parallel()
	c, err := config.Load(config.Sources{
		Line:       config.Flags{{Name: "config", Value: "3"}, {Name: "config", Value: "4"}},
		ReadFile:   func(name string) ([]byte, error) { return []byte("max-runtime: " + name), nil },
		TaskSource: true,
	})
	if err != nil || c.MaxRuntime != 4*time.Second || c.File != "4" {
		t.Errorf("got %+v, error %v", c, err)
	}
}

// A command that manages queues requires the settings of the queues, even with a task file.
func TestQueueIsRequired(t *testing.T) {
	t.Parallel()
	_, err := config.Load(config.Sources{Queue: true, Line: config.Flags{{Name: "task-file", Value: "tasks.json"}}})
	if err == nil || !strings.Contains(err.Error(), "--provider (RMS_CLOUD_TASKS_PROVIDER): required; give AWS or GCP") || !strings.Contains(err.Error(), "--job-id (RMS_CLOUD_TASKS_JOB_ID) or --queue-name") {
		t.Errorf("%v", err)
	}
	if _, err := config.Load(config.Sources{Queue: true, Line: config.Flags{{Name: "provider", Value: "AWS"}, {Name: "queue-name", Value: "q"}}}); err != nil {
		t.Error(err)
	}
}
