package config

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Sources are the inputs of Load. If Sources is the zero value, Load uses only defaults.
type Sources struct {
	// Line contains the flags of the command line, in the given order.
	Line Flags
	// Faults are the errors that Normalize returned. Load reports them first.
	Faults Errors
	// LookupEnv looks up an environment variable, as os.LookupEnv does. Defaults to nil, which
	// means that no variable is set. Load ignores variables whose value is empty or None (Python's
	// missing value), and variables that belong to the run that started this task; see OuterVar.
	LookupEnv func(string) (string, bool)
	// ReadFile reads the config file. Defaults to a function that reads files of at most 1 MiB.
	ReadFile func(string) ([]byte, error)
	// TaskSource is true if the program passes its own task source or task file. Load then ignores
	// the settings --task-file and --csv.
	TaskSource bool
	// Queue is true for a command that manages the queues of a job. The settings of the queues are
	// then required even if a task file is given.
	Queue bool
	// SDK is the SDK that the program uses. It determines the valid values and the default of
	// --isolation.
	SDK SDK
	// CPUs returns the value of --num-simultaneous-tasks auto. Defaults to UsableCPUs.
	CPUs func() int
}

// Load returns the settings. If any settings are wrong, it returns Errors with all faults, in this
// order: the faults of Normalize; the faults of flags, variables and the config file; the faults of
// settings that are missing or contradict each other. Load also checks values that an origin with
// higher precedence overrides.
func Load(src Sources) (*Config, error) {
	if src.Queue {
		src.SDK = anySDK
	}
	table := settingsOf(src.SDK)
	l := loader{
		src:           src,
		cfg:           &Config{origins: make(map[string]Origin), outer: outerOf(src.LookupEnv)},
		table:         table,
		known:         aliasesOf(table),
		explicitlySet: make(map[string]bool),
	}
	for _, f := range src.Faults {
		l.explicitlySet[f.about] = true
	}
	l.defaults()
	// Apply the origins in the order of increasing precedence: each origin overrides the previous ones.
	file := l.file()
	environment := l.environment()
	line := l.line()
	l.derive()

	faults := slices.Concat(src.Faults, line, environment, file, l.rules())
	if len(faults) > 0 {
		return nil, faults
	}
	return l.cfg, nil
}

// loader is the state of one Load.
type loader struct {
	src           Sources
	cfg           *Config
	table         []setting
	known         map[string]alias
	explicitlySet map[string]bool // the settings that were given, even with an invalid value
}

func (l *loader) defaults() {
	for _, s := range l.table {
		l.cfg.origins[s.name] = Origin{Place: Default}
		if s.def == "" {
			continue
		}
		if err := s.at(l.cfg).set(s.def); err != nil {
			panic("config: default of " + s.name + ": " + err.Error())
		}
	}
}

// apply sets the value of a setting. shown is the setting as the user wrote it.
func (l *loader) apply(spelled alias, raw, shown string, from Origin) Errors {
	s := spelled.setting
	l.explicitlySet[s.name] = true
	given := raw
	if spelled.negated {
		given = opposite(raw)
	}
	if err := s.at(l.cfg).set(given); err != nil {
		return Errors{{Setting: shown, Value: raw, Reason: err.Error(), about: s.name}}
	}
	l.cfg.origins[s.name] = from
	return nil
}

// opposite returns the text of the opposite boolean, or raw if raw is not a boolean.
func opposite(raw string) string {
	b, err := boolean().parse(raw)
	if err != nil {
		return raw
	}
	return boolean().format(!b)
}

func (l *loader) line() (faults Errors) {
	lists := map[string]string{} // values of the settings that may be given several times
	for _, g := range l.src.Line {
		spelled, ok := l.known[g.Name]
		if !ok {
			f := unknownFlag(flagged(g.Name), g.Name, g.Value, nil)
			l.explicitlySet[f.about] = true
			faults = append(faults, f)
			continue
		}
		if spelled.setting.list {
			if earlier := lists[spelled.setting.name]; earlier != "" && g.Value != "" {
				g.Value = earlier + "\n" + g.Value
			}
			lists[spelled.setting.name] = g.Value
		}
		from := Origin{Place: CommandLine}
		if g.Name != spelled.setting.name {
			from.Name = flagged(g.Name)
		}
		faults = append(faults, l.apply(spelled, g.Value, flagged(g.Name), from)...)
	}
	return faults
}

func (l *loader) environment() (faults Errors) {
	if l.src.LookupEnv == nil {
		return nil
	}
	for _, r := range removals() {
		if raw, ok := l.variable(setting{env: r.env}); ok {
			faults = append(faults, Error{Setting: r.env, Value: raw, Reason: "unknown variable; use " + r.variable(), about: r.setting})
		}
	}
	for _, s := range l.table {
		if raw, ok := l.variable(s); ok {
			from := Origin{Place: Environment, Name: s.env}
			faults = append(faults, l.apply(alias{setting: s}, raw, s.env, from)...)
		}
	}
	return faults
}

// none is the text of Python's None. The pool manager of the specification exports this text for
// settings that its user has not set.
const none = "None"

// variable returns the value of a setting's environment variable, and whether the variable counts
// as set.
func (l *loader) variable(s setting) (raw string, ok bool) {
	if s.env == "" || l.src.LookupEnv == nil {
		return "", false
	}
	raw, ok = l.src.LookupEnv(s.env)
	if !ok || raw == "" || raw == none || l.cfg.outer.has(s.env, raw) {
		return "", false
	}
	return raw, true
}

// file applies the config file, if the command line or the environment names one.
func (l *loader) file() (faults Errors) {
	shown := flagged(configFile)
	name, ok := l.variable(l.known[configFile].setting)
	if ok {
		shown = l.known[configFile].setting.env
	}
	for _, g := range l.src.Line {
		if g.Name == configFile {
			name, shown = g.Value, flagged(configFile)
		}
	}
	if name == "" || strings.ContainsRune(name, 0) { // the method line reports this fault
		return nil
	}
	read := l.src.ReadFile
	if read == nil {
		read = readFile
	}
	content, err := read(name)
	if err != nil {
		return Errors{{Setting: shown, Value: name, Reason: cannotRead(err), about: configFile}}
	}
	for _, e := range parseFile(name, content) {
		if e.fault != nil {
			l.explicitlySet[e.fault.about] = true
			faults = append(faults, *e.fault)
			continue
		}
		from := Origin{Place: File, Name: name, Line: e.line}
		faults = append(faults, l.apply(l.known[e.setting.name], e.value, e.shown, from)...)
	}
	return faults
}

// maxFile is the maximum size of a config file in bytes. It is far more than any config file needs.
// The limit exists because a file such as /dev/zero does not end.
const maxFile = 1 << 20

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("the file is larger than %d bytes, so it cannot be a config file", maxFile)
	}
	return content, err
}
