package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/outputlog"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/internal/progress"
	"github.com/ctworker/ctworker/internal/startup"
	"github.com/ctworker/ctworker/internal/status"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/taskfile"
	"github.com/ctworker/ctworker/stages"
)

// Options configures a Worker.
type Options struct {
	Config *config.Config
	// Argv is the command that runs tasks.
	Argv []string
	// TaskProtocol reports whether Argv supports the task protocol. If it does, each process
	// receives one task after another, unless the isolation is "task". If it does not, Argv is
	// started once per task.
	TaskProtocol bool
	// ForkServer forks a process for each task, or for each slot. Start takes ownership of the fork
	// server. ForkServer replaces Argv.
	ForkServer *procexec.ForkServer
	// Runner executes tasks in this process. It replaces Argv and ForkServer.
	Runner stages.Runner
	// Source provides the tasks. Defaults to the source of ForkServer, if it has one, or
	// else the task file or the task queue.
	Source pipeline.Source
	// Recount iterates over the tasks of Source a second time, to count them before the run starts. Nil
	// if that is not possible.
	Recount iter.Seq2[pipeline.Task, error]
	// InputFile is the path of a file, each line of which is the input of a task. It replaces Source.
	InputFile string
	// OpenSource opens the source, which may have leases and may be shared with other workers. It
	// replaces Source.
	OpenSource func(context.Context) (pipeline.Source, error)
	// Printable escapes control characters in a text for a terminal. Only DryRun uses it. May be nil.
	Printable func(string) string
	// OpenSinks open sinks that receive the events in addition to the configured ones.
	OpenSinks []func(context.Context) (pipeline.Sink, error)
	// Command is the command line of the program, from which the suggested commands in the summary
	// are made. FlagsAt is the index in Command at which flags of the worker may be inserted. FlagsEnd
	// is the index after the last flag; if it is not greater than FlagsAt, all flags are before FlagsAt.
	// Leave Command nil if it is not known.
	Command           []string
	FlagsAt, FlagsEnd int
	// Stages are added before the execution, in this order.
	Stages []Stage
	// Stdin is read for the task file "-". Defaults to os.Stdin.
	Stdin io.Reader
	// OnTermination is called on a termination notice, to notify the tasks of Runner. Tasks in
	// child processes are notified in a different way. May be nil.
	OnTermination func()
	// Guard is a command that calls procexec.RunGuard, or nil.
	Guard []string
	// OwnsProcess states that no other code in this process starts child processes, and that no
	// thread of this process ends.
	OwnsProcess bool
	// LogAllFailures makes the worker log each failed task as a warning, and not only the first ones.
	LogAllFailures bool
	// Status makes the worker record what Worker.Snapshot returns. Version and Program appear there. The
	// keep_alive events also contain Version.
	Status           bool
	Version, Program string
	// Terminal states which streams of this program are the terminal that shows the log.
	Terminal Terminal
	Log      zerolog.Logger
}

// Stage is a stage of the program.
type Stage struct {
	Name  string
	Stage pipeline.Stage[*pipeline.Delivery, *pipeline.Delivery]
}

// ConfigError is an invalid setting or argument. No task has been run.
type ConfigError struct{ Err error }

// Error returns the reason.
func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *ConfigError) Unwrap() error { return e.Err }

// Worker is a run and its resources. Create it with Start and call Wait.
type Worker struct {
	opts     Options
	hostname string
	known    instance
	began    time.Time

	run         *pipeline.Run
	source      pipeline.Source
	file        *taskfile.Source // the source if it is a file, otherwise nil
	path        string           // of file
	counted     taskCounts       // numbers of tasks in the source if they were counted, otherwise 0
	resumed     *resumedSource   // source if the run continues an earlier one, otherwise nil
	runID       string
	sink        pipeline.Sink
	outputLog   *outputlog.Log   // nil if there is none
	recorder    *status.Recorder // nil without Options.Status
	meterMu     sync.Mutex
	meter       *progress.Meter // of Snapshot; meterMu guards it
	memory      taskMemory
	running     func(context.Context) ([]procexec.RunningTask, error)
	queues      queues
	launcher    *procexec.Launcher
	execute     pipeline.Stage[*pipeline.Delivery, pipeline.Result]
	shutdown    *procexec.Notification
	termination *procexec.Notification
	stats       stages.Stats
	outcomes    outcomes
	retrying    *retryingSource               // nil without --retries
	stopping    atomic.Pointer[stages.Counts] // counts at the start of the shutdown; nil before it
	closers     []func() error                // close functions of the open resources, in the order of opening
	detach      func() bool                   // removes the AfterFunc on the context of Start
}

