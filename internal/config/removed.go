package config

import (
	"slices"
	"strings"
)

// removal is a flag that an earlier version had. The error for such a flag contains the setting
// that replaces the flag.
type removal struct {
	name, env string // the flag without dashes, and its variable
	setting   string // the setting that replaces the flag
	value     string // the value of the new setting; "" if the value of the flag is still valid
	note      string // how the new value differs
}

func removals() []removal {
	return []removal{
		// The next two belonged to "ctworker load".
		{name: "start-task", setting: "tasks-to-skip", note: " with a value that is lower by one: --tasks-to-skip 5000 instead of --start-task 5001"},
		{name: "limit", setting: "max-num-tasks"},
		{name: "warm", env: prefix + "WARM", setting: isolationName, value: IsolationReuse},
	}
}

// removed returns the removal of the flag with the given name, if there is one.
func removed(name string) (removal, bool) {
	all := removals()
	i := slices.IndexFunc(all, func(r removal) bool { return r.name == name })
	if i < 0 {
		return removal{}, false
	}
	return all[i], true
}

// RemovedFlag returns the flag that replaces name, a flag of an earlier version. It returns "" if no
// earlier version had this flag.
func RemovedFlag(name string) string {
	if r, ok := removed(name); ok {
		return r.flag()
	}
	return ""
}

// flag returns the flag to use instead.
func (r removal) flag() string { return strings.TrimSpace(flagged(r.setting)+" "+r.value) + r.note }

// key returns the line of a config file to use instead.
func (r removal) key() string { return strings.TrimSpace(r.setting + ": " + r.value) }

// variable returns the variable to use instead.
func (r removal) variable() string {
	env := aliases()[r.setting].setting.env
	if r.value == "" {
		return env
	}
	return env + "=" + r.value
}
