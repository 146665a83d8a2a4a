package sdk

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/help"
)

// summary describes every worker program in one line.
const summary = "run a function of this program for each task of a task file or of a queue"

// describe returns the description for help.
func (w *Program) describe() string {
	const settings = `Tasks run in parallel. ARGS are passed to the function. The value of a setting is taken from
the command line, then from its environment variable, then from the config file, and is otherwise its
default.`
	examples := "\n\nExamples:\n   " + w.Name + " --task-file tasks.json -j auto\n   " + w.Name + " --provider AWS --job-id demo -j auto"
	if w.Tasks != nil {
		examples = "\n\nExample:\n   " + w.Name + " -j auto" // the program provides the tasks itself
	}
	text := settings + examples
	if w.Description != "" {
		text = w.Description + "\n\n" + text
	}
	return text
}

// infoRequest holds the flags that print information instead of starting a run.
type infoRequest struct {
	help    help.Request
	version bool
}

// versionFlag is the flag that prints the version. A flag of the program with this name
// replaces it.
const versionFlag = "version"

// infoFlags returns -h, --help and, unless the program has a flag with that name,
// --version.
func (w *Program) infoFlags(request *infoRequest) []cli.Flag {
	flags := request.help.Flags()
	if w.own(versionFlag) == nil {
		flags = append(flags, &help.Switch{
			Flag: help.Flag{Names: []string{versionFlag}, Usage: "Print the version of the program and of ctworker", Category: help.CategoryHelp}, Set: &request.version,
		})
	}
	return flags
}

// infoText returns the requested information, or "" if none was requested.
func (w *Program) infoText(request infoRequest, a *cli.App) string {
	switch width := help.Width(os.Stdout); {
	case request.help.Full:
		return help.OfApp(a).Full(width)
	case request.help.Short:
		return help.OfApp(a).Short(width, w.Name+" --help")
	case request.version:
		return w.version() + "\n"
	}
	return ""
}

// version returns the name of the program, its version if its module has one, and the
// version of ctworker.
func (w *Program) version() string {
	text := w.Name
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		text += " " + info.Main.Version
	}
	return text + " (ctworker " + w.Version + ")"
}

// completionShell returns the shell if the command line is "completion SHELL" and SHELL is
// supported.
func completionShell(args []string) (shell string, ok bool) {
	if len(args) == 2 && args[0] == "completion" {
		for _, known := range help.Shells() {
			if args[1] == known {
				return known, true
			}
		}
	}
	return "", false
}

// print writes text to standard output, and returns the exit code.
func (w *Program) print(text string) int { return w.written(help.Write(os.Stdout, text)) }

// written reports a failed write to standard output, and returns the exit code.
func (w *Program) written(err error) int {
	if err == nil {
		return app.ExitOK
	}
	_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", w.Name, err)
	return app.ExitFatal
}

// ownFlags returns the program's own flags for help.
func (w *Program) ownFlags() (flags []cli.Flag) {
	if w.Flags == nil {
		return nil
	}
	w.Flags.VisitAll(func(f *flag.Flag) { flags = append(flags, ownFlag{f}) })
	return flags
}

// ownFlag shows one of the program's own flags in help. Program.parse parses the flag itself.
type ownFlag struct{ f *flag.Flag }

// Apply implements cli.Flag.
func (ownFlag) Apply(*flag.FlagSet) error { return nil }

// Names implements cli.Flag.
func (o ownFlag) Names() []string { return []string{o.f.Name} }

// IsSet implements cli.Flag.
func (ownFlag) IsSet() bool { return false }

// IsVisible implements cli.VisibleFlag.
func (ownFlag) IsVisible() bool { return true }

// String implements cli.Flag.
func (o ownFlag) String() string {
	d := o.Describe()
	return d.Synopsis() + "\t" + d.Text(true)
}

// Describe implements help.Describer. The short help includes the program's own flags.
func (o ownFlag) Describe() help.Flag {
	value, usage := flag.UnquoteUsage(o.f)
	d := help.Flag{Names: []string{o.f.Name}, Usage: usage, Category: "This program", Common: true}
	if !isSwitch(o.f) {
		d.Arg = value
	}
	switch o.f.DefValue {
	case "", "0", "0s", "false":
	default:
		d.Default = o.f.DefValue
	}
	return d
}