// Start opens the resources of the run and starts it. When ctx is done, the run is stopped as by
// pipeline.Run.Stop. If a setting is invalid, Start returns a *ConfigError.
func Start(ctx context.Context, opts Options) (*Worker, error) {
	w := &Worker{opts: opts, began: time.Now(), runID: newRunID()}
	if opts.Status {
		w.recorder, w.meter = status.NewRecorder(w.began), progress.NewMeter(time.Now)
	}
	if err := w.open(ctx); err != nil {
		return nil, errors.Join(err, w.close())
	}
	// The run observes ctx only until w.run.Wait returns. Resources are closed after that, and a
	// signal must also shorten their closing.
	w.detach = context.AfterFunc(ctx, func() { w.run.Stop(context.Cause(ctx)) })
	w.keepAlive()
	w.assemble()
	w.watchNotices()
	w.recordHistory()
	return w, nil
}

// assemble builds the pipeline.
func (w *Worker) assemble() {
	cfg := w.opts.Config

	tasks := pipeline.From(w.run, "source", w.source)
	limit := limitOf(cfg)
	if w.retrying != nil { // retrying limits the tasks itself, because a retry must not count as a task
		limit = -1
	}
	if w.skip() > 0 || limit >= 0 {
		tasks = pipeline.Via(tasks, "skip/limit", stages.SkipLimit(w.skip(), limit))
	}
	if w.hasLeases() {
		tasks = pipeline.Via(tasks, "extend", stages.Extend(w.run, stages.ExtendOptions{
			LeaseDuration: cfg.Lease, MaxHold: w.maxHold(), Stats: &w.stats, Log: w.opts.Log.With().Str("component", "extend").Logger(),
		}))
	}
	for _, own := range w.opts.Stages {
		tasks = pipeline.Via(tasks, own.Name, own.Stage)
	}
	results := pipeline.Via(tasks, "execute", w.execute)
	classify := stages.Classify(stages.RetryOptions{
		OnExit: cfg.RetryOnExit, OnException: cfg.RetryOnException, OnTimeout: cfg.RetryOnTimeout,
		OnExitCode: onExitCode(cfg), MaxAttempts: cfg.MaxAttempts,
	})
	decisions := pipeline.Map(results, "classify", func(r pipeline.Result) pipeline.Decision {
		d := classify(r)
		if w.retrying != nil {
			w.retrying.decide(&d)
		}
		w.outcomes.observe(&d)
		if w.recorder != nil {
			w.record(&d)
		}
		return d
	})
	pipeline.ToBatches(decisions, "settle", stages.Settle(w.sink, stages.SettleOptions{
		Hostname: w.hostname, RunID: w.runID, RetryDelay: cfg.RetryDelay, MaxConcurrentWrites: w.maxConcurrentWrites(), Stats: &w.stats,
		Log: w.opts.Log.With().Str("component", "settle").Logger(),
	}))
}

// skip returns the number of tasks that the stage SkipLimit skips. It is 0 for a task file, because
// the source skips tasks itself without creating deliveries.
func (w *Worker) skip() int64 {
	if w.file != nil || w.resumed != nil {
		return 0
	}
	return w.opts.Config.TasksToSkip
}

// limitOf returns --max-num-tasks as the limit of stage SkipLimit.
func limitOf(cfg *config.Config) int64 {
	if cfg.MaxNumTasks == nil {
		return -1
	}
	return *cfg.MaxNumTasks
}

