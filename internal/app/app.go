package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/internal/profile"
	"github.com/ctworker/ctworker/internal/redact"
	"github.com/ctworker/ctworker/internal/worker"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/spotwatch"
	"github.com/ctworker/ctworker/stages"
)

// The exit codes. A run that was interrupted by a signal exits with 128 plus the signal's number
// instead: 130 for SIGINT, 143 for SIGTERM.
const (
	ExitOK     = 0 // the run finished, whatever the outcomes of its tasks
	ExitFatal  = 1 // a fatal error, or broken input
	ExitUsage  = 2 // an invalid command line or configuration
	ExitStrict = 3 // with --strict: not every task completed
	// ExitFailures means that too many tasks failed, according to --max-failures or
	// --max-consecutive-failures.
	ExitFailures = 4
)

// Options configure a run. The fields from Argv to Source have the same meaning as in
// worker.Options. They select the tasks, and the command, function or pool that runs the tasks.
type Options struct {
	Argv         []string
	TaskProtocol bool
	ForkServer   *procexec.ForkServer
	Runner       stages.Runner
	Source       pipeline.Source
	// Recount, InputFile, OpenSource, OpenSinks, Stages and OnTermination are as in worker.Options.
	Recount       iter.Seq2[pipeline.Task, error]
	InputFile     string
	OpenSource    func(context.Context) (pipeline.Source, error)
	OpenSinks     []func(context.Context) (pipeline.Sink, error)
	Stages        []worker.Stage
	OnTermination func()
	// OwnsProcess states that no other code in this process starts child processes, and that no
	// thread of this process ends.
	OwnsProcess bool

	// Command, FlagsAt and FlagsEnd are as in worker.Options.
	Command           []string
	FlagsAt, FlagsEnd int

	Stdin  io.Reader
	Stderr *os.File
	// Version is the version of this module.
	Version string
	// Name prefixes usage errors. Help is the command that prints the usage.
	Name, Help string
}

// gcPercent is twice the default of GOGC. Because the live heap is only a few megabytes, the higher
// value costs only a few megabytes of memory. It saves a sixth of the CPU time of short tasks.
const gcPercent = 200

// Run runs the tasks and returns the exit code. A first signal shuts the run down, and a second one
// kills the running tasks.
func Run(cfg *config.Config, opts Options) int {
	d := newDisplay(opts.Stderr, cfg)
	defer d.close()
	if cfg.DryRun {
		return d.dryRun(cfg, opts)
	}
	ctx, signals := watchSignals(d, cfg.ShutdownGracePeriod)
	summary, err := d.run(ctx, cfg, opts, signals.started, func() {
		if signals.isSecond() {
			d.hurry()
		}
	})
	sig := signals.end()
	if summary == nil {
		return d.startFailed(opts, err, sig)
	}
	if d.console {
		var text strings.Builder
		_ = summary.Print(&text) // a Builder does not fail
		d.print(text.String())
	} else {
		summary.Log(d.kept())
	}
	if err == nil && sig == 0 {
		d.warnNothingRun(cfg, opts, *summary)
	}
	if err != nil {
		d.logError("the run failed: ", err)
		return ExitFatal
	}
	return exitCode(cfg, summary, sig)
}

// exitCode returns the exit code of a run that has not failed. sig is the signal that stopped the run, or 0.
func exitCode(cfg *config.Config, summary *worker.Summary, sig syscall.Signal) int {
	switch {
	case sig != 0 && (!summary.Finished() || summary.RetriesLeft()):
		return 128 + int(sig)
	case summary.FailureLimit != nil:
		return ExitFailures
	case cfg.Strict && (summary.NotCompleted()+summary.EarlierFailed > 0 || summary.Malformed > 0 || !summary.Finished()):
		return ExitStrict
	}
	return ExitOK
}

// startFailed reports why no task was run, and returns the exit code.
func (d *display) startFailed(opts Options, err error, sig syscall.Signal) int {
	asConfig := (*worker.ConfigError)(nil)
	switch {
	case sig != 0:
		d.logError("", err)
		return 128 + int(sig)
	case errors.As(err, &asConfig):
		return d.usage(opts.Name, opts.Help, err)
	}
	d.logError("the run failed: ", err)
	return ExitFatal
}

// Execute runs the tasks for a program that continues after the run. It handles no signals: when ctx
// is done, the run is shut down. It writes the log and the progress to Options.Stderr, and returns
// the summary. If no task was run because of an error, the summary is nil.
func Execute(ctx context.Context, cfg *config.Config, opts Options) (*worker.Summary, error) {
	d := newDisplay(opts.Stderr, cfg)
	defer d.close()
	return d.run(ctx, cfg, opts, func(*worker.Worker) {}, func() {})
}

