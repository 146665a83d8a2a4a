// Package config parses and validates the settings of a worker. A setting can come from four
// origins. If several origins contain the setting, the first one in this order determines its value:
//
//	command line ─▶ environment ─▶ config file ─▶ default, which may
//	  Line            LookupEnv      --config FILE  depend on other settings
//
// One table, in settings.go, defines the name and the format of each setting, and its field in
// [Config]. The flags and their help, the environment variables, the keys of the config file, the
// output of --print-config and the environment of a task are derived from that table.
//
// # The guarantee
//
// A [Config] that [Load] returns is complete and consistent, and all defaults are applied. If
// settings are wrong, Load returns all faults together, one line for each. A line contains the flag
// or the variable as the user wrote it, its value, and the valid values. An invalid value is a
// fault even if an origin with higher precedence overrides the value.
//
// # Scope
//
// The package does not print anything or exit. It does not parse the arguments of the user's own
// program. It does not check whether the task file or a queue exists; the sources do that.
package config