// filePrefetch is the prefetch of a local file. It is not 0, because no other worker waits for the
// prefetched tasks. It is small, because each task may have tens of megabytes.
const filePrefetch = 4

// open opens the resources, those with the cheapest checks first. If open fails, call close to
// close the resources that have been opened.
func (w *Worker) open(ctx context.Context) error {
	cfg, log := w.opts.Config, w.opts.Log
	if err := w.connectProvider(); err != nil {
		return err
	}
	var err error
	if w.hostname, err = os.Hostname(); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := w.openLauncher(); err != nil {
		return err
	}
	w.run = pipeline.New(ctx, w.runOptions())
	w.outcomes = outcomes{log: log, cfg: cfg, logAll: w.opts.LogAllFailures, stop: w.run.StopFetching, retries: w.fromQueue() || w.hasLeases() || cfg.Retries > 0}
	if err := w.openOutputLog(ctx); err != nil {
		return err
	}
	if err := w.openExecution(); err != nil {
		return err
	}
	if !w.fromQueue() {
		return w.openLocal(ctx)
	}
	if err := w.checkDistinctFiles(ctx); err != nil {
		return err
	}
	// Open the task queue first, because this fails if the configured name is wrong. Opening the event
	// queue would create a queue with the wrong name.
	if err := w.openQueue(ctx); err != nil {
		return err
	}
	return w.openSinks(ctx)
}

// openLauncher opens the directory of the run, the notifications and the launcher.
func (w *Worker) openLauncher() error {
	dir, err := newRunDir()
	if err != nil {
		return err
	}
	w.onClose(dir.Close)
	if w.shutdown, err = w.newNotification(dir.path, procexec.ShutdownFile); err != nil {
		return err
	}
	if w.termination, err = w.newNotification(dir.path, procexec.TerminationFile); err != nil {
		return err
	}
	w.launcher, err = procexec.NewLauncher(procexec.Options{
		Guard: w.opts.Guard, Subreaper: w.opts.OwnsProcess, StableThreads: w.opts.OwnsProcess, Dir: dir.path,
		Log: w.opts.Log.With().Str("component", "procexec").Logger(),
	})
	if err == nil {
		w.onClose(w.launcher.Close)
	}
	return err
}

// runOptions returns the options of the pipeline.
func (w *Worker) runOptions() pipeline.Options {
	cfg := w.opts.Config
	opts := pipeline.Options{
		Slots: cfg.NumSimultaneousTasks, Prefetch: filePrefetch,
		GracePeriod: cfg.ShutdownGracePeriod, KillDelay: cfg.KillDelay, UnreachableTimeout: cfg.UnreachableTimeout,
		OnStop: w.notifyShutdown,
		Log:    w.opts.Log.With().Str("component", "pipeline").Logger(),
	}
	if w.hasLeases() {
		opts.Prefetch, opts.IdleTimeout = 0, cfg.IdleTimeout
		if limit := limitOf(cfg); limit >= 0 {
			maximum := cfg.TasksToSkip + limit
			opts.MaxDeliveries = &maximum
		}
	}
	return opts
}

// openLocal opens the source and the sinks of a run without a queue.
func (w *Worker) openLocal(ctx context.Context) error {
	cfg := w.opts.Config
	if err := w.openSource(ctx); err != nil {
		return err
	}
	if err := w.checkDistinctFiles(ctx); err != nil {
		return err
	}
	if cfg.Resume { // lock the log before reading it
		if err := w.lockLog(ctx); err != nil {
			return err
		}
		if err := w.resume(ctx); err != nil {
			return err
		}
	}
	if !cfg.Resume && w.opts.Recount != nil { // for a task file, the progress is estimated from its size
		if c, ok := w.countTasks(ctx, nil); ok {
			w.counted = c
		}
	}
	if err := w.retryFailures(); err != nil {
		return err
	}
	if cfg.EventLogToFile && !cfg.Resume { // before this run opens the log
		w.outcomes.earlier = earlierIDs(ctx, cfg.EventLogFile)
	}
	if err := w.openSinks(ctx); err != nil || cfg.Resume {
		return err
	}
	return w.lockLog(ctx) // the log exists now
}

