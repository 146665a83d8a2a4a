package config

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// passed reports whether a flag requests help. Normalize does not remove such a flag, although the
// flag is not a setting.
func passed(name string) bool { return name == "h" || name == "help" }

// Normalize prepares the arguments of a command for a parser that stops at the first unknown flag,
// or at a flag without a value. Normalize removes these flags, and returns a fault for each. It also
// replaces -jN by -j N. args does not include the command itself. The flags end at --, or at the
// first argument that is neither a flag nor the value of a flag. Normalize does not change this
// argument and the arguments after it.
//
// It is ambiguous whether an argument after an unknown flag is the value of the flag, or the first
// positional argument. Normalize treats the argument as a value if a -- follows.
//
// others are the names of the program's own flags. Normalize may also suggest one of them for a
// misspelled flag.
func Normalize(args []string, others ...string) (fixed []string, faults Errors) {
	known := aliases()
	fixed = make([]string, 0, len(args))
	for len(args) > 0 && isFlag(args[0]) {
		arg := args[0]
		args = args[1:]
		name, value, hasValue := split(arg)
		spelled, ok := known[name]
		switch {
		case passed(name), ok && (hasValue || spelled.setting.isBool()):
			fixed = append(fixed, arg)
		case ok && lacksValue(args, known):
			faults = append(faults, Error{
				Setting: flagged(name),
				Reason:  "no value; give one, as in " + flagged(name) + " " + spelled.setting.arg,
				about:   spelled.setting.name,
			})
		case ok:
			fixed = append(fixed, arg, args[0])
			args = args[1:]
		case isGlued(arg, known):
			fixed = append(fixed, arg[:2], arg[2:])
		default:
			if !hasValue && followsValue(args) {
				value, args = args[0], args[1:]
			}
			flag, _, _ := strings.Cut(arg, "=")
			faults = append(faults, unknownFlag(flag, name, value, others))
		}
	}
	return append(fixed, args...), append(faults, misplaced(args, known)...)
}

// followsValue reports whether args starts with what is assumed to be the value of an unknown flag.
func followsValue(args []string) bool {
	return len(args) > 0 && !strings.HasPrefix(args[0], "-") && slices.Contains(args[1:], "--")
}

// misplaced checks the arguments after the flags. It returns a fault if the first of args is
// probably not the start of a command, because a -- directly follows it, or because flags of
// ctworker and a -- follow it. Otherwise it returns nil.
func misplaced(args []string, known map[string]alias) Errors {
	end := slices.Index(args, "--")
	if end < 1 {
		return nil
	}
	if end == 1 && IsTaskFileName(args[0]) {
		return Errors{TaskFileArgument(args[0])}
	}
	fault := func(reason string) Errors {
		return Errors{{Setting: strconv.Quote(args[0]), Reason: "unexpected argument before " + reason, valueless: true}}
	}
	for _, arg := range args[1:end] {
		// Ignore short flags such as -v, because they are probably flags of the command.
		if name, _, _ := split(arg); strings.HasPrefix(arg, "--") {
			if _, ok := known[name]; ok {
				return fault(arg + "; if it is the command, put -- before it")
			}
		}
	}
	if end == 1 {
		return fault("--; give a value to an on/off flag as in --strict=false, or put -- before the command")
	}
	return nil
}

// IsTaskFileName reports whether arg has the extension of a task file.
func IsTaskFileName(arg string) bool {
	name := strings.ToLower(arg)
	for _, compression := range []string{".gz", ".zst"} {
		name = strings.TrimSuffix(name, compression)
	}
	return slices.Contains([]string{".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".csv", ".tsv"}, path.Ext(name))
}

// TaskFileArgument returns the fault of an argument that names a task file but is not the value of a flag.
func TaskFileArgument(name string) Error {
	return Error{
		Setting: strconv.Quote(name), about: taskFile, valueless: true,
		Reason: "unexpected argument; to run the tasks of this file, use " + flagged(taskFile) + " " + name,
	}
}

// isFlag reports whether the flag package treats arg as a flag.
func isFlag(arg string) bool {
	return len(arg) > 1 && arg[0] == '-' && arg != "--"
}

// split splits a flag with one or two dashes into its name and its value.
func split(arg string) (name, value string, hasValue bool) {
	name = strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
	return strings.Cut(name, "=")
}

// lacksValue reports whether rest does not start with the value of a flag. A known flag is not a
// value: in --job-id --verbose, the job ID is missing, although the flag package would use
// --verbose as the job ID.
func lacksValue(rest []string, known map[string]alias) bool {
	if len(rest) == 0 || rest[0] == "--" {
		return true
	}
	if !isFlag(rest[0]) {
		return false
	}
	name, _, _ := split(rest[0])
	_, ok := known[name]
	return ok || passed(name)
}

// isGlued reports whether arg is a one-letter flag directly followed by its value, such as -j4.
func isGlued(arg string, known map[string]alias) bool {
	if len(arg) < 3 || arg[1] == '-' {
		return false
	}
	_, ok := known[arg[1:2]]
	return ok && (arg[2:] == "auto" || strings.Contains("0123456789+-", arg[2:3]))
}

func unknownFlag(shown, name, value string, others []string) Error {
	f := Error{Setting: shown, Value: value, Reason: "unknown flag; --help lists all flags", valueless: value == ""}
	if r, ok := removed(name); ok {
		f.Reason, f.about = "unknown flag; use "+r.flag(), r.setting
		return f
	}
	names := slices.Clone(others)
	for _, s := range settings() {
		names = append(names, s.names()...)
	}
	if near := nearest(name, names); near != "" {
		f.Reason = "unknown flag; did you mean " + flagged(near) + "?"
		f.about = aliases()[near].setting.name // "" if near is in others
	}
	return f
}
