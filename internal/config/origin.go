package config

import "strconv"

// Place is one of the places that a setting's value can come from.
type Place uint8

// The places. The zero Place is that of no setting.
const (
	// Default: nobody gave a value.
	Default Place = iota + 1
	// Derived: nobody gave a value, and it follows from other settings.
	Derived
	// File: the config file.
	File
	// Environment: a variable.
	Environment
	// CommandLine: a flag.
	CommandLine
)

// Origin says where a value came from.
type Origin struct {
	Place Place
	// Name is the file or the variable. For a flag it is the one used, where
	// that is not the setting's own name: -j or --no-is-spot.
	Name string
	// Line is the line in the file.
	Line int
}

// String returns the origin as --print-config shows it: "default", "derived",
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