// isShared reports whether other workers use the source of the program.
func isShared(source pipeline.Source) bool {
	h, ok := source.(pipeline.Hinter)
	return ok && h.Hints().Shared
}

// hasLeases reports whether tasks can have leases that expire.
func (w *Worker) hasLeases() bool { return w.fromQueue() || w.opts.OpenSource != nil }

// checkDistinctFiles returns an error if two of the task file, the event log, the job log and the
// output log are the same file.
func (w *Worker) checkDistinctFiles(ctx context.Context) error {
	cfg := w.opts.Config
	files := []struct{ name, path string }{{"the task file", cmp.Or(w.path, cfg.TaskPath())}}
	if cfg.EventLogToFile {
		files = append(files, struct{ name, path string }{"--event-log-file", cfg.EventLogFile})
	}
	if cfg.JobLog != "" {
		files = append(files, struct{ name, path string }{"--joblog", cfg.JobLog})
	}
	if cfg.OutputLog != "" {
		files = append(files, struct{ name, path string }{"--output-log", cfg.OutputLog})
	}
	for i, f := range files {
		for _, earlier := range files[:i] {
			same, err := startup.Open(ctx, func() (bool, error) { return sameFile(earlier.path, f.path), nil }, func(bool) {}, f.name+": checking "+f.path)
			if err == nil && same {
				err = &ConfigError{fmt.Errorf("%s %q is %s: use another file", f.name, f.path, strings.Replace(earlier.name, "--", "the file of --", 1))}
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// sameFile reports whether two paths are the same regular file. If neither file exists, it compares the
// paths.
func sameFile(a, b string) bool {
	first, errA := os.Stat(a)
	second, errB := os.Stat(b)
	if errA != nil || errB != nil {
		return errors.Is(errA, fs.ErrNotExist) && errors.Is(errB, fs.ErrNotExist) && filepath.Clean(a) == filepath.Clean(b)
	}
	return first.Mode().IsRegular() && os.SameFile(first, second)
}

// killDelay converts a configured delay to an option of package procexec: 0, which configures an
// immediate SIGKILL, becomes NoKillDelay, because 0 selects the default in package procexec.
func killDelay(d time.Duration) time.Duration {
	if d == 0 {
		return procexec.NoKillDelay
	}
	return d
}

func (w *Worker) newNotification(dir, name string) (*procexec.Notification, error) {
	n, err := procexec.NewNotification(dir, name)
	if err == nil {
		w.onClose(n.Close)
	}
	return n, err
}

func (w *Worker) logStderr(task procexec.Task, line []byte, continued bool) {
	e := w.opts.Log.Info().Str("task_id", task.ID).Int("attempt", task.Attempt).Int("slot", task.Slot).Bytes("line", line)
	if continued {
		e = e.Bool("continued", true)
	}
	e.Msg(TaskStderr)
}

func (w *Worker) notifyShutdown(error) {
	counts := w.stats.Counts()
	w.stopping.CompareAndSwap(nil, &counts)
	if err := w.shutdown.Raise(); err != nil {
		w.opts.Log.Warn().Err(err).Msg("could not notify running tasks of the shutdown")
	}
}

// killWhenForkServerExits fails the run and kills its tasks if the fork server exits before
// the run ends.
func (w *Worker) killWhenForkServerExits(forkServer *procexec.ForkServer) {
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-forkServer.Exited():
			w.run.Fail(forkServer.ExitError())
			w.run.Kill(forkServer.ExitError())
		case <-stop:
		}
	}()
	w.onClose(func() error { close(stop); <-done; return nil })
}

// Kill ends the run immediately, and shortens the time that Wait takes after the last task.
func (w *Worker) Kill(cause error) { w.run.Kill(cause) }

// Status returns the progress of the run.
func (w *Worker) Status() progress.Status {
	c, received, exhausted := w.stats.Counts(), w.run.Status().Received, w.run.Status().SourceExhausted
	var waiting int64
	if w.retrying != nil {
		received, waiting, exhausted = w.retrying.state()
	}
	earlier, failed := w.earlier()
	s := progress.Status{Done: c.Reported() + earlier, Failed: c.NotCompleted() + failed, Earlier: earlier}
	s.Waiting = waiting
	s.Running, s.Unreported = w.run.Status().Running, w.run.Status().Unreported
	s.Memory = w.memory.of(w.running)
	cfg := w.opts.Config
	switch {
	case w.fromQueue():
	case exhausted:
		s.Total = received + s.Earlier
	case w.counted.total > 0:
		s.Total = w.counted.total
	case w.file != nil:
		read, size := w.file.Progress()
		s.Total, s.Estimated = progress.EstimateTotal(received+s.Earlier, cfg.TasksToSkip, read, size)
	}
	if limit := limitOf(cfg); limit >= 0 && (s.Total == 0 || s.Total > limit+s.Earlier) {
		s.Estimated = s.Total == 0 // the file may contain fewer tasks
		s.Total = limit + s.Earlier
	}
	return s
}

// Wait waits for the end of the run, writes a fatal_exception event if the run failed, closes all
// resources, and returns the summary. The error is the reason why the run failed; a requested
// shutdown is not an error. After Stop or Kill, Wait returns within the time limits of package
// pipeline (see pipeline.Phases.Close).
func (w *Worker) Wait() (Summary, error) {
	err := w.run.Wait()
	exhausted := w.run.Status().SourceExhausted
	if err != nil {
		err = errors.Join(err, w.reportFatal(err))
	}
	err = errors.Join(err, w.close())
	w.detach()
	return w.summary(exhausted), err
}

// StopCause returns why the run ended before its source was exhausted, or nil.
func (w *Worker) StopCause() error { return w.run.StopCause() }

// closeTimeout is the time limit of each step after the end of the run.
const closeTimeout = 10 * time.Second

// closing returns the context for a step after the end of the run. The context ends after
// closeTimeout, or at the end of the run's Close phase if that is earlier.
func (w *Worker) closing() (context.Context, context.CancelFunc) {
	ctx := context.Background()
	if w.run != nil {
		ctx = w.run.Phases().Close
	}
	return context.WithTimeout(ctx, closeTimeout)
}

// guarded calls f, the body of a goroutine. If f panics, the run fails with an error that starts
// with the text what.
func (w *Worker) guarded(what string, f func()) {
	if p := panics.Try(f); p != nil {
		w.run.Fail(fmt.Errorf("%s: %w", what, &pipeline.PanicError{Value: p.Value, Stack: p.Stack}))
	}
}

// reportFatal writes the fatal_exception event, which contains the reason why the run
// failed.
func (w *Worker) reportFatal(cause error) error {
	ctx, cancel := w.closing()
	defer cancel()
	e := pipeline.Event{
		Time: time.Now(), Hostname: w.hostname, Type: pipeline.FatalException,
		Exception: cause.Error(), StackTrace: pipeline.ErrorTrace(cause), RunID: w.runID,
	}
	if err := w.sink.Write(ctx, []pipeline.Event{e}); err != nil && !errors.Is(cause, err) {
		return fmt.Errorf("write fatal_exception event: %w", err)
	}
	return nil
}

func (w *Worker) onClose(f func() error) { w.closers = append(w.closers, f) }

// close closes the resources in the reverse order of opening.
func (w *Worker) close() error {
	var errs []error
	for len(w.closers) > 0 {
		last := len(w.closers) - 1
		errs = append(errs, w.closers[last]())
		w.closers = w.closers[:last]
	}
	return errors.Join(errs...)
}

func (w *Worker) closeSink() error {
	ctx, cancel := w.closing()
	defer cancel()
	return w.sink.Close(ctx)
}