// run runs the tasks. It calls started when the run has started, and ended when the run has ended.
// If the start fails, the summary is nil.
func (d *display) run(ctx context.Context, cfg *config.Config, opts Options, started func(*worker.Worker), ended func()) (*worker.Summary, error) {
	if d.terminal {
		suggestParallelism(d.log, cfg)
	}
	warnAboutPlaceholder(d.log, opts)
	warnWithoutEffect(d.log, cfg, opts)

	recording, err := profile.Start(profile.Options{CPU: cfg.CPUProfile, Memory: cfg.MemProfile, Trace: cfg.Trace, Address: cfg.DebugAddress})
	if err != nil {
		return nil, &worker.ConfigError{Err: err}
	}
	defer func() {
		if err := recording.Stop(); err != nil { // does not change the outcome of the run
			d.log.Error().Err(err).Msg("could not write profile")
		}
	}()
	if address := recording.Address(); address != "" {
		d.log.Info().Str("url", "http://"+address+"/debug/pprof/").Msg("serving profiles of ctworker")
	}
	if opts.OwnsProcess && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	served, err := d.listen(cfg)
	if err != nil {
		return nil, &worker.ConfigError{Err: err}
	}
	w, err := start(ctx, d, cfg, opts)
	if err != nil {
		return nil, errors.Join(err, served.close())
	}
	served.serve(w)
	started(w)
	stopProgress := d.showProgress(w.Status, opts.hasTerminal())
	summary, err := w.Wait()
	_ = served.close() // the run has ended; the page has its last state
	ended()
	stopProgress()
	return &summary, err
}

// dryRun prints to standard output how tasks would run, and returns the exit code.
func (d *display) dryRun(cfg *config.Config, opts Options) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	workerOptions := workerOptions(d, cfg, opts)
	workerOptions.Printable = printable
	err := worker.DryRun(ctx, workerOptions, os.Stdout)
	switch _, asConfig := errors.AsType[*worker.ConfigError](err); {
	case err == nil:
		return ExitOK
	case asConfig:
		return d.usage(opts.Name, opts.Help, err)
	}
	d.logError("dry run: ", err)
	return ExitFatal
}

// start opens the resources of the run and starts the run.
func start(ctx context.Context, d *display, cfg *config.Config, opts Options) (*worker.Worker, error) {
	cloudqueue.FindInstance(ctx, cfg)
	return worker.Start(ctx, workerOptions(d, cfg, opts))
}

func workerOptions(d *display, cfg *config.Config, opts Options) worker.Options {
	var guard []string
	if self, err := os.Executable(); err == nil {
		guard = []string{self}
	}
	return worker.Options{
		Config: cfg, Argv: opts.Argv, TaskProtocol: opts.TaskProtocol, ForkServer: opts.ForkServer, Runner: opts.Runner, Source: opts.Source, Recount: opts.Recount, InputFile: opts.InputFile, OpenSource: opts.OpenSource, OpenSinks: opts.OpenSinks, Stages: opts.Stages, OnTermination: opts.OnTermination, Command: opts.Command, FlagsAt: opts.FlagsAt, FlagsEnd: opts.FlagsEnd,
		Stdin: opts.Stdin, Guard: guard, OwnsProcess: opts.OwnsProcess, Log: d.log,
		LogAllFailures: !d.console, Status: cfg.StatusAddress != "", Version: opts.Version, Program: opts.programName(),
		Terminal: worker.Terminal{Stdout: term.IsTerminal(int(os.Stdout.Fd())), Stderr: d.terminal},
	}
}

// hasTerminal reports whether ctworker alone writes to the terminal. The output of processes is
// captured, but functions in this process write to the terminal, and would damage the progress bar.
func (o Options) hasTerminal() bool { return o.Runner == nil }

// hasSource reports whether the program provides the tasks.
func (o Options) hasSource() bool {
	return o.Source != nil || o.InputFile != "" || o.OpenSource != nil || o.ForkServer != nil && o.ForkServer.Hello.Source != nil
}

// usesPool reports whether tasks run in processes that speak the task protocol.
func (o Options) usesPool() bool { return o.TaskProtocol || o.ForkServer != nil }

// Usage writes the faults of an invalid command line or configuration to w, one line per fault, and
// returns ExitUsage. help is the command that prints the usage.
func Usage(w io.Writer, name, help string, err error) int {
	_, _ = io.WriteString(w, usageText(name, help, err))
	return ExitUsage
}

func usageText(name, help string, err error) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.TrimRight(err.Error(), "\n"), "\n") {
		_, _ = fmt.Fprintf(&b, "%s: %s\n", name, line)
	}
	_, _ = fmt.Fprintf(&b, "%s: nothing was run; see %q\n", name, help)
	return b.String()
}

