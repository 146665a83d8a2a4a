package config

import (
	"flag"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/help"
)

// Flags are the flags of a command line, in the given order. If both --x and --no-x are given, the
// last one applies. The values are not validated yet. Load validates them, because it reports all
// errors together.
type Flags []Flag

// Flag is one flag of a command line.
type Flag struct {
	Name  string // without dashes
	Value string // "true" for a boolean flag without a value
}

// FlagsOf returns all flags of "ctworker run", in the order of the help. Parsing a flag appends it
// to line, and never fails.
func FlagsOf(line *Flags) []cli.Flag { return flagsOf(line, settings()) }

// ProgramFlags returns the flags of a program that uses an SDK.
func ProgramFlags(line *Flags, sdk SDK) []cli.Flag { return flagsOf(line, settingsOf(sdk)) }

// QueueFlags returns the flags of a command that manages the queues of a job, and the flags of the
// settings in extra.
func QueueFlags(line *Flags, extra ...string) []cli.Flag {
	names := append([]string{providerName, jobID, projectID, queueName, "region", "exactly-once-queue", "verbose", logLevel, "log-format", configFile}, extra...)
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

// option is the cli.Flag for one name of a setting. Each name of a setting has its own option,
// because the library rejects two names of the same flag in one command line. The help shows only
// the option of the main name, together with all names of the setting.
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

// GetDefaultText implements cli.DocGenerationFlag. It returns "" for a boolean flag that is false
// by default and cannot be negated.
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

// recorder is the flag.Value of an option. It appends the flag to the option's Flags.
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

// String implements flag.Value. The flag package also calls it on the zero value.
func (r *recorder) String() string { return r.last }

// IsBoolFlag reports whether the flag may be given without a value.
func (r *recorder) IsBoolFlag() bool { return r.option.setting.isBool() }
