package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/worker"
	"github.com/ctworker/ctworker/sinks/progress"
)

const runDescription = `Run COMMAND once for each task, --num-simultaneous-tasks at a time.

COMMAND finds its task as one JSON object, {"task_id": …, "data": …}, on its
standard input; in ARGS, {task_id} and {data.KEY} are replaced by the task's own
values. No shell is involved. Exit code 0 completes the task, 75 completes it and
asks for a retry, anything else is told as task_exited. What COMMAND writes to its
standard output is the task's result; what it writes to its standard error goes to
the log.

Each setting is taken from the command line, else from its environment variable,
else from the config file, else it has its default.

Examples:
   ctworker run --task-file tasks.json -j auto -- ./process {task_id}
   zcat tasks.jsonl.gz | ctworker run --task-file - -- python3 process.py
   ctworker run --config worker.yaml --print-config`

// normalized prepares the arguments of "run" for the flag parser, and returns
// what is wrong with them.
func normalized(args []string) ([]string, config.Faults) {
	if len(args) < 2 || args[1] != "run" {
		return args, nil
	}
	fixed, faults := config.Normalize(args[2:])
	return append(append([]string(nil), args[:2]...), fixed...), faults
}

func (p program) runCommand(faults config.Faults, code *int) *cli.Command {
	var line config.Line
	return &cli.Command{
		Name:               "run",
		Usage:              "run a command for each task of a task file",
		UsageText:          "ctworker run [flags] -- COMMAND [ARGS…]",
		Description:        runDescription,
		Flags:              config.Flags(&line),
		HideHelpCommand:    true, // or a COMMAND named help would show this help
		CustomHelpTemplate: config.HelpTemplate,
		OnUsageError:       func(_ *cli.Context, err error, _ bool) error { return err },
		Action: func(c *cli.Context) error {
			cfg, err := config.Load(config.Sources{Line: line, Faults: faults, LookupEnv: os.LookupEnv})
			argv := c.Args().Slice()
			if len(argv) == 0 && (err != nil || !cfg.PrintConfig) {
				err = errors.Join(err, errors.New("no command: give it after the flags, as in: ctworker run --task-file tasks.json -- ./process"))
			}
			if err != nil {
				*code = p.usage(err)
				return nil
			}
			if cfg.PrintConfig {
				return cfg.Print(p.stdout)
			}
			*code = p.run(cfg, argv)
			return nil
		},
	}
}

// progressInterval is how often progress is logged where there is no terminal.
const progressInterval = 10 * time.Second

// run runs the tasks and returns the exit code.
func (p program) run(cfg *config.Config, argv []string) int {
	terminal := term.IsTerminal(int(p.stderr.Fd()))
	out := &switchWriter{w: p.stderr}
	log := newLogger(out, terminal, cfg.Verbose)
	if terminal {
		p.hint(log, cfg)
	}
	warnWithoutEffect(log, cfg)

	var guard []string
	if self, err := os.Executable(); err == nil {
		guard = []string{self}
	}
	ctx, signals := watchSignals(log, cfg.ShutdownGracePeriod)
	w, err := worker.Start(ctx, worker.Options{
		Config: cfg, Argv: argv, Stdin: p.stdin, Guard: guard, OwnsProcess: true, Log: log,
	})
	if err != nil {
		signals.end()
		if asConfig := (*worker.ConfigError)(nil); errors.As(err, &asConfig) {
			return p.usage(err)
		}
		logError(log, err)
		return exitFatal
	}
	signals.worker.Store(w)
	stopProgress := p.showProgress(w, out, log, terminal)
	summary, err := w.Wait()
	stopProgress()
	sig := signals.end()
	if terminal {
		_ = summary.Print(p.stderr)
	} else {
		summary.Log(log)
	}
	switch {
	case err != nil:
		logError(log, err)
		return exitFatal
	case sig != 0 && !summary.CameToItsEnd():
		return 128 + int(sig)
	case cfg.Strict && (summary.Failed() > 0 || !summary.CameToItsEnd()):
		return exitStrict
	}
	return exitOK
}

// showProgress shows how far the run has come until what it returns is called.
func (p program) showProgress(w *worker.Worker, out *switchWriter, log zerolog.Logger, terminal bool) (stop func()) {
	if !terminal {
		return progress.StartLines(log, progressInterval, w.Status).Stop
	}
	var bar *progress.Bar
	out.exchange(func() io.Writer {
		bar = progress.StartBar(p.stderr, w.Status)
		return bar // the log goes above the bar
	})
	return func() {
		out.exchange(func() io.Writer {
			bar.Stop()
			return p.stderr
		})
	}
}

// hint says how to use the whole machine to somebody who uses one CPU of it.
func (p program) hint(log zerolog.Logger, cfg *config.Config) {
	cpus := config.UsableCPUs()
	if cfg.Origin("num-simultaneous-tasks").Place == config.Default && cfg.NumSimultaneousTasks < cpus {
		log.Info().Msgf("running %d task at a time; -j auto would use all %d CPUs of this machine", cfg.NumSimultaneousTasks, cpus)
	}
}

// warnWithoutEffect names the settings that were given and do nothing in this
// version, so that nobody relies on them.
func warnWithoutEffect(log zerolog.Logger, cfg *config.Config) {
	var given []string
	for _, name := range []string{
		"is-spot", "simulate-spot-termination-after", "simulate-spot-termination-delay",
		"exactly-once-queue", "max-tasks-per-process", "idle-timeout", "keepalive-interval",
	} {
		if cfg.Origin(name).Place != config.Default {
			given = append(given, "--"+name)
		}
	}
	if len(given) > 0 {
		log.Warn().Strs("settings", given).Msg("these settings have no effect in this version for tasks from a file")
	}
}

// newLogger returns a logger for people on a terminal, and for programs
// elsewhere.
func newLogger(w io.Writer, terminal, verbose bool) zerolog.Logger {
	level := zerolog.InfoLevel
	if verbose {
		level = zerolog.DebugLevel
	}
	if terminal {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// logError logs each line of an error, as several may have been joined.
func logError(log zerolog.Logger, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		log.Error().Msg(fmt.Sprintf("the run failed: %s", line))
	}
}
