package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker"
	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/help"
)

// errHelpShown prevents a command from running after its help was printed. It is not reported.
var errHelpShown = errors.New("help was printed")

// outputError is a failed write to standard output. It has its own type because the other errors of
// a command are errors in the command line.
type outputError struct{ err error }

// Error returns the reason.
func (e *outputError) Error() string { return e.err.Error() }

// Unwrap returns the error of the write.
func (e *outputError) Unwrap() error { return e.err }

// print writes text to standard output.
func (p process) print(text string) error {
	if err := help.Write(p.stdout, text); err != nil {
		return &outputError{err}
	}
	return nil
}

func (p process) printConfig(cfg *config.Config) error {
	if err := cfg.Print(p.stdout); err != nil {
		return &outputError{err}
	}
	return nil
}

// failed writes the error of a command to standard error, and returns the exit code.
func (p process) failed(err error) int {
	asOutput := (*outputError)(nil)
	switch {
	case errors.Is(err, errHelpShown):
		return app.ExitOK
	case errors.As(err, &asOutput):
		_, _ = fmt.Fprintf(p.stderr, "ctworker: %v\n", asOutput)
		return app.ExitFatal
	}
	return p.usage(err)
}

// addHelp adds -h and --help to all commands. It also makes their errors suggest the right flag if
// a flag is misspelled.
func (p process) addHelp(a *cli.App) {
	var asked help.Request
	a.Flags = append(a.Flags, asked.Flags()...)
	a.Before = p.showHelp(&asked, func() help.Command { return help.OfApp(a) })
	a.OnUsageError = wrongFlag("", func() []cli.Flag { return a.Flags })
	for _, c := range a.Commands {
		p.addCommandHelp("ctworker", c)
	}
}

func (p process) addCommandHelp(parent string, c *cli.Command) {
	var asked help.Request
	c.HideHelp = true
	c.Flags = append(c.Flags, asked.Flags()...)
	c.Before = p.showHelp(&asked, func() help.Command { return help.OfCommand(parent, c) })
	path := parent + " " + c.Name
	if c.OnUsageError == nil {
		c.OnUsageError = wrongFlag(strings.TrimPrefix(path, "ctworker "), func() []cli.Flag { return c.Flags })
	}
	for _, sub := range c.Subcommands {
		p.addCommandHelp(path, sub)
	}
}

// showHelp returns a function that runs before a command. If help was requested, the function
// prints the help and returns errHelpShown, so the command does not run.
func (p process) showHelp(asked *help.Request, describe func() help.Command) cli.BeforeFunc {
	return func(*cli.Context) error {
		if !asked.Asked() {
			return nil
		}
		c := describe()
		text := ""
		if asked.Full {
			text = c.Full(help.Width(p.stdout))
		} else {
			text = c.Short(help.Width(p.stdout), helpOf(strings.TrimPrefix(strings.TrimPrefix(c.Name, "ctworker"), " ")))
		}
		if err := p.print(text); err != nil {
			return err
		}
		return errHelpShown
	}
}

const helpDescription = `Print the complete help of a command: all flags with their defaults and variables.
"ctworker COMMAND -h" prints the most important ones.

Examples:
   ctworker help run
   ctworker help queue status`

func (p process) helpCommand(a *cli.App) *cli.Command {
	var asJSON bool
	return &cli.Command{
		Name:        "help",
		Usage:       "print the complete help of a command",
		UsageText:   "ctworker help [COMMAND…]",
		Description: helpDescription,
		Flags: []cli.Flag{&help.Switch{
			Flag: help.Flag{Names: []string{"json"}, Usage: "Print the description of all commands as JSON, as \"make man\" uses it", Category: help.CategoryHelp}, Set: &asJSON,
		}},
		Action: func(c *cli.Context) error {
			if asJSON {
				text, err := json.MarshalIndent(help.OfApp(a), "", "  ")
				if err != nil {
					return fmt.Errorf("describe the commands: %w", err)
				}
				return p.print(string(text) + "\n")
			}
			return p.helpAbout(a, c.Args().Slice())
		},
	}
}

// helpAbout prints the complete help of a command. The parameter words is the name of the command,
// for example "queue", "status".
func (p process) helpAbout(a *cli.App, words []string) error {
	described, commands := help.OfApp(a), a.Commands
	path := ""
	for _, word := range words {
		found := (*cli.Command)(nil)
		for _, c := range commands {
			if c.HasName(word) {
				found = c
			}
		}
		switch {
		case found != nil:
			described = help.OfCommand(strings.TrimSpace("ctworker "+path), found)
			path = strings.TrimSpace(path + " " + word)
			commands = found.Subcommands
		case len(commands) == 0:
			return &usageError{fmt.Sprintf("unexpected argument %q: ctworker %s has no commands", word, path), helpOf(path)}
		default:
			return unknownCommand(word, path, commands)
		}
	}
	return p.print(described.Full(help.Width(p.stdout)))
}

const completionDescription = `Print a script that completes commands, flags and their values in a shell. Load it when the
shell starts, in ~/.bashrc or ~/.zshrc, or write it to a file for fish.

Examples:
   eval "$(ctworker completion bash)"
   source <(ctworker completion zsh)
   ctworker completion fish > ~/.config/fish/completions/ctworker.fish`

func (p process) completionCommand(a *cli.App) *cli.Command {
	shells := strings.Join(help.Shells(), "|")
	return &cli.Command{
		Name:        "completion",
		Usage:       "print a completion script for a shell",
		UsageText:   "ctworker completion " + shells,
		ArgsUsage:   shells,
		Description: completionDescription,
		OnUsageError: func(*cli.Context, error, bool) error {
			return &usageError{"give the name of the shell without a flag, as in: ctworker completion bash", helpOf("completion")}
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return &usageError{"give one shell: " + list(help.Shells()), helpOf("completion")}
			}
			text, err := help.OfApp(a).Completion(c.Args().First(), "ctworker")
			if err != nil {
				return &usageError{err.Error(), helpOf("completion")}
			}
			return p.print(text)
		},
	}
}

func (p process) versionCommand() *cli.Command {
	return &cli.Command{
		Name:      "version",
		Usage:     "print the version",
		UsageText: "ctworker version",
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return unexpected(c.Args().First(), "version", nil)
			}
			return p.print(versionText())
		},
	}
}

func versionText() string { return "ctworker version " + ctworker.Version + "\n" }
