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

// summary describes any worker program in one line.
const summary = "run a function of this program for each task of a task file or of a queue"

// describe returns the description that help shows.
func (w *Program) describe() string {
	const settings = `Tasks run in parallel, each in a process of its own unless the program decides otherwise.
The flags before ARGS are those of ctworker. Each setting is taken from the command line, else from
its environment variable, else from the config file, and is otherwise its default.`
	examples := "\n\nExamples:\n   " + w.Name + " --task-file tasks.json -j auto\n   " + w.Name + " --provider AWS --job-id demo -j auto"
	if w.Tasks != nil {
		examples = "\n\nExample:\n   " + w.Name + " -j auto" // the program itself has the tasks
	}
	text := settings + examples
	if w.Description != "" {
		text = w.Description + "\n\n" + text
	}
	return text
}

// questions are the flags that print something in place of a run.
type questions struct {
	help    help.Request
	version bool
}

// versionFlag is the flag that prints the version. A program's own flag of this name replaces it.
const versionFlag = "version"

// questionFlags returns -h, --help and, unless the program has a flag of that name, --version.
func (w *Program) questionFlags(asked *questions) []cli.Flag {
	flags := asked.help.Flags()
	if w.own(versionFlag) == nil {
		flags = append(flags, &help.Switch{
			Flag: help.Flag{Names: []string{versionFlag}, Usage: "Print the version of the program and of ctworker", Category: "Help"}, Set: &asked.version,
		})
	}
	return flags
}

// answer returns the text that was asked for, or "".
func (w *Program) answer(asked questions, a *cli.App) string {
	switch width := help.Width(os.Stdout); {
	case asked.help.Full:
		return help.OfApp(a).Full(width)
	case asked.help.Short:
		return help.OfApp(a).Short(width, w.Name+" --help")
	case asked.version:
		return w.version() + "\n"
	}
	return ""
}

// version returns the program's name, its version if its module has one, and ctworker's.
func (w *Program) version() string {
	text := w.Name
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		text += " " + info.Main.Version
	}
	return text + " (ctworker " + w.Version + ")"
}

// completionShell returns the shell of the command line "completion SHELL".
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

// ownFlags returns the program's own flags for help to show.
func (w *Program) ownFlags() (flags []cli.Flag) {
	if w.Flags == nil {
		return nil
	}
	w.Flags.VisitAll(func(f *flag.Flag) { flags = append(flags, ownFlag{f}) })
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

// String implements cli.Flag.
func (o ownFlag) String() string {
	d := o.Describe()
	return d.Synopsis() + "\t" + d.Text(true)
}

// Describe implements help.Describer. The program's own flags are in the short help, too.
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
