package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/config"
)

// environOf returns variables as an environ.
func environOf(variables []string) environ {
	env := environ{}
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	return env
}

// If a task starts ctworker, that ctworker ignores the settings of the outer run, whether they were
// set with flags or with variables.
func TestNestedRunIgnoresTheOuterRunsSettings(t *testing.T) {
	t.Parallel()
	for _, k := range every {
		if k.env == "" {
			continue
		}
		for _, raw := range k.raw {
			outer := k.setup()
			if k.flag == "event-log-to-queue" { // --event-log-to-queue requires a queue
				outer.env["RMS_CLOUD_TASKS_PROVIDER"], outer.env["RMS_CLOUD_TASKS_QUEUE_NAME"] = "AWS", "q"
			}
			k.give(&outer, config.Environment, raw)
			var inherited []string
			for name, value := range outer.env {
				inherited = append(inherited, name+"="+value)
			}
			env := environOf(outer.must(t).TaskEnv(inherited))
			if env[k.env] == "" {
				t.Errorf("a task does not find %s", k.env)
			}
			inner := given{env: env, source: true}.must(t)
			if got := fields(inner)[k.field]; got != k.def {
				t.Errorf("%s=%s of the outer run sets %s to %v, want the default %v", k.env, raw, k.field, got, k.def)
			}
		}
	}
}

// If a task starts ctworker, that ctworker uses the variables that the task itself has set.
func TestNestedRunObeysItsTask(t *testing.T) {
	t.Parallel()
	for _, k := range every {
		if k.env == "" {
			continue
		}
		outer := k.setup()
		k.give(&outer, config.Environment, k.raw[1])
		inner := k.setup()
		for name, value := range environOf(outer.must(t).TaskEnv(nil)) {
			inner.env[name] = value
		}
		k.give(&inner, config.Environment, k.raw[0])
		if k.raw[0] == k.raw[1] {
			continue
		}
		c := inner.must(t)
		if got := fields(c)[k.field]; got != k.want[0] {
			t.Errorf("%s=%s of the task sets %s to %v, want %v", k.env, k.raw[0], k.field, got, k.want[0])
		}
		if got := c.Origin(k.flag).String(); got != k.env {
			t.Errorf("the origin of %s is %s", k.flag, got)
		}
	}
}

// A task of a nested run gets the settings of the nested run, and no settings of the outer run.
func TestTaskEnvOfANestedRun(t *testing.T) {
	t.Parallel()
	outer := given{args: []string{"--max-num-tasks=1", "--job-id=outer"}, source: true}.must(t)
	task := outer.TaskEnv([]string{"PATH=/bin", "RMS_CLOUD_TASKS_REGION=here", "RMS_CLOUD_TASKS_FUTURE=x"})
	env := environOf(task)
	if env["RMS_CLOUD_TASKS_REGION"] != "here" || env["RMS_CLOUD_TASKS_MAX_NUM_TASKS"] != "1" || env["PATH"] != "/bin" {
		t.Errorf("a task finds %q", task)
	}
	task = append(task, "RMS_CLOUD_TASKS_INSTANCE_TYPE=mine")
	inner := given{env: environOf(task), source: true}.must(t)
	nested := inner.TaskEnv(task)
	env = environOf(nested)
	for _, name := range []string{"RMS_CLOUD_TASKS_REGION", "RMS_CLOUD_TASKS_MAX_NUM_TASKS", "RMS_CLOUD_TASKS_JOB_ID", "RMS_CLOUD_TASKS_FUTURE"} {
		if value, ok := env[name]; ok {
			t.Errorf("a task of the nested run finds %s=%s, of the outer run", name, value)
		}
	}
	if env["RMS_CLOUD_TASKS_INSTANCE_TYPE"] != "mine" || env["PATH"] != "/bin" {
		t.Errorf("a task of the nested run finds %q", nested)
	}
	if n := len(slices.DeleteFunc(slices.Clone(nested), func(v string) bool { return !strings.HasPrefix(v, config.OuterVar+"=") })); n != 1 {
		t.Errorf("%s stands %d times in %q", config.OuterVar, n, nested)
	}
	innermost := given{env: env, source: true}.must(t)
	if innermost.InstanceType != "" {
		t.Errorf("the instance type of the innermost run is %q", innermost.InstanceType)
	}
}

// The error for a missing setting mentions an inherited variable that is ignored.
func TestMissingSettingNamesIgnoredVariable(t *testing.T) {
	t.Parallel()
	outer := given{args: []string{"--provider=AWS", "--job-id=j"}}.must(t)
	got := given{env: environOf(outer.TaskEnv(nil))}.faults(t)
	if len(got) != 2 || !strings.Contains(got[0], "the value of RMS_CLOUD_TASKS_PROVIDER is ignored, because it belongs to the run that started this task") ||
		!strings.Contains(got[1], "the value of RMS_CLOUD_TASKS_JOB_ID is ignored") {
		t.Errorf("got %q", got)
	}
}

// A variable is ignored only if CTWORKER_OUTER_SETTINGS contains the checksum of its current value.
func TestOuterVariableIsNotTrusted(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", ",", "MAX_NUM_TASKS", "MAX_NUM_TASKS=", "=", "MAX_NUM_TASKS=00000000,,x"} {
		c := given{env: environ{config.OuterVar: text, "RMS_CLOUD_TASKS_MAX_NUM_TASKS": "7"}, source: true}.must(t)
		if c.MaxNumTasks == nil || *c.MaxNumTasks != 7 {
			t.Errorf("%s=%q: --max-num-tasks is %v", config.OuterVar, text, c.MaxNumTasks)
		}
	}
}
