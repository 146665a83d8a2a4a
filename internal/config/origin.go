package config

import "strconv"

// Place is the kind of an Origin.
type Place uint8

// The kinds of origins. The zero Place belongs to an unknown setting.
const (
	// Default means that the setting was not given and has its default.
	Default Place = iota + 1
	// Derived means that the setting was not given, and that its value depends on other settings.
	Derived
	// File means that the value is from the config file.
	File
	// Environment means that the value is from an environment variable.
	Environment
	// CommandLine means that the value is from a flag.
	CommandLine
)

// Origin is where the value of a setting comes from.
type Origin struct {
	Place Place
	// Name is the name of the file or the variable. For a flag, Name is the flag that was used, such
	// as -j or --no-is-spot, or empty if the flag is the name of the setting. For other places, Name
	// is empty.
	Name string
	// Line is the number of the line in the file.
	Line int
}

// String returns the origin in the form that --print-config prints: "default", "derived",
// "worker.yaml, line 3", "RMS_CLOUD_TASKS_PROVIDER", "command line" or "command line, -j".
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
