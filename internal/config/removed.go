package config

import (
	"slices"
	"strings"
)

// removal is a flag that an earlier version had. The error for such a flag contains the setting
// that replaces it.
type removal struct {
	name, env string // the flag without dashes, and its variable
	setting   string // the setting that replaces it
	value     string // the value of the new setting; "" if the value of the flag is still valid
}

func removals() []removal {
	return []removal{
		{name: "warm", env: prefix + "WARM", setting: isolationName, value: IsolationReuse},
	}
}

// removed returns the removal of the flag name, if there is one.
func removed(name string) (removal, bool) {
	all := removals()
	i := slices.IndexFunc(all, func(r removal) bool { return r.name == name })
	if i < 0 {
		return removal{}, false
	}
	return all[i], true
}

// RemovedFlag returns the flag that replaces the flag name of an earlier version. It returns "" if
// no earlier version had this flag.
func RemovedFlag(name string) string {
	if r, ok := removed(name); ok {
		return r.flag()
	}
	return ""
}

// flag returns the flag to use instead.
func (r removal) flag() string { return strings.TrimSpace(flagged(r.setting) + " " + r.value) }

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
