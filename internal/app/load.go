package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/progress"
	"github.com/ctworker/ctworker/internal/units"
	"github.com/ctworker/ctworker/sources/taskfile"
	"github.com/ctworker/ctworker/sources/taskfile/remote"
)

// LoadOptions are the options of "ctworker load" in addition to the settings.
type LoadOptions struct {
	// Create creates the queue if it does not exist.
	Create bool
	// TasksToSkip is the number of tasks at the start of the file that are not sent.
	TasksToSkip int64
	// MaxNumTasks is the maximum number of tasks that are sent; a negative value means no
	// limit.
	MaxNumTasks int64
}

// Load sends the tasks of the task file to the queue, and returns the exit code.
func (t *Tool) Load(opts LoadOptions) int {
	stop, err := t.start()
	if err != nil {
		return t.usage(err)
	}
	defer stop()
	file, err := remote.OpenTasks(t.ctx, t.Config.TaskPath(), remote.Options{Region: t.Config.Region, Log: t.log},
		taskfile.Options{Skip: opts.TasksToSkip, Stdin: t.Stdin, CSV: t.Config.CSV != ""})
	switch {
	case err != nil && t.interrupted() != 0:
		t.display.logError("", err)
		return t.interrupted()
	case err != nil:
		return t.usage(fmt.Errorf("--task-file: %w", err))
	}
	defer func() { _ = file.Close(context.Background()) }()
	tasks := t.provider.Tasks()
	if opts.Create {
		created, err := tasks.Create(t.ctx)
		if err != nil {
			return t.fail(err)
		}
		if created {
			t.log.Info().Str("queue", tasks.Name()).Msg("created the queue")
		}
	}
	loader, err := tasks.OpenLoader(t.ctx)
	if err != nil {
		return t.fail(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), cloudqueue.CloseTimeout)
		defer cancel()
		loader.Close(ctx) // requests are still under way only if the load was aborted
	}()

	source := &distinctSource{Source: file, ids: journal.NewSet()}
	load := cloudqueue.NewLoad(loader, source, opts.MaxNumTasks)
	began := time.Now()
	stopProgress := t.display.showProgress(func() progress.Status {
		s := progress.Status{Done: load.Loaded(), Moves: "tasks"}
		read, size := file.Progress()
		s.Total, s.Estimated = progress.EstimateTotal(load.ReadCount(), opts.TasksToSkip, read, size)
		if opts.MaxNumTasks >= 0 && (s.Total == 0 || s.Total > opts.MaxNumTasks) {
			s.Total, s.Estimated = opts.MaxNumTasks, s.Total == 0
		}
		return s
	}, true)
	err = load.Run(t.ctx)
	stopProgress()
	t.recordLoad(load, source)
	return t.loaded(load, opts, time.Since(began), err)
}

// loaded prints how many tasks were sent and, if the load is incomplete, the flags that continue
// it. It returns the exit code.
func (t *Tool) loaded(load *cloudqueue.Load, opts LoadOptions, took time.Duration, err error) int {
	in, name := load.Loaded(), t.provider.Tasks().Name()
	if fault, ok := errors.AsType[*taskfile.Error](err); ok && fault.Entry > 0 && fault.Entry <= opts.TasksToSkip {
		t.display.logError("", fmt.Errorf("no task was sent to the queue %s: %w; repair this entry, because the %[3]d entries that --tasks-to-skip skips must be valid, too",
			name, fault, opts.TasksToSkip))
		return ExitFatal
	}
	t.print("%d tasks are in the queue %s, after %s\n", in, name, units.Duration(took))
	if err == nil && load.Exhausted() {
		return ExitOK
	}
	if err != nil {
		t.display.logError("", err)
	}
	next := fmt.Sprintf("--tasks-to-skip %d", opts.TasksToSkip+in)
	if opts.MaxNumTasks >= 0 {
		next += fmt.Sprintf(" --max-num-tasks %d", opts.MaxNumTasks-in)
	}
	t.print("not all tasks were sent; continue with %s\n", next)
	if n := load.OutOfOrder(); n > 0 {
		t.print("%d later tasks are in the queue already and would be in it twice\n", n)
	}
	if err == nil {
		return t.interrupted()
	}
	return ExitFatal
}
