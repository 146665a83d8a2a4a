package config

import (
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
)

// OuterVar is the environment variable that lists the RMS_CLOUD_TASKS_* variables of a task. These
// variables describe the run that the task belongs to, which is called the outer run. If the task
// starts ctworker, that ctworker ignores these variables. With them, it would, for example, skip as
// many tasks as the outer run, and write its events to the queue of the outer run. A variable whose
// value the task has changed is not ignored.
//
// The value is a comma-separated list of NAME=CRC32. NAME is the name of a variable without its
// prefix. CRC32 is the IEEE checksum of its value, in hexadecimal digits.
const OuterVar = "CTWORKER_OUTER_SETTINGS"

// outer maps the name of a variable of the outer run to the checksum of its value.
type outer map[string]string

// outerOf parses the value of OuterVar.
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

// has reports whether the outer run set the variable to this value.
func (o outer) has(name, value string) bool {
	sum, ok := o[name]
	return ok && sum == checksum(value)
}

func checksum(value string) string {
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(value)))
}

// Env returns the specification's RMS_CLOUD_TASKS_* variables for the environment of a task, with
// the values of c, each as "NAME=value". Booleans are 1 or 0, and times are in seconds. Env omits
// settings that have no value or are not part of the specification.
func (c *Config) Env() []string {
	var env []string
	for _, s := range settings() {
		text := s.at(c).text()
		if s.env == "" || s.extension || text == "" {
			continue
		}
		if s.isBool() {
			text = map[string]string{"true": "1", "false": "0"}[text]
		}
		env = append(env, s.env+"="+text)
	}
	return env
}

// TaskEnv returns the environment of a task: environ, which is the environment of this process, with
// all settings replaced by the result of TaskSettings.
func (c *Config) TaskEnv(environ []string) []string {
	env := slices.DeleteFunc(slices.Clone(environ), func(variable string) bool {
		return strings.HasPrefix(variable, prefix) || strings.HasPrefix(variable, OuterVar+"=")
	})
	return append(env, c.TaskSettings(environ)...)
}

// TaskSettings returns the RMS_CLOUD_TASKS_* variables of a task, and OuterVar, which lists them. The
// variables come from environ, which is the environment of this process, and from Env. If both contain
// a variable, Env determines its value. TaskSettings omits the variables of an outer run in environ,
// because these variables do not describe this run.
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

// GivenVariables returns the environment variables that set settings of this run, as NAME=VALUE, except
// those that select how the run continues an earlier one. lookup is os.LookupEnv.
func (c *Config) GivenVariables(lookup func(string) (string, bool)) (variables []string) {
	for _, s := range settings() {
		from := c.origins[s.name]
		if from.Place != Environment || s.name == "resume" || s.name == "rerun" {
			continue
		}
		if value, ok := lookup(from.Name); ok {
			variables = append(variables, from.Name+"="+value)
		}
	}
	return variables
}
