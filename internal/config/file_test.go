package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFile(t *testing.T) {
	t.Parallel()
	c := given{
		file: "# a comment\n---\nmax_runtime: 12.5\n\"job-id\": '007'\nretry-on-exit: true\n" +
			"instance-type: !!binary \"/w==\"\nprice: &p 2\n",
		source: true,
	}.must(t)
	if c.MaxRuntime != 12500*time.Millisecond || c.JobID != "007" || !c.RetryOnExit || c.InstanceType != "\xff" {
		t.Errorf("got max-runtime %v, job-id %q, retry-on-exit %v, instance-type %q",
			c.MaxRuntime, c.JobID, c.RetryOnExit, c.InstanceType)
	}
	for _, name := range []string{"# nothing\n", "---\n", "{}\n", "null\n"} {
		given{file: name, source: true}.must(t)
	}
}

// A duration may have an exponent, in flags, variables and config files.
func TestDurationWithExponent(t *testing.T) {
	t.Parallel()
	for _, g := range []given{
		{args: []string{"--max-runtime", "1e2"}},
		{env: environ{"RMS_CLOUD_TASKS_MAX_RUNTIME": "1e2"}},
		{file: "max-runtime: 1e2\n"},
		{file: "max-runtime: '1.0E+2'\n"},
	} {
		g.source = true
		if got := g.must(t).MaxRuntime; got != 100*time.Second {
			t.Errorf("%+v: %v", g, got)
		}
	}
}

func TestFileFaults(t *testing.T) {
	t.Parallel()
	const nothing = "unknown setting; the settings are the flags in --help, without the leading dashes"
	for _, c := range []struct{ file, want string }{
		{"max-runtime: ten", `worker.yaml:1: max-runtime "ten": not a number of seconds; give a number above 0, such as 600`},
		{"\n\nmax-runtim: 5", `worker.yaml:3: max-runtim "5": unknown setting; did you mean max-runtime?`},
		{"no-is-spot: true", `worker.yaml:1: no-is-spot "true": unknown setting; did you mean is-spot?`},
		{"zzz: 1", `worker.yaml:1: zzz "1": ` + nothing},
		{"j: 1", `worker.yaml:1: j "1": unknown setting; did you mean num-simultaneous-tasks?`},
		{"<<: 1", `worker.yaml:1: << "1": ` + nothing},
		{"price: 1\nmax-runtime: 5\nmax_runtime: 6", `worker.yaml:3: max_runtime "6": already on line 2; remove one of the two lines`},
		{"price: x\nprice: 2\nprice: 3", "worker.yaml:1: price \"x\": not a price; give USD an hour, such as 0.34\n" +
			"worker.yaml:2: price \"2\": already on line 1; remove one of the two lines\n" +
			"worker.yaml:3: price \"3\": already on line 1; remove one of the two lines"},
		{"config: x.yaml", `worker.yaml:1: config "x.yaml": not allowed in a config file; give --config on the command line`},
		{"print-config: true", `worker.yaml:1: print-config "true": not allowed in a config file; give --print-config on the command line`},
		{"job-id:", `worker.yaml:1: job-id "": no value; give one, or remove the line`},
		{"job-id: ''", `worker.yaml:1: job-id "": empty; give the ID of a job`},
		{"job-id: [a]", `worker.yaml:1: job-id: not a single value; give a text, a number, true or false`},
		{"job-id:\n  a: b", `worker.yaml:1: job-id: not a single value; give a text, a number, true or false`},
		{"job-id: &a x\nqueue-name: *a", `worker.yaml:2: queue-name: not a single value; give a text, a number, true or false`},
		{"job-id: !!binary '*'", `worker.yaml:1: job-id "*": not base64; give the text itself`},
		{"is-spot: None", `worker.yaml:1: is-spot "None": not a boolean; give 1, true, yes, on, 0, false, no or off`},
		{"num-cpus: 1_0", `worker.yaml:1: num-cpus "1_0": not a whole number; give a whole number from 1 to 65536`},
		{"- a", `worker.yaml:1: not a mapping; give lines such as max-runtime: 600`},
		{"\nplain", `worker.yaml:2: not a mapping; give lines such as max-runtime: 600`},
		{"price: 1\n---\nprice: 2", `worker.yaml:2: second YAML document; remove all but one`},
	} {
		got := given{file: c.file, source: true}.faults(t)
		if want := strings.Split(c.want, "\n"); !slices.Equal(got, want) {
			t.Errorf("%q:\ngot  %q\nwant %q", c.file, got, want)
		}
	}
}

func TestFileThatIsNotYAML(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"a: b: c", "\tprice: 1", "price: 1\n---\n]", "price: *x", "\x00"} {
		got := given{file: file, source: true}.faults(t)
		if len(got) != 1 || !strings.HasPrefix(got[0], "worker.yaml: not YAML: ") {
			t.Errorf("%q: got the faults %q", file, got)
		}
	}
}

func TestFileThatMisspellsWhatIsRequired(t *testing.T) {
	t.Parallel()
	got := given{file: "task-fil: t\n"}.faults(t)
	if want := []string{`worker.yaml:1: task-fil "t": unknown setting; did you mean task-file?`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
