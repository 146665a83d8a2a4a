// Package config parses and validates the settings of a worker. It reads four origins; the first
// one that has a setting determines its value:
//
//	command line ─▶ environment ─▶ config file ─▶ default, which may
//	  Line            LookupEnv      --config FILE  depend on other settings
//
// One table, in settings.go, defines the name and the format of each setting and its field in
// [Config]. The flags and their help, the environment variables, the keys of the config file, the
// output of --print-config and the environment of a task are derived from that table.
//
// The guarantee: a [Config] returned by [Load] is complete and consistent, with all defaults
// applied. Otherwise, Load returns all faults at once, one line each, with the flag or variable
// as the user wrote it, its value, and the valid values. An invalid value is a fault even if an
// origin of higher precedence overrides it.
//
// The package neither prints nor exits. It does not parse the arguments of the user's own
// program. It does not open the task file or a queue: the sources check whether they exist.
package config
