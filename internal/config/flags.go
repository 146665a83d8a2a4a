package config

import (
	"flag"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/help"
)

// A Line is the flags of a command line in the order they were given, which is
// what decides between --x and --no-x. It holds them as text: what is wrong
// with one is for Load to say, together with everything else that is wrong.
type Flags []Flag

// Given is one flag as it was given.
type Flag struct {
	Name  string // without dashes
	Value string // "true" for a boolean flag without a value
}

// Flags returns every flag of "ctworker run", in the order of help, as flags that
// add to line what they are given. They never fail themselves.
func FlagsOf(line *Flags) []cli.Flag { return flagsOf(line, settings()) }

// ProgramFlags returns the flags of a program that is made with an SDK.
func ProgramFlags(line *Flags, sdk SDK) []cli.Flag { return flagsOf(line, settingsOf(sdk)) }

// QueueFlags returns the flags of a command that is about a job's queues and runs
// nothing, with those of the settings named beside.
func QueueFlags(line *Flags, extra ...string) []cli.Flag {
	names := append([]string{providerName, jobID, projectID, queueName, "region", "exactly-once-queue", "verbose", "log-format", configFile}, extra...)
	return flagsOf(line, slices.DeleteFunc(settings(), func(s setting) bool { return !slices.Contains(names, s.name) }))
}

func flagsOf(line *Flags, all []setting) []cli.Flag {
	var flags []cli.Flag
	for _, s := range all {
		for _, name := range s.names() {
			flags = append(flags, &option{setting: s, name: name, line: line})
		}
	}
	return flags
}

// option is one name of one setting, as a flag. Each name is an option of its
// own, as the library refuses two names of one flag on the same line. Only the
// setting's own name is visible; its line of help speaks for all of them.
type option struct {
	setting setting
	name    string
	line    *Flags
}

var (
	_ cli.DocGenerationFlag = (*option)(nil)
	_ cli.CategorizableFlag = (*option)(nil)
	_ help.Describer        = (*option)(nil)
)

// Apply implements cli.Flag.
func (o *option) Apply(set *flag.FlagSet) error {
	set.Var(&recorder{option: o}, o.name, o.setting.usage)
	return nil
}

// Names implements cli.Flag.
func (o *option) Names() []string { return []string{o.name} }

// IsSet implements cli.Flag.
func (o *option) IsSet() bool {
	for _, g := range *o.line {
		if g.Name == o.name {
			return true
		}
	}
	return false
}

// String implements cli.Flag.
func (o *option) String() string {
	d := o.Describe()
	return d.Synopsis() + "\t" + d.Text(true)
}

// Describe implements help.Describer.
func (o *option) Describe() help.Flag {
	return help.Flag{
		Names: o.setting.names(), Arg: o.setting.arg, Usage: o.setting.usage, Default: o.GetDefaultText(),
		Env: o.setting.env, Category: o.setting.category, Common: o.setting.common,
	}
}

// TakesValue implements cli.DocGenerationFlag.
func (o *option) TakesValue() bool { return !o.setting.isBool() }

// GetUsage implements cli.DocGenerationFlag.
func (o *option) GetUsage() string { return o.setting.usage }

// GetValue implements cli.DocGenerationFlag.
func (o *option) GetValue() string { return o.setting.def }

// GetDefaultText implements cli.DocGenerationFlag. That a plain switch is off
// unless given goes without saying.
func (o *option) GetDefaultText() string {
	switch {
	case o.setting.defHelp != "":
		return o.setting.defHelp
	case o.setting.isBool() && !o.setting.negatable:
		return ""
	default:
		return o.setting.def
	}
}

// GetEnvVars implements cli.DocGenerationFlag.
func (o *option) GetEnvVars() []string {
	if o.setting.env == "" {
		return nil
	}
	return []string{o.setting.env}
}

// IsVisible implements cli.VisibleFlag.
func (o *option) IsVisible() bool { return o.name == o.setting.name }

// GetCategory implements cli.CategorizableFlag.
func (o *option) GetCategory() string { return o.setting.category }

// recorder is the flag.Value of an option.
type recorder struct {
	option *option
	last   string
}

// Set implements flag.Value.
func (r *recorder) Set(raw string) error {
	r.last = raw
	*r.option.line = append(*r.option.line, Flag{Name: r.option.name, Value: raw})
	return nil
}

// String implements flag.Value. The flag package also calls it on a zero
// recorder.
func (r *recorder) String() string { return r.last }

// IsBoolFlag tells the flag package that no value need follow.
func (r *recorder) IsBoolFlag() bool { return r.option.setting.isBool() }
