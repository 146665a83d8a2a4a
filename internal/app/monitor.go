package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/fleet"
	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/monitor"
	"github.com/ctworker/ctworker/internal/startup"
	"github.com/ctworker/ctworker/internal/units"
	"github.com/ctworker/ctworker/internal/worker"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/eventlog"
)

// MonitorOptions are the options of "ctworker monitor" in addition to the settings.
type MonitorOptions struct {
	// EventLog is the file to which the events are appended.
	EventLog string
	// Total is the number of tasks of the job. If it is negative, TaskFile determines the number; if that is
	// "", the events of "ctworker load" do.
	Total    int64
	TaskFile string
	// Format is the format of TaskFile.
	Format FileFormat
	// UntilComplete ends the command when every task has a final event.
	UntilComplete bool
	// Command is the command line, for the text that explains how to continue.
	Command []string
}

// The causes for which the monitoring ends, other than a signal and an error.
var (
	errComplete = errors.New("every task has a final event")
	errQuit     = errors.New("the user quit")
)

// exitQuit is the exit code if the user quits before the job is complete: that of SIGINT.
const exitQuit = 130

// A jobMonitor collects the events of a job in the event log, and shows the state of the job.
type jobMonitor struct {
	tool   *Tool
	opts   MonitorOptions
	events cloudqueue.Queue
	state  *fleet.State
	began  time.Time
}

// Monitor collects the events of the job in the event log, shows the state of the job, and returns the
// exit code.
func (t *Tool) Monitor(opts MonitorOptions) int {
	stop, err := t.start()
	if err != nil {
		return t.usage(err)
	}
	defer stop()
	if opts.Total < 0 && opts.TaskFile != "" {
		if opts.Total, err = t.countTaskFile(opts.TaskFile, opts.Format); err != nil {
			return t.fail(err)
		}
	}
	m := &jobMonitor{tool: t, opts: opts, events: t.provider.Events(), state: fleet.New(opts.Total), began: time.Now()}
	lock, err := m.lock()
	if err != nil {
		return t.fail(err)
	}
	defer func() { _ = lock.Close() }()
	if err := m.replay(); err != nil {
		return t.fail(err)
	}
	tail, closeLog, err := m.open()
	if err != nil {
		return t.fail(err)
	}
	defer closeLog()
	return m.run(tail)
}

// countTaskFile returns the number of different task IDs in a task file.
func (t *Tool) countTaskFile(path string, format FileFormat) (int64, error) {
	ids := journal.NewSet()
	err := eachTask(t.ctx, path, format, t.Stderr, func(task *pipeline.Task) error {
		ids.Add(task.ID)
		return context.Cause(t.ctx)
	})
	return ids.Len(), err
}

// lock locks the event log, because no other program may write events that this monitor does not know.
func (m *jobMonitor) lock() (*journal.Lock, error) {
	return startup.Open(m.tool.ctx, func() (*journal.Lock, error) { return journal.TryLock(m.opts.EventLog, true) },
		func(l *journal.Lock) { _ = l.Close() }, "event log: locking "+m.opts.EventLog)
}

// largeLog is the size of an event log that takes more than a second to read.
const largeLog = 100 << 20

// replay derives the state from the event log, if it exists.
func (m *jobMonitor) replay() error {
	log := m.tool.log
	info, err := os.Stat(m.opts.EventLog)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("event log: %w", err)
	case !info.Mode().IsRegular():
		log.Warn().Str("file", m.opts.EventLog).Msg("the event log is not a regular file, so a new start of the monitor will not know the events before it")
		return nil
	}
	if info.Size() >= largeLog {
		log.Info().Str("file", m.opts.EventLog).Str("size", units.Size(info.Size())).Msg("reading the event log")
	}
	f, err := os.Open(m.opts.EventLog)
	if err != nil {
		return fmt.Errorf("event log: %w", err)
	}
	defer func() { _ = f.Close() }()
	var damage journal.Damage
	err = journal.Lines(m.tool.ctx, f, func(number int64, line []byte, complete bool) {
		switch {
		case line[0] == '"' && complete: // a message that was not an event
			damage.Events++
		case m.state.Replay(line) != nil:
			damage.Add(number, complete)
		default:
			damage.Events++
		}
	})
	if err != nil {
		return fmt.Errorf("event log: read %s: %w", m.opts.EventLog, err)
	}
	if damage.NotALog() {
		return fmt.Errorf("--event-log-file %s: the file exists and is not an event log, so nothing is appended to it; use another file", m.opts.EventLog)
	}
	if damage.Count > 0 || damage.Torn {
		log.Warn().Str("file", m.opts.EventLog).Int64("line_count", damage.Count).Ints64("lines", damage.Lines).Bool("incomplete_last_line", damage.Torn).
			Msg("ignored damaged lines of the event log")
	}
	return nil
}

