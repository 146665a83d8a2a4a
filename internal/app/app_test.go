package app

import (
	"errors"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	code := Usage(&b, "mine", "mine --help", errors.Join(errors.New("first"), errors.New("second\n")))
	if want := "mine: first\nmine: second\nmine: nothing was run; see \"mine --help\"\n"; code != ExitUsage || b.String() != want {
		t.Errorf("code %d, %q, want %q", code, b.String(), want)
	}
}

type noRunner struct{}

func (noRunner) Run(pipeline.Phases, int, *pipeline.Delivery) (pipeline.Outcome, error) {
	return pipeline.Outcome{}, nil
}

var _ stages.Runner = noRunner{}

// A warning names exactly those explicit settings that have no effect for this kind of run.
func TestSettingsWithoutEffect(t *testing.T) {
	t.Parallel()
	pool, host, inProcess := Options{TaskProtocol: true}, Options{ForkServer: &procexec.ForkServer{}}, Options{Runner: noRunner{}}
	for _, tc := range []struct {
		flag  string
		opts  Options
		warns bool
	}{
		{"max-tasks-per-process", Options{}, true},
		{"max-tasks-per-process", pool, false},
		{"max-tasks-per-process", host, false},
		{"isolation", Options{}, false},
		{"isolation", pool, false},
		{"isolation", host, false},
		{"isolation", inProcess, true},
		{"max-tasks-per-process", inProcess, true},
		{"start-timeout", Options{}, true},
		{"start-timeout", pool, false},
		{"max-memory-allowed-per-task", Options{}, false},
		{"max-memory-allowed-per-task", inProcess, true},
		{"max-runtime", Options{}, false},
	} {
		value := "1"
		if tc.flag == "isolation" {
			value = config.IsolationReuse
		}
		sdk := config.NoSDK
		if tc.opts.TaskProtocol {
			sdk = config.Go
		}
		cfg, err := config.Load(config.Sources{TaskSource: true, SDK: sdk, Line: config.Flags{{Name: tc.flag, Value: value}}})
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		warnWithoutEffect(zerolog.New(&log), cfg, tc.opts)
		if warns := strings.Contains(log.String(), "--"+tc.flag); warns != tc.warns {
			t.Errorf("--%s with %+v: warning %v, want %v: %s", tc.flag, tc.opts, warns, tc.warns, log.String())
		}
	}
}

// If tasks print to the terminal themselves, no bar is drawn on this terminal.
func TestBarNeedsTheTerminalForItself(t *testing.T) {
	t.Parallel()
	if (Options{Runner: noRunner{}}).hasTerminal() {
		t.Error("a function in this process can print over the bar")
	}
	for _, opts := range []Options{{}, {TaskProtocol: true}, {ForkServer: &procexec.ForkServer{}}} {
		if !opts.hasTerminal() {
			t.Errorf("%+v draws no bar, although its output is captured", opts)
		}
	}
}
