package config

import "strconv"

// Place is a kind of origin of a setting's value.
type Place uint8

// The kinds of origins. The zero Place belongs to an unknown setting.
const (
	// Default: the setting was not given and has its default.
	Default Place = iota + 1
	// Derived: the setting was not given, and its value depends on other settings.
	Derived
	// File: the config file.
	File
	// Environment: an environment variable.
	Environment
	// CommandLine: a flag.
	CommandLine
)

// Origin is the origin of a setting's value.
type Origin struct {
	Place Place
	// Name is the name of the file or the variable. For a flag, Name is empty, unless the flag that
	// was used differs from the name of the setting, such as -j or --no-is-spot.
	Name string
	// Line is the line in the file.
	Line int
}

// String returns the origin as printed by --print-config: "default", "derived",
// "worker.yaml, line 3", "RMS_CLOUD_TASKS_PROVIDER", "command line" or
// "command line, -j".
func (o Origin) String() string {
	switch o.Place {
	case Default:
		return "default"
	case Derived:
		return "derived"
	case File:
		return o.Name + ", line " + strconv.Itoa(o.Line)
	case Environment:
		return o.Name
	case CommandLine:
		if o.Name != "" {
			return "command line, " + o.Name
		}
		return "command line"
	default:
		return "unknown"
	}
}
