package help

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// Command describes a command, or a program without commands.
type Command struct {
	// Name is the full name, with the program and all parent commands: "ctworker queue status".
	Name string `json:"name"`
	// Summary is one line, lower case, without a full stop.
	Summary string `json:"summary"`
	// Usage contains one line for each form of the command line.
	Usage []string `json:"usage"`
	// Description consists of paragraphs separated by empty lines. Indented lines are not wrapped.
	Description string `json:"description,omitempty"`
	// Examples are command lines.
	Examples []string `json:"examples,omitempty"`
	// Arguments are the words that can follow the flags, if only a few words are possible.
	Arguments []string  `json:"arguments,omitempty"`
	Flags     []Flag    `json:"flags,omitempty"`
	Commands  []Command `json:"commands,omitempty"`
}

// Flag describes one flag with all of its names.
type Flag struct {
	// Names are without dashes; the first is the main one.
	Names []string `json:"names"`
	// Arg is the placeholder for the value, such as SECONDS. It is empty for a switch.
	Arg   string `json:"arg,omitempty"`
	Usage string `json:"usage"`
	// Default is the default value, as text.
	Default string `json:"default,omitempty"`
	// Env is the environment variable with the same effect.
	Env string `json:"env,omitempty"`
	// Category is the group of the flag in the full help.
	Category string `json:"category,omitempty"`
	// Common states that the short help shows the flag.
	Common bool `json:"common,omitempty"`
}

// Describer is a cli.Flag that describes itself completely.
type Describer interface {
	cli.Flag
	Describe() Flag
}

// fileArg is the placeholder of a flag whose value is a file.
const fileArg = "FILE"

// values returns the words that a flag accepts, according to a placeholder such as AWS|GCP. In
// N|auto, N means any number, and is not a word.
func (f Flag) values() []string {
	if !strings.Contains(f.Arg, "|") {
		return nil
	}
	return slices.DeleteFunc(strings.Split(f.Arg, "|"), func(word string) bool { return len(word) == 1 })
}

// command returns the subcommand with this name, or nil.
func (c Command) command(name string) *Command {
	for i := range c.Commands {
		if c.Commands[i].lastName() == name {
			return &c.Commands[i]
		}
	}
	return nil
}

// Find returns the subcommand that the words name, one word per level.
func (c Command) Find(words ...string) (Command, bool) {
	for _, word := range words {
		sub := c.command(word)
		if sub == nil {
			return c, false
		}
		c = *sub
	}
	return c, true
}

// lastName returns the name of the command without the names of its parents.
func (c Command) lastName() string { return c.Name[strings.LastIndexByte(c.Name, ' ')+1:] }

// OfApp describes a program. Hidden commands are left out.
func OfApp(app *cli.App) Command {
	root := &cli.Command{
		Name: app.Name, Usage: app.Usage, UsageText: app.UsageText, Description: app.Description,
		Flags: app.Flags, Subcommands: app.Commands,
	}
	return OfCommand("", root)
}

// OfCommand describes a command and its subcommands, except hidden ones. parent is the full name of
// the parent command. It interprets these fields of the command:
//
//   - Description may end with a section "Example:" or "Examples:" of indented command lines.
//   - ArgsUsage may list the words that can follow the flags, separated by bars.
//   - Flags that are not Describers count as common, because they are specific to the command.
func OfCommand(parent string, c *cli.Command) Command {
	name := strings.TrimSpace(parent + " " + c.Name)
	described := Command{Name: name, Summary: c.Usage, Usage: usageLines(name, c)}
	described.Description, described.Examples = splitExamples(c.Description)
	if strings.Contains(c.ArgsUsage, "|") {
		described.Arguments = strings.Split(c.ArgsUsage, "|")
	}
	for _, f := range c.Flags {
		if visible, ok := f.(cli.VisibleFlag); !ok || visible.IsVisible() {
			described.Flags = append(described.Flags, DescribeFlag(f))
		}
	}
	for _, sub := range c.Subcommands {
		if !sub.Hidden {
			described.Commands = append(described.Commands, OfCommand(name, sub))
		}
	}
	return described
}

func usageLines(name string, c *cli.Command) []string {
	switch {
	case c.UsageText != "":
		return strings.Split(c.UsageText, "\n")
	case len(c.Subcommands) > 0:
		return []string{name + " COMMAND [flags]"}
	default:
		return []string{name + " [flags]"}
	}
}

// splitExamples returns a description without its examples, and the examples.
func splitExamples(text string) (description string, examples []string) {
	for _, heading := range []string{"Examples:\n", "Example:\n"} {
		before, after, ok := strings.Cut(text, heading)
		if !ok {
			continue
		}
		for line := range strings.Lines(after) {
			if line = strings.TrimSpace(line); line != "" {
				examples = append(examples, line)
			}
		}
		return strings.TrimSpace(before), examples
	}
	return strings.TrimSpace(text), nil
}

// DescribeFlag describes any flag of package cli.
func DescribeFlag(f cli.Flag) Flag {
	if d, ok := f.(Describer); ok {
		return d.Describe()
	}
	d := Flag{Names: f.Names(), Common: true}
	doc, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return d
	}
	// A placeholder is in backquotes, as in package flag.
	d.Usage = strings.ReplaceAll(doc.GetUsage(), "`", "")
	if doc.TakesValue() {
		d.Arg = "VALUE"
		if parts := strings.Split(doc.GetUsage(), "`"); len(parts) == 3 {
			d.Arg = parts[1]
		}
	}
	if def := strings.Trim(doc.GetDefaultText(), `"`); def != "false" {
		d.Default = def
	}
	return d
}
