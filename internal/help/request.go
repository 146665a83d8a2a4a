package help

import (
	"flag"
	"strconv"

	"github.com/urfave/cli/v2"
)

// CategoryHelp is the category of flags that print something instead of running the command.
const CategoryHelp = "Help"

// A Request records which help a command line asks for.
type Request struct {
	Short, Full bool
}

// Asked reports whether any help was asked for.
func (r *Request) Asked() bool { return r.Short || r.Full }

// Flags returns the flags -h and --help, which set r. The library's own help flag is not used:
// it is a global variable, ignores write errors, and has one page only.
func (r *Request) Flags() []cli.Flag {
	return []cli.Flag{
		&Switch{Flag: Flag{Names: []string{"h"}, Usage: "Show the most important flags", Category: CategoryHelp}, Set: &r.Short},
		&Switch{Flag: Flag{Names: []string{"help"}, Usage: "Show everything", Category: CategoryHelp}, Set: &r.Full},
	}
}

// Switch is a boolean flag that sets a variable.
type Switch struct {
	Flag Flag
	Set  *bool
}

var _ Describer = (*Switch)(nil)

// Apply implements cli.Flag.
func (s *Switch) Apply(set *flag.FlagSet) error {
	for _, name := range s.Flag.Names {
		set.Var(switchValue{s.Set}, name, s.Flag.Usage)
	}
	return nil
}

// Names implements cli.Flag.
func (s *Switch) Names() []string { return s.Flag.Names }

// IsSet implements cli.Flag.
func (s *Switch) IsSet() bool { return *s.Set }

// String implements cli.Flag.
func (s *Switch) String() string { return s.Flag.Synopsis() + "\t" + s.Flag.Text(true) }

// Describe implements Describer.
func (s *Switch) Describe() Flag { return s.Flag }

// switchValue is the flag.Value of a Switch.
type switchValue struct{ set *bool }

// Set implements flag.Value.
func (v switchValue) Set(raw string) error {
	b, err := strconv.ParseBool(raw)
	if err == nil {
		*v.set = b
	}
	return err
}

// String implements flag.Value. It returns "" because the library would otherwise treat the flag
// "help" as its own boolean flag, and print its own help.
func (v switchValue) String() string { return "" }

// IsBoolFlag states that the flag can be used without a value.
func (v switchValue) IsBoolFlag() bool { return true }
