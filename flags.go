package ctworker

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/config"
)

// arguments is a command line taken apart.
type arguments struct {
	worker []string // the worker's flags, and those that nobody knows
	rest   []string // what follows the flags
}

// parse takes a command line apart and sets the program's own flags. Flags end at
// -- or at the first argument that is neither a flag nor a flag's value. The error
// has a line a fault of the program's own flags; the worker's are for package config
// to judge.
func (w *application) parse(args []string) (arguments, error) {
	var given arguments
	known := workerFlags()
	if err := w.conflicts(known); err != nil {
		return given, err
	}
	var faults []error
	for len(args) > 0 && isFlag(args[0]) {
		arg := args[0]
		args = args[1:]
		name, value, hasValue := splitFlag(arg)
		own := w.own(name)
		takesValue, theirs := known[name]
		switch {
		case own != nil && (hasValue || isSwitch(own)):
			if !hasValue {
				value = "true"
			}
			faults = append(faults, w.set(arg, name, value))
		case own != nil || theirs && takesValue && !hasValue:
			if len(args) == 0 || args[0] == "--" || w.isKnown(args[0], known) {
				faults = append(faults, fmt.Errorf("%s: no value; give one", arg))
				continue
			}
			if own != nil {
				faults = append(faults, w.set(arg, name, args[0]))
			} else {
				given.worker = append(given.worker, arg, args[0])
			}
			args = args[1:]
		default:
			given.worker = append(given.worker, arg)
			// The value of an unknown flag, if the flags end elsewhere.
			if !theirs && !hasValue && len(args) > 0 && !strings.HasPrefix(args[0], "-") && slices.Contains(args[1:], "--") {
				given.worker = append(given.worker, args[0])
				args = args[1:]
			}
		}
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	given.rest = args
	if w.flags != nil {
		// So that the set counts as parsed, and has the arguments.
		faults = append(faults, w.flags.Parse(append([]string{"--"}, args...)))
	}
	return given, errors.Join(faults...)
}

// misplaced returns an error if a flag of the worker comes after the first argument, where it is
// not parsed as a flag.
func (a arguments) misplaced() error {
	known := workerFlags()
	for i, arg := range a.rest {
		if name, _, _ := splitFlag(arg); i > 0 && isFlag(arg) {
			if _, ok := known[name]; ok {
				return fmt.Errorf("%s: flags come before the program's own arguments, which begin with %q", arg, a.rest[0])
			}
		}
	}
	return nil
}

// ownNames returns the names of the program's own flags.
func (w *application) ownNames() (names []string) {
	if w.flags != nil {
		w.flags.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	}
	return names
}

// workerFlags returns the worker's flags, without dashes, and whether each takes a
// value.
func workerFlags() map[string]bool {
	known := map[string]bool{"h": false, "help": false}
	for _, f := range config.ProgramFlags(&config.Flags{}) {
		withValue, ok := f.(cli.DocGenerationFlag)
		for _, name := range f.Names() {
			known[name] = ok && withValue.TakesValue()
		}
	}
	return known
}

// conflicts refuses flags of the program that are the worker's already.
func (w *application) conflicts(known map[string]bool) error {
	if w.flags == nil {
		return nil
	}
	var errs []error
	w.flags.VisitAll(func(f *flag.Flag) {
		if _, both := known[f.Name]; both {
			errs = append(errs, fmt.Errorf("the program's own flag %s is one of the worker's too: it has to be given another name in the program", dashed(f.Name)))
		}
	})
	return errors.Join(errs...)
}

func (w *application) own(name string) *flag.Flag {
	if w.flags == nil {
		return nil
	}
	return w.flags.Lookup(name)
}

// isKnown reports whether an argument is a flag of the worker or the program.
func (w *application) isKnown(arg string, known map[string]bool) bool {
	if !isFlag(arg) {
		return false
	}
	name, _, _ := splitFlag(arg)
	_, theirs := known[name]
	return theirs || w.own(name) != nil
}

// set sets one of the program's own flags. Its error is one line.
func (w *application) set(shown, name, value string) error {
	if err := w.flags.Set(name, value); err != nil {
		flagPart, _, _ := strings.Cut(shown, "=")
		return fmt.Errorf("%s %q: %s", flagPart, value, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return nil
}

// isFlag reports whether package flag would take arg for one.
func isFlag(arg string) bool { return len(arg) > 1 && arg[0] == '-' && arg != "--" }

// splitFlag takes a flag apart: one dash or two, its name and its value.
func splitFlag(arg string) (name, value string, hasValue bool) {
	return strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
}

// isSwitch reports whether a flag needs no value.
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

// ownFlags returns the program's own flags for help to show.
func (w *application) ownFlags() (flags []cli.Flag) {
	if w.flags == nil {
		return nil
	}
	w.flags.VisitAll(func(f *flag.Flag) { flags = append(flags, ownFlag{f}) })
	return flags
}

// ownFlag is one of the program's own flags as help shows it. It is parsed elsewhere.
type ownFlag struct{ f *flag.Flag }

// Apply implements cli.Flag.
func (ownFlag) Apply(*flag.FlagSet) error { return nil }

// Names implements cli.Flag.
func (o ownFlag) Names() []string { return []string{o.f.Name} }

// IsSet implements cli.Flag.
func (ownFlag) IsSet() bool { return false }

// IsVisible implements cli.VisibleFlag.
func (ownFlag) IsVisible() bool { return true }

// GetCategory implements cli.CategorizableFlag.
func (ownFlag) GetCategory() string { return "This program" }

// String implements cli.Flag with the line of help, whose columns the library aligns
// at the tab.
func (o ownFlag) String() string {
	value, usage := flag.UnquoteUsage(o.f)
	text := dashed(o.f.Name)
	if value != "" && !isSwitch(o.f) {
		text += " " + value
	}
	text += "\t" + strings.ReplaceAll(usage, "\n", " ")
	switch o.f.DefValue {
	case "", "0", "0s", "false":
	default:
		text += " (default: " + o.f.DefValue + ")"
	}
	return text
}