// open opens the event log and the event queue, and starts to collect events. Call closeLog when the tail has
// ended.
func (m *jobMonitor) open() (tail func(context.Context) *cloudqueue.Tail, closeLog func(), err error) {
	t := m.tool
	source, err := m.events.OpenReader(t.ctx, t.log)
	if errors.Is(err, cloudqueue.ErrNotFound) {
		err = fmt.Errorf("event queue %s does not exist yet: load tasks or start a worker, which creates it, or run %q: %w", m.events.Name(), "ctworker queue create", err)
	}
	if err != nil {
		return nil, nil, err
	}
	log, err := eventlog.Open(t.ctx, m.opts.EventLog, eventlog.Options{
		Log: t.log, Recovery: "start the command again: events that were not written remain in the queue",
	})
	if err != nil {
		return nil, nil, errors.Join(err, source.Close(context.Background()))
	}
	lines := applyingWriter{lines: log, state: m.state}
	tail = func(ctx context.Context) *cloudqueue.Tail { return cloudqueue.StartTail(ctx, source, lines, 0, t.log) }
	return tail, func() { _ = log.Close(context.Background()) }, nil // each line is durable already
}

// applyingWriter applies the lines to a state when they are durable.
type applyingWriter struct {
	lines cloudqueue.LineWriter
	state *fleet.State
}

// WriteLines implements cloudqueue.LineWriter.
func (w applyingWriter) WriteLines(ctx context.Context, lines [][]byte) error {
	if err := w.lines.WriteLines(ctx, lines); err != nil {
		return err
	}
	now := time.Now()
	for _, line := range lines {
		w.state.Apply(line, now)
	}
	return nil
}

// run collects events until the job is complete, the user quits, or an error occurs. It returns the exit code.
func (m *jobMonitor) run(startTail func(context.Context) *cloudqueue.Tail) int {
	t := m.tool
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	start := m.state.Snapshot(m.began)
	monitor.Fields(t.log.Info().Str("queue", m.events.Name()).Str("file", m.opts.EventLog), &start).Msg("collecting the events of the job")
	tail := startTail(ctx)
	var others sync.WaitGroup
	asScreen := m.hasScreen()
	others.Go(func() { m.watch(ctx, cancel, !asScreen) })
	if asScreen {
		others.Go(func() { m.showScreen(ctx, cancel) })
	}
	err := tail.Wait()
	cancel(nil) // ends the others
	others.Wait()
	return m.end(err, context.Cause(ctx))
}

// end prints the summary and returns the exit code. err is the error of the tail, and cause why it ended.
func (m *jobMonitor) end(err, cause error) int {
	t := m.tool
	s := m.summary()
	if t.display.console {
		t.display.print(s.Print())
	} else {
		s.Log(t.display.kept())
	}
	if err != nil && !errors.Is(err, errComplete) && !errors.Is(err, errQuit) {
		return t.fail(err)
	}
	switch {
	case !m.opts.UntilComplete:
		return ExitOK
	case errors.Is(cause, errComplete) && s.Failed() > 0:
		return ExitStrict
	case errors.Is(cause, errComplete):
		return ExitOK
	case t.interrupted() != 0:
		return t.interrupted()
	}
	return exitQuit
}

// summary returns the summary of the job.
func (m *jobMonitor) summary() monitor.Summary {
	s := monitor.Summary{
		Snapshot: m.state.Snapshot(time.Now()), Queue: m.events.Name(), File: m.opts.EventLog,
		ContinueWith: worker.ShellCommand(m.opts.Command),
	}
	file := cmp.Or(m.opts.TaskFile, "TASKS")
	load := slices.Concat([]string{"ctworker", "load", "--task-file", "failed.jsonl"}, m.queueFlags())
	s.FailedWith = []string{
		worker.ShellCommand([]string{"ctworker", "failed", m.opts.EventLog}),
		worker.ShellCommand([]string{"ctworker", "failed", "--tasks", "failed.jsonl", "--task-file", file, m.opts.EventLog}),
		worker.ShellCommand(load),
	}
	return s
}

