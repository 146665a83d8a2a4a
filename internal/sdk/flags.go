package sdk

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/config"
)

// arguments is a parsed command line.
type arguments struct {
	engine []string // flags of the worker, and unknown flags
	args   []string // arguments after the flags
	// version is true if --version is set.
	version bool
}

// parse splits a command line, and sets the program's own flags. Flags end at --, or at the first
// argument that is neither a flag nor the value of a flag. The returned error has one line for each
// error in the program's own flags. Package config validates the flags of the worker.
func (w *Program) parse(args []string) (arguments, error) {
	var parsed arguments
	known := engineFlags()
	if err := w.conflicts(known); err != nil {
		return parsed, err
	}
	var errs []error
	for len(args) > 0 && isFlag(args[0]) {
		var err error
		args, err = w.parseFlag(args, known, &parsed)
		errs = append(errs, err)
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	parsed.args = args
	if w.Flags != nil {
		// Mark the flag set as parsed, and set its arguments.
		errs = append(errs, w.Flags.Parse(append([]string{"--"}, args...)))
	}
	return parsed, errors.Join(errs...)
}

// parseFlag parses the flag at the start of args, and returns the arguments after the flag and its value.
func (w *Program) parseFlag(args []string, known map[string]bool, parsed *arguments) (rest []string, err error) {
	arg, rest := args[0], args[1:]
	name, _, hasValue := splitFlag(arg)
	if own := w.own(name); own != nil {
		return w.parseOwn(own, args, known)
	}
	if name == versionFlag && !hasValue {
		parsed.version = true
		return rest, nil
	}
	takesValue, isEngineFlag := known[name]
	if isEngineFlag && takesValue && !hasValue && w.lacksValue(rest, known) {
		return rest, fmt.Errorf("%s: no value; give one", arg)
	}
	parsed.engine = append(parsed.engine, arg)
	withValue := isEngineFlag && takesValue
	if !isEngineFlag {
		// Assume that this is the value of the unknown flag, because a later -- ends the flags.
		withValue = len(rest) > 0 && !strings.HasPrefix(rest[0], "-") && slices.Contains(rest[1:], "--")
	}
	if withValue && !hasValue {
		parsed.engine = append(parsed.engine, rest[0])
		rest = rest[1:]
	}
	return rest, nil
}

// parseOwn parses the flag at the start of args, which is one of the program's own flags.
func (w *Program) parseOwn(own *flag.Flag, args []string, known map[string]bool) (rest []string, err error) {
	arg, rest := args[0], args[1:]
	name, value, hasValue := splitFlag(arg)
	switch {
	case hasValue:
		return rest, w.set(arg, name, value)
	case isSwitch(own):
		return rest, w.set(arg, name, "true")
	case w.lacksValue(rest, known):
		return rest, fmt.Errorf("%s: no value; give one", arg)
	}
	return rest[1:], w.set(arg, name, rest[0])
}

// lacksValue reports whether rest does not start with the value of a flag.
func (w *Program) lacksValue(rest []string, known map[string]bool) bool {
	return len(rest) == 0 || rest[0] == "--" || w.isKnown(rest[0], known)
}

// misplaced returns an error if a flag of the worker follows the first argument. Such a flag is not
// parsed as a flag.
func (a arguments) misplaced() error {
	known := engineFlags()
	for i, arg := range a.args {
		if name, _, _ := splitFlag(arg); i > 0 && isFlag(arg) {
			if _, ok := known[name]; ok {
				return fmt.Errorf("%s: flags must precede the program's own arguments, which begin with %q", arg, a.args[0])
			}
		}
	}
	return nil
}

// ownNames returns the names of the program's own flags.
func (w *Program) ownNames() (names []string) {
	if w.Flags != nil {
		w.Flags.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	}
	return names
}

// engineFlags returns a map from the names of the worker's flags, without dashes, to whether the
// flag takes a value.
func engineFlags() map[string]bool {
	known := map[string]bool{"h": false, "help": false}
	for _, f := range config.ProgramFlags(&config.Flags{}, config.Go) {
		withValue, ok := f.(cli.DocGenerationFlag)
		for _, name := range f.Names() {
			known[name] = ok && withValue.TakesValue()
		}
	}
	return known
}

// conflicts returns an error if a flag of the program has the name of a flag of the worker.
func (w *Program) conflicts(known map[string]bool) error {
	if w.Flags == nil {
		return nil
	}
	var errs []error
	w.Flags.VisitAll(func(f *flag.Flag) {
		if _, both := known[f.Name]; both {
			errs = append(errs, fmt.Errorf("your flag %s has the same name as a flag of ctworker: rename your flag", dashed(f.Name)))
		}
	})
	return errors.Join(errs...)
}

func (w *Program) own(name string) *flag.Flag {
	if w.Flags == nil {
		return nil
	}
	return w.Flags.Lookup(name)
}

// isKnown reports whether arg is a flag of the worker or the program.
func (w *Program) isKnown(arg string, known map[string]bool) bool {
	if !isFlag(arg) {
		return false
	}
	name, _, _ := splitFlag(arg)
	_, isEngineFlag := known[name]
	return isEngineFlag || w.own(name) != nil
}

// set sets one of the program's own flags. The text of a returned error is one line.
func (w *Program) set(shown, name, value string) error {
	if err := w.Flags.Set(name, value); err != nil {
		flagPart, _, _ := strings.Cut(shown, "=")
		return fmt.Errorf("%s %q: %s", flagPart, value, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return nil
}

// isFlag reports whether package flag would parse arg as a flag.
func isFlag(arg string) bool { return len(arg) > 1 && arg[0] == '-' && arg != "--" }

// splitFlag splits a flag with one dash or two into its name and value.
func splitFlag(arg string) (name, value string, hasValue bool) {
	return strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
}

// isSwitch reports whether a flag is boolean and needs no value.
func isSwitch(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
