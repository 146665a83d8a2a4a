package config_test

import (
	"errors"
	"flag"
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/config"
)

// parse parses the arguments of a command in the same way as the command.
func parse(t *testing.T, args ...string) (line config.Flags, faults config.Errors, rest []string) {
	t.Helper()
	fixed, faults := config.Normalize(args)
	set := flag.NewFlagSet("run", flag.ContinueOnError)
	for _, f := range config.FlagsOf(&line) {
		if err := f.Apply(set); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Parse(fixed); err != nil {
		t.Fatalf("arguments %q, normalized to %q: %v", args, fixed, err)
	}
	return line, faults, set.Args()
}

// environ is an environment: a map from variables to their values.
type environ map[string]string

func (e environ) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

// given contains the settings of a test, by origin.
type given struct {
	args   []string
	env    environ
	file   string // content of worker.yaml; if it is not empty, --config is added
	source bool   // the program passes a task source

	unnamed bool // --config is not added
}

func (g given) load(t *testing.T) (*config.Config, error) {
	t.Helper()
	args := g.args
	if g.file != "" && !g.unnamed {
		args = append([]string{"--config", "worker.yaml"}, args...)
	}
	line, faults, _ := parse(t, args...)
	return config.Load(config.Sources{
		Line:       line,
		Faults:     faults,
		LookupEnv:  g.env.lookup,
		ReadFile:   g.read,
		TaskSource: g.source,
		CPUs:       func() int { return 12 },
	})
}

func (g given) read(name string) ([]byte, error) {
	if name != "worker.yaml" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return []byte(g.file), nil
}

// must returns the settings of a test that has no faults, and fails the test if there are any.
func (g given) must(t *testing.T) *config.Config {
	t.Helper()
	c, err := g.load(t)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

// faults returns the lines of the faults, and fails the test if there are none.
func (g given) faults(t *testing.T) []string {
	t.Helper()
	c, err := g.load(t)
	faults, ok := errors.AsType[config.Errors](err)
	if !ok || len(faults) == 0 {
		t.Fatalf("Load returned the error %v, want Faults", err)
	}
	if c != nil {
		t.Errorf("Load returned a Config with its faults")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(faults) {
		t.Errorf("%d faults on %d lines:\n%v", len(faults), len(lines), err)
	}
	return lines
}

// fields returns the exported fields of c by name. It replaces a pointer by the value to which the
// pointer points, or by nil.
func fields(c *config.Config) map[string]any {
	all := make(map[string]any)
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		name, field := v.Type().Field(i), v.Field(i)
		switch {
		case !name.IsExported():
		case field.Kind() != reflect.Pointer:
			all[name.Name] = field.Interface()
		case field.IsNil():
			all[name.Name] = nil
		default:
			all[name.Name] = field.Elem().Interface()
		}
	}
	return all
}