// queueFlags returns the flags on the command line that select the queue.
func (m *jobMonitor) queueFlags() (flags []string) {
	cfg := m.tool.Config
	for _, f := range []struct{ name, value string }{
		{"provider", cfg.Provider}, {"job-id", cfg.JobID}, {"project-id", cfg.ProjectID}, {"queue-name", cfg.QueueName}, {"region", cfg.Region},
	} {
		if cfg.Origin(f.name).Place == config.CommandLine {
			flags = append(flags, "--"+f.name, f.value)
		}
	}
	if cfg.ExactlyOnceQueue && cfg.Origin("exactly-once-queue").Place == config.CommandLine {
		flags = append(flags, "--exactly-once-queue")
	}
	return flags
}

const (
	// watchInterval is how often the state is checked.
	watchInterval = time.Second
	// settleTime is how long no event about a task or a load may arrive before a job counts as complete,
	// because the event of a further load may arrive after events of its tasks.
	settleTime = 5 * time.Second
	// maxStatusChecks limits how often the end is delayed because the event queue is not empty: workers
	// that stay idle send keep_alive events for ever.
	maxStatusChecks = 10
	// stalledTime is how long no event about a task arrives before the monitor warns that no worker runs.
	stalledTime = 3 * time.Minute
	// unknownTotalTime is how long the monitor waits for the number of tasks before it warns.
	unknownTotalTime = time.Minute
)

// watch checks the state until ctx is done. It logs the progress if lines is set, logs what needs attention,
// and ends the monitoring when the job is complete.
func (m *jobMonitor) watch(ctx context.Context, cancel context.CancelCauseFunc, lines bool) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	alerts := alerts{log: m.tool.log, known: map[string]bool{}}
	logged := m.began
	completeSince, checks := time.Time{}, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		v := m.state.Snapshot(time.Now())
		alerts.check(&v, m.began, m.opts.UntilComplete)
		if lines && v.At.Sub(logged) >= progressInterval {
			logged = v.At
			monitor.Fields(m.tool.log.Info(), &v).Msg("progress")
		}
		if !m.opts.UntilComplete {
			continue
		}
		switch {
		case !v.Complete():
			completeSince, checks = time.Time{}, 0
		case completeSince.IsZero() || v.LastChange.After(completeSince):
			completeSince = v.At
		case v.At.Sub(completeSince) >= settleTime:
			if checks++; checks <= maxStatusChecks && m.hasEvents(ctx) {
				completeSince = v.At
				continue
			}
			cancel(errComplete)
			return
		}
	}
}

// hasEvents reports whether events wait in the queue, if the provider reports it.
func (m *jobMonitor) hasEvents(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, restTime)
	defer cancel()
	s, err := m.events.Status(ctx)
	return err == nil && !s.CountsUnavailable && s.Visible > 0
}

// hasScreen reports whether the state is shown as a screen, and not as log lines.
func (m *jobMonitor) hasScreen() bool {
	d := m.tool.display
	return d.cursor && d.console && isTerminal(m.tool.Stdin)
}

// showScreen shows the screen until ctx is done. If the user quits, it ends the monitoring.
func (m *jobMonitor) showScreen(ctx context.Context, cancel context.CancelCauseFunc) {
	d := m.tool.display
	messages := d.holdLog()
	quit, err := monitor.Run(ctx, monitor.Options{
		Input: m.tool.Stdin, Output: d.stderr, Message: messages.last,
		Snapshot: func() fleet.Snapshot { return m.state.Snapshot(time.Now()) },
		View: monitor.View{
			Job: strings.TrimSuffix(m.tool.provider.Tasks().Name(), "-events"), Color: os.Getenv("NO_COLOR") == "",
			Hint: "give --total N or --task-file FILE", Printable: printable,
		},
	})
	d.releaseLog(messages)
	switch {
	case quit:
		cancel(errQuit)
	case err != nil:
		m.tool.log.Warn().Err(err).Msg("could not show the screen; press ctrl-c to end")
	}
}