// suggestParallelism logs how to use all CPUs if -j was not set and its default uses fewer.
func suggestParallelism(log zerolog.Logger, cfg *config.Config) {
	cpus := config.UsableCPUs()
	if cfg.Origin("num-simultaneous-tasks").Place == config.Default && cfg.NumSimultaneousTasks < cpus {
		log.Info().Int("slots", cfg.NumSimultaneousTasks).Int("cpus", cpus).Msg("running one task at a time; use -j auto to run one task per CPU")
	}
}

// warnAboutPlaceholder warns about an argument that is probably a misspelled placeholder.
func warnAboutPlaceholder(log zerolog.Logger, opts Options) {
	if len(opts.Argv) < 2 || opts.TaskProtocol {
		return
	}
	if text, meant := procexec.SuspectPlaceholder(opts.Argv[1:]); text != "" {
		log.Warn().Str("argument", text).Str("placeholder", meant).
			Msg("an argument contains text that looks like a misspelled placeholder; it is passed on unchanged")
	}
}

// warnNothingRun says why a run without an error ran no task.
func (d *display) warnNothingRun(cfg *config.Config, opts Options, s worker.Summary) {
	if s.Reported() > 0 || s.Interrupted > 0 || s.LeaseLost > 0 || s.Malformed > 0 || s.Queue != "" {
		return
	}
	log := d.log.Warn()
	switch {
	case s.Earlier > 0:
		d.log.Info().Int64("done", s.Earlier).Msg("no task was run because all tasks are done")
	case cfg.MaxNumTasks != nil && *cfg.MaxNumTasks == 0:
		log.Msg("no task was run because --max-num-tasks is 0")
	case cfg.TasksToSkip > 0:
		log.Int64("tasks_to_skip", cfg.TasksToSkip).Msg("no task was run because --tasks-to-skip skips all tasks")
	case opts.InputFile != "":
		log.Str("file", opts.InputFile).Msg("no task was run because the file after :::: has no lines")
	case opts.hasSource():
		log.Msg("no task was run because the program's task source has no tasks")
	default:
		log.Str("task_file", redact.URL(cfg.TaskPath())).Msg("no task was run because the task file has no tasks")
	}
}

// warnWithoutEffect warns about settings that have no effect for this kind of run.
func warnWithoutEffect(log zerolog.Logger, cfg *config.Config, opts Options) {
	if cfg.IsSpot && cfg.Provider == "" && cfg.SimulateSpotTerminationAfter == nil && spotwatch.Detect(false) == nil {
		log.Warn().Msg("--is-spot has no effect without --provider; add --provider to watch for termination notices")
	}
	if cfg.SimulateSpotTerminationDelay != nil && cfg.SimulateSpotTerminationAfter == nil {
		log.Warn().Msg("--simulate-spot-termination-delay has no effect without --simulate-spot-termination-after")
	}
	if local := cfg.TaskPath() != "" || opts.hasSource() && opts.OpenSource == nil; local {
		without := []string{"idle-timeout", "lease", "retry-delay"}
		if !cfg.EventLogToQueue {
			without = append(without, "exactly-once-queue", "keepalive-interval", "region", "unreachable-timeout")
		}
		if given := explicitlySet(cfg, without); len(given) > 0 {
			log.Warn().Strs("settings", given).Msg("settings ignored because the tasks do not come from a queue")
		}
	}
	if cfg.Retries == 0 && cfg.Origin("retry-backoff").Place != config.Default {
		log.Warn().Msg("--retry-backoff has no effect without --retries")
	}
	warnAboutIdle(log, cfg, opts)
}

// warnAboutIdle warns about settings that have no effect because of how tasks run.
func warnAboutIdle(log zerolog.Logger, cfg *config.Config, opts Options) {
	var idle []string
	why := ""
	switch {
	case opts.Runner != nil:
		idle, why = []string{"isolation", "max-tasks-per-process", "start-timeout", "max-memory-allowed-per-task"}, "settings have no effect, because tasks run in this process"
	case !opts.usesPool():
		idle, why = []string{"max-tasks-per-process", "start-timeout"}, "settings have no effect without --isolation reuse"
	case opts.TaskProtocol && cfg.Isolation == config.IsolationTask:
		idle, why = []string{"max-tasks-per-process"}, "settings have no effect with --isolation task"
	}
	if given := explicitlySet(cfg, idle); len(given) > 0 {
		log.Warn().Strs("settings", given).Msg(why)
	}
}

// explicitlySet returns the flags of those settings in names that were set explicitly.
func explicitlySet(cfg *config.Config, names []string) (given []string) {
	for _, name := range names {
		if cfg.Origin(name).Place != config.Default {
			given = append(given, "--"+name)
		}
	}
	return given
}
