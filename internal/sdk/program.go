package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/help"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/taskproto"
	"github.com/ctworker/ctworker/internal/worker"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/function"
)

// Func runs one task. A result of type Retry requests another attempt.
type Func func(ctx context.Context, t Task) (result any, err error)

// Task is the task that a Func runs.
type Task struct {
	ID      string
	Data    json.RawMessage
	Attempt int
	// Worker is the return value of Program.NewWorker for the slot.
	Worker any
}

// Retry is a result that requests another attempt.
type Retry struct{ Result any }

// PermanentError marks an error that another attempt would repeat. It is omitted from the
// reported chain of errors.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }

// Unwrap returns the marked error.
func (e *PermanentError) Unwrap() error { return e.Err }

// WorkerInfo describes the worker to NewWorker.
type WorkerInfo struct {
	// JSON is the "worker" field of the task protocol.
	JSON json.RawMessage
	Slot int
	// Args are the arguments of the program after its flags.
	Args []string
	// Shutdown and Termination report whether these notifications have been raised. Either
	// may be nil.
	Shutdown, Termination func() bool
}

// Program is a worker program. Func, NewWorker and Name are required.
type Program struct {
	Func Func
	// NewWorker is called once per process, or with InProcess once per slot.
	NewWorker         func(WorkerInfo) (any, error)
	Name, Description string
	Version           string                 // of ctworker
	Flags             *flag.FlagSet          // the program's own flags, or nil
	Tasks             iter.Seq2[Task, error] // nil to read tasks from a queue or --task-file
	// OpenSource replaces Tasks. OpenSinks and Stages are added to the pipeline; see
	// worker.Options. All three are used only in the engine.
	OpenSource func(context.Context) (pipeline.Source, error)
	OpenSinks  []func(context.Context) (pipeline.Sink, error)
	Stages     []worker.Stage
	InProcess  bool // run tasks in this process
}

// Main runs the program and exits with the exit code of the run. It does not return.
func (w *Program) Main() {
	procexec.RunGuard() // does not return in the guard process
	if taskproto.InWorkerProcess() {
		os.Exit(w.child(os.Args[1:]))
	}
	if code := app.Begin(os.Stderr, w.Name); code != app.ExitOK {
		os.Exit(code)
	}
	os.Exit(w.engine(os.Args[1:]))
}

// isRunning is true after the first call of Run with child processes.
var isRunning atomic.Bool //nolint:gochecknoglobals // the child processes belong to the whole program

// errRunTwice is the error of a second call of Run with child processes. A child process executes
// the program from its start, so it would run the tasks of the second call with the function of the
// first call.
var errRunTwice = errors.New("a program can call ctworker.Run only once, unless it uses the option InProcess: combine the tasks in one call, or use InProcess")

// Run runs the tasks and returns when the run has ended. args are the flags of the worker. In a child
// process, Run runs the tasks that the engine sends, and does not return.
func (w *Program) Run(ctx context.Context, args []string) (*worker.Summary, error) {
	procexec.RunGuard() // does not return in the guard process
	if taskproto.InWorkerProcess() {
		os.Exit(w.child(args))
	}
	if !w.InProcess && !isRunning.CompareAndSwap(false, true) {
		return nil, errRunTwice
	}
	parsed, faults := w.parse(args)
	line, wrong := config.Normalize(append(parsed.engine, "--"), w.ownNames()...)
	var known config.Flags
	a := &cli.App{
		Name: w.Name, Flags: slices.Concat(w.ownFlags(), config.ProgramFlags(&known, config.Go)), HideHelp: true, HideVersion: true,
		Writer: io.Discard, ErrWriter: io.Discard, ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error { return err },
		Action:       func(*cli.Context) error { return nil },
	}
	err := a.Run(append([]string{w.Name}, line...))
	cfg, loadErr := config.Load(config.Sources{
		Line: known, Faults: wrong, LookupEnv: os.LookupEnv, TaskSource: w.hasSource(), SDK: config.Go,
	})
	if err := errors.Join(faults, err, loadErr); err != nil {
		return nil, errors.Join(err, parsed.misplaced())
	}
	opts, err := w.options(cfg, os.Args[1:], parsed.args)
	if err != nil {
		return nil, err
	}
	opts.OwnsProcess = false // the program continues after the run
	return app.Execute(ctx, cfg, opts)
}

// hasSource reports whether the program provides the tasks.
func (w *Program) hasSource() bool { return w.Tasks != nil || w.OpenSource != nil }

// child runs the tasks that the engine sends, and returns the exit code.
func (w *Program) child(args []string) int {
	parsed, err := w.parse(args)
	if err != nil {
		return w.usage(err)
	}
	c, err := newChild(w)
	if err != nil {
		return w.usage(err)
	}
	code, err := c.run(parsed.args)
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", w.Name, err)
	}
	return code
}

