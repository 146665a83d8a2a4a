package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/procexec"
	"github.com/ctworker/ctworker/sources/taskfile"
	"github.com/ctworker/ctworker/stages"
)

// openExecution makes the stage that runs the tasks.
func (w *Worker) openExecution() error {
	cfg, opts := w.opts.Config, w.opts
	switch {
	case opts.Runner != nil:
		w.execute = stages.Execute(w.run, opts.Runner)
		return nil
	case opts.Host != nil:
		return w.openHost()
	case opts.Warm:
		if cfg.Warm { // of "ctworker run"; a program's own arguments are its own business
			if err := procexec.NoPlaceholders(opts.Argv); err != nil {
				return &ConfigError{err}
			}
		}
		return w.openPool(procexec.PoolOptions{Argv: opts.Argv, MaxTasks: cfg.MaxTasksPerProcess})
	}
	command, err := procexec.NewCommand(w.launcher, procexec.CommandOptions{
		Argv: opts.Argv, Env: append(os.Environ(), cfg.Env()...),
		MaxRuntime: cfg.MaxRuntime, KillDelay: orNone(cfg.KillDelay),
		MemoryLimit: cfg.MaxMemoryAllowedPerTask, MaxResult: cfg.MaxResultSize,
		Shutdown: w.shutdown, Termination: w.termination, Stderr: w.logStderr,
	})
	if err != nil {
		return &ConfigError{err}
	}
	w.execute = stages.Execute(w.run, stages.Command(command))
	return nil
}

// openHost has the program above this one fork the processes, or start it again
// for each.
func (w *Worker) openHost() error {
	cfg, host := w.opts.Config, w.opts.Host
	w.onClose(host.Close)
	err := host.Begin(procexec.HostSetup{
		Worker: cfg.WorkerData(), Slots: cfg.NumSimultaneousTasks,
		MaxResult: cfg.MaxResultSize, MemoryLimit: cfg.MaxMemoryAllowedPerTask,
		Env: cfg.Env(), Shutdown: w.shutdown, Termination: w.termination,
		Warn: func(text string) { w.opts.Log.Warn().Msg(text) },
	})
	if err != nil {
		return err
	}
	w.giveUpWithout(host)
	// A fresh process for each task is what isolation is about; another number
	// can be asked for.
	maxTasks := cfg.MaxTasksPerProcess
	if host.Hello.Isolation != "reuse" && cfg.Origin("max-tasks-per-process").Place == config.Default {
		maxTasks = 1
	}
	pool := procexec.PoolOptions{Host: host, MaxTasks: maxTasks}
	if host.Hello.Isolation == "spawn" {
		pool.Host, pool.Argv = nil, host.Hello.Argv
	}
	return w.openPool(pool)
}

// openPool makes a pool of warm processes; opts says how they come about.
func (w *Worker) openPool(opts procexec.PoolOptions) error {
	cfg := w.opts.Config
	opts.Slots = cfg.NumSimultaneousTasks
	opts.Env = append(os.Environ(), cfg.Env()...)
	opts.WorkerData = cfg.WorkerData()
	opts.MaxRuntime, opts.KillDelay, opts.StartTimeout = cfg.MaxRuntime, orNone(cfg.KillDelay), cfg.StartTimeout
	opts.MemoryLimit, opts.MaxResult = cfg.MaxMemoryAllowedPerTask, cfg.MaxResultSize
	opts.Shutdown, opts.Termination = w.shutdown, w.termination
	opts.Log = w.opts.Log.With().Str("component", "pool").Logger()
	pool, err := procexec.NewPool(w.launcher, opts)
	if err != nil {
		return &ConfigError{err}
	}
	w.onClose(pool.Close)
	w.execute = stages.Warm(w.run, pool)
	return nil
}

// openSource opens what the tasks come from.
func (w *Worker) openSource() error {
	cfg := w.opts.Config
	path, opts := cfg.TaskFile, taskfile.Options{Skip: cfg.TasksToSkip, Stdin: w.opts.Stdin}
	var from *procexec.HostSource
	if w.opts.Host != nil {
		from = w.opts.Host.Hello.Source
	}
	switch {
	case w.opts.Source != nil:
		w.source = w.opts.Source
		return nil
	case from != nil && from.File != "":
		path = from.File
	case from != nil:
		pipe := os.NewFile(uintptr(from.StreamFD), from.Name)
		if pipe == nil {
			return fmt.Errorf("the task source's descriptor %d is not open", from.StreamFD)
		}
		w.onClose(func() error { _ = pipe.Close(); return nil }) // it was only read from
		path, opts.Stdin, opts.Name = "-", pipe, from.Name
	}
	file, err := taskfile.Open(path, opts)
	if err != nil {
		return &ConfigError{fmt.Errorf("--task-file: %w", err)}
	}
	w.file, w.source = file, file
	w.onClose(func() error { return file.Close(context.Background()) }) // unless the run has
	if from != nil && from.File == "" {
		w.source = &hostSource{Source: file, host: w.opts.Host, pipe: opts.Stdin}
		return w.opts.Host.StartSource()
	}
	return nil
}

// hostSource is what a host's task source writes to a pipe. The pipe's end is the
// source's only if the source says so: its process may have died.
type hostSource struct {
	*taskfile.Source
	host *procexec.Host
	pipe any
	err  error
}

// Receive returns the next tasks; see pipeline.Source.
func (s *hostSource) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	if s.err != nil {
		return nil, s.err
	}
	ds, err := s.Source.Receive(ctx, limit)
	broken := (*taskfile.Error)(nil)
	if !errors.Is(err, io.EOF) && !errors.As(err, &broken) {
		return ds, err
	}
	// Why the pipe has ended, or ends in the middle of a task, the host knows
	// better. A source that would go on is told that nobody reads any more.
	if pipe, ok := s.pipe.(*os.File); ok {
		_ = pipe.Close()
	}
	select {
	case ended := <-s.host.SourceEnded():
		if s.err = err; ended != nil {
			s.err = fmt.Errorf("the task source has failed: %w", ended)
		}
	case <-s.host.Lost():
		s.err = procexec.ErrHostGone
	case <-ctx.Done():
		if len(ds) > 0 {
			return ds, nil
		}
		return nil, ctx.Err()
	}
	return ds, s.err
}
