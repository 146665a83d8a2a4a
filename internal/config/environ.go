package config

import (
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
)

// OuterVar is the variable by which a task knows which RMS_CLOUD_TASKS_* variables
// are information about the run that it belongs to. A ctworker that a task starts
// does not take those for its own settings: it would skip the tasks that the outer
// run skips, and write its events to the outer run's queue. A variable that the
// task has given another value is the task's own, and is obeyed.
//
// Its value is a list of NAME=CRC32, separated by commas: each name without its
// prefix, and the IEEE checksum of the variable's value in hexadecimal digits.
const OuterVar = "CTWORKER_OUTER_SETTINGS"

// outer has the checksum of each variable's value, by the variable's name.
type outer map[string]string

// outerOf reads OuterVar.
func outerOf(lookup func(string) (string, bool)) outer {
	if lookup == nil {
		return nil
	}
	text, _ := lookup(OuterVar)
	o := make(outer)
	for item := range strings.SplitSeq(text, ",") {
		if name, sum, ok := strings.Cut(item, "="); ok {
			o[prefix+name] = sum
		}
	}
	return o
}

// has reports whether a variable still has the value that the outer run gave it.
func (o outer) has(name, value string) bool {
	sum, ok := o[name]
	return ok && sum == checksum(value)
}

func checksum(value string) string {
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(value)))
}

// Env returns the specification's RMS_CLOUD_TASKS_* variables with the values
// of c, each as "NAME=value", for the environment of a task. Booleans are 1 or
// 0, times are seconds, and a setting without a value is left out. The
// settings that the specification does not have are left out as well.
func (c *Config) Env() []string {
	var env []string
	for _, s := range settings() {
		text := s.at(c).text()
		if s.env == "" || s.ours || text == "" {
			continue
		}
		if s.isBool() {
			text = map[string]string{"true": "1", "false": "0"}[text]
		}
		env = append(env, s.env+"="+text)
	}
	return env
}

// TaskEnv returns the environment of a task: environ, which is that of this
// process, with TaskSettings in place of the settings in it.
func (c *Config) TaskEnv(environ []string) []string {
	env := slices.DeleteFunc(slices.Clone(environ), func(variable string) bool {
		return strings.HasPrefix(variable, prefix) || strings.HasPrefix(variable, OuterVar+"=")
	})
	return append(env, c.TaskSettings(environ)...)
}

// TaskSettings returns every RMS_CLOUD_TASKS_* variable of a task: those of environ,
// which is the environment of this process, with Env over them; and OuterVar, which
// covers them all. What environ has of an outer run is left out, because it is not
// about this one.
func (c *Config) TaskSettings(environ []string) []string {
	given := make(map[string]string)
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, prefix) && !c.outer.has(name, value) {
			given[name] = value
		}
	}
	for _, variable := range c.Env() {
		name, value, _ := strings.Cut(variable, "=")
		given[name] = value
	}
	env, items := make([]string, 0, len(given)+1), make([]string, 0, len(given))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		env = append(env, name+"="+given[name])
		items = append(items, strings.TrimPrefix(name, prefix)+"="+checksum(given[name]))
	}
	return append(env, OuterVar+"="+strings.Join(items, ","))
}