func (w *Program) usage(err error) int {
	return app.Usage(os.Stderr, w.Name, w.Name+" --help", err)
}

// engine runs the engine and returns the exit code.
func (w *Program) engine(args []string) int {
	code := app.ExitOK
	parsed, faults := w.parse(args)
	line, wrong := config.Normalize(append(parsed.engine, "--"), append(w.ownNames(), versionFlag)...)
	if len(parsed.args) > 0 && !w.hasSource() && config.IsTaskFileName(parsed.args[0]) {
		wrong = append(wrong, config.TaskFileArgument(parsed.args[0]))
	}
	var known config.Flags
	request := infoRequest{version: parsed.version}
	a := &cli.App{
		Name:           w.Name,
		HelpName:       w.Name,
		Usage:          summary,
		UsageText:      w.Name + " [flags] [ARGS…]",
		Description:    w.describe(),
		Flags:          slices.Concat(w.ownFlags(), config.ProgramFlags(&known, config.Go), w.infoFlags(&request)),
		HideHelp:       true,
		HideVersion:    true,
		Writer:         os.Stdout,
		ErrWriter:      os.Stderr,
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return err },
	}
	if shell, ok := completionShell(args); ok {
		text, err := help.OfApp(a).Completion(shell, w.Name)
		if err != nil {
			return w.usage(err)
		}
		return w.print(text)
	}
	request.help.Full = len(args) > 0 && len(args) <= 2 && args[0] == "help" // a program has no subcommand "help", but users may try it
	a.Action = func(*cli.Context) error {
		if text := w.infoText(request, a); text != "" {
			code = w.print(text)
			return nil
		}
		cfg, err := config.Load(config.Sources{
			Line: known, Faults: wrong, LookupEnv: os.LookupEnv, TaskSource: w.hasSource(), SDK: config.Go,
		})
		if err := errors.Join(faults, err); err != nil {
			return errors.Join(err, parsed.misplaced())
		}
		if cfg.PrintConfig {
			code = w.written(cfg.Print(os.Stdout))
			return nil
		}
		opts, err := w.options(cfg, args, parsed.args)
		if err != nil {
			return err
		}
		code = app.Run(cfg, opts)
		return nil
	}
	if err := a.Run(append([]string{w.Name}, line...)); err != nil {
		return w.usage(err)
	}
	return code
}

// options returns the options of a run. args are the arguments with which child processes are
// started, and taskArgs the arguments after the flags.
func (w *Program) options(cfg *config.Config, args, taskArgs []string) (app.Options, error) {
	opts := app.Options{
		Version: w.Version,
		Stdin:   os.Stdin, Stderr: os.Stderr, Name: w.Name, Help: w.Name + " --help",
		Command: os.Args, FlagsAt: 1, FlagsEnd: len(os.Args) - len(taskArgs),
		OpenSource: w.OpenSource, OpenSinks: w.OpenSinks, Stages: w.Stages,
		// The user's functions may start child processes of this process.
		OwnsProcess: !w.InProcess && !w.hasSource() && len(w.OpenSinks) == 0 && len(w.Stages) == 0,
	}
	if w.Tasks != nil && w.OpenSource == nil {
		opts.Source = w.source()
	}
	if w.InProcess {
		cloudqueue.FindInstance(context.Background(), cfg)
		// A ctworker that a task starts inherits the environment of this process. The variable
		// makes that ctworker ignore the settings of this run.
		for _, variable := range cfg.TaskSettings(os.Environ()) {
			if value, ok := strings.CutPrefix(variable, config.OuterVar+"="); ok {
				_ = os.Setenv(config.OuterVar, value)
			}
		}
		var terminated atomic.Bool
		opts.OnTermination = func() { terminated.Store(true) }
		opts.Runner = newInProcess(w, WorkerInfo{JSON: cfg.WorkerData(), Args: taskArgs, Termination: terminated.Load}, cfg)
		return opts, nil
	}
	self, err := os.Executable()
	if err != nil {
		return opts, fmt.Errorf("find the path of this program: %w", err)
	}
	opts.Argv, opts.TaskProtocol = append([]string{self}, args...), true
	return opts, nil
}

// source returns the source for WithTasks.
func (w *Program) source() pipeline.Source {
	return function.New(func(yield func(pipeline.Task, error) bool) {
		for t, err := range w.Tasks {
			if err == nil {
				err = t.check()
			}
			if !yield(pipeline.Task{ID: t.ID, Data: t.Data}, err) {
				return
			}
		}
	})
}

// check returns an error if the task is invalid in a way that package function does not detect.
func (t *Task) check() error {
	switch {
	case !utf8.ValidString(t.ID):
		return fmt.Errorf("task %q: ID is not valid UTF-8", t.ID)
	case len(t.Data) > 0 && !rawjson.IsValid(t.Data):
		return fmt.Errorf("task %q: Data is not valid JSON; use NewTask to encode a value", t.ID)
	}
	return nil
}
