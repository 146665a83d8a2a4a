package worker

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/sources/taskfile"
	"github.com/ctworker/ctworker/sources/taskfile/remote"
	"github.com/ctworker/ctworker/stages"
)

// openExecution creates the stage that executes the tasks.
func (w *Worker) openExecution() error {
	cfg, opts := w.opts.Config, w.opts
	switch {
	case opts.Runner != nil:
		w.execute = stages.Execute(w.run, w.tracked(opts.Runner))
		return nil
	case opts.ForkServer != nil:
		return w.openForkServer()
	case opts.TaskProtocol:
		maxTasks := cfg.MaxTasksPerProcess
		if cfg.Isolation == config.IsolationTask {
			maxTasks = 1
		}
		return w.openPool(procexec.PoolOptions{Argv: opts.Argv, MaxTasks: maxTasks})
	}
	stderr, output := w.commandOutput()
	command, err := procexec.NewCommand(w.launcher, procexec.CommandOptions{
		Argv: opts.Argv, Env: cfg.TaskEnv(os.Environ()),
		MaxRuntime: cfg.MaxRuntime, KillDelay: killDelay(cfg.KillDelay),
		MemoryLimit: cfg.MaxMemoryAllowedPerTask, MaxResult: cfg.MaxResultSize,
		// A missing key in a message of a queue must not end the run.
		RequireKeys: !cfg.AllowMissingKeys && !w.fromQueue(),
		Shutdown:    w.shutdown, Termination: w.termination, Stderr: stderr, Output: output,
	})
	if err != nil {
		return &ConfigError{err}
	}
	w.running = func(context.Context) ([]procexec.RunningTask, error) { return command.Running(), nil }
	w.execute = stages.Execute(w.run, stages.Command(command))
	return nil
}

// openForkServer creates a pool whose processes are forked by the program that started ctworker.
// With isolation "spawn", ctworker instead starts each process by running that program again.
func (w *Worker) openForkServer() error {
	cfg, forkServer := w.opts.Config, w.opts.ForkServer
	w.onClose(forkServer.Close)
	if cfg.Isolation == config.IsolationSpawn && len(forkServer.Hello.Argv) == 0 {
		return &ConfigError{errors.New("--isolation spawn starts the program again for each task, but this program was read from standard input; save it in a file")}
	}
	err := forkServer.Start(procexec.ForkServerConfig{
		Launcher: w.launcher, KillDelay: cfg.KillDelay,
		Worker: cfg.WorkerData(), Slots: cfg.NumSimultaneousTasks, Isolation: cfg.Isolation,
		MaxResult: cfg.MaxResultSize, MemoryLimit: cfg.MaxMemoryAllowedPerTask,
		Env: cfg.TaskSettings(os.Environ()), Shutdown: w.shutdown, Termination: w.termination,
		OnWarning: func(text string) { w.opts.Log.Warn().Msg(text) },
	})
	if err != nil {
		return err
	}
	w.killWhenForkServerExits(forkServer)
	// By default, a process runs one task. Only isolation "reuse" and an explicit
	// --max-tasks-per-process change that.
	maxTasks := cfg.MaxTasksPerProcess
	if cfg.Isolation != config.IsolationReuse && cfg.Origin("max-tasks-per-process").Place == config.Default {
		maxTasks = 1
	}
	pool := procexec.PoolOptions{ForkServer: forkServer, MaxTasks: maxTasks}
	if cfg.Isolation == config.IsolationSpawn {
		pool.ForkServer, pool.Argv = nil, forkServer.Hello.Argv
	}
	return w.openPool(pool)
}

// openPool creates a pool of worker processes. opts specifies how to start them.
func (w *Worker) openPool(opts procexec.PoolOptions) error {
	cfg := w.opts.Config
	opts.Env = cfg.TaskEnv(os.Environ())
	opts.WorkerData = cfg.WorkerData()
	opts.MaxRuntime, opts.KillDelay, opts.StartTimeout = cfg.MaxRuntime, killDelay(cfg.KillDelay), cfg.StartTimeout
	opts.MemoryLimit, opts.MaxResult = cfg.MaxMemoryAllowedPerTask, cfg.MaxResultSize
	opts.Shutdown, opts.Termination = w.shutdown, w.termination
	opts.Log = w.opts.Log.With().Str("component", "pool").Logger()
	if opts.Streams = w.capturedStreams(); len(opts.Streams) > 0 {
		opts.Output = w.poolOutput
	}
	pool, err := procexec.NewPool(w.launcher, opts)
	if err != nil {
		return &ConfigError{err}
	}
	w.onClose(pool.Close)
	w.running = pool.Running
	w.execute = stages.ExecutePool(w.run, pool)
	return nil
}

// openSource opens the source of the tasks.
func (w *Worker) openSource(ctx context.Context) error {
	cfg := w.opts.Config
	path, opts := cfg.TaskPath(), taskfile.Options{Skip: cfg.TasksToSkip, Stdin: w.opts.Stdin, CSV: cfg.CSV != ""}
	name := "--task-file"
	var from *procexec.ForkServerSource
	var pipe *sourcePipe
	if w.opts.ForkServer != nil {
		from = w.opts.ForkServer.Hello.Source
	}
	switch {
	case w.opts.OpenSource != nil:
		source, err := w.opts.OpenSource(ctx)
		if err != nil {
			return fmt.Errorf("open the program's task source: %w", err)
		}
		w.source = source
		w.onClose(func() error { // no effect if the run has closed the source
			ctx, cancel := w.closing()
			defer cancel()
			return source.Close(ctx)
		})
		return nil
	case w.opts.Source != nil:
		w.source = w.opts.Source
		return nil
	case w.opts.InputFile != "":
		path, opts.Lines, opts.CSV, name = w.opts.InputFile, true, false, "input file"
	case from != nil && from.File != "":
		path = from.File
	case from != nil:
		var err error
		if pipe, err = openSourcePipe(w.opts.ForkServer, from); err != nil {
			return err
		}
		w.onClose(pipe.Close)
		path, opts.Stdin, opts.Name = "-", pipe, from.Name
	}
	file, err := remote.OpenTasks(ctx, path, remote.Options{
		Region: cfg.Region, Log: w.opts.Log.With().Str("component", "source").Logger(),
	}, opts)
	if err != nil {
		return &ConfigError{fmt.Errorf("%s: %w", name, err)}
	}
	w.file, w.source, w.path = file, file, path
	w.onClose(func() error { return file.Close(context.Background()) }) // no effect if the run has closed it
	if pipe != nil {
		w.source = &forkServerSource{Source: file, forkServer: w.opts.ForkServer, pipe: pipe}
		return w.opts.ForkServer.StartSource()
	}
	return nil
}
