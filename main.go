package ctworker

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"path/filepath"
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
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/function"
)

// Main runs a worker program: it parses the command line, runs f for each task, and exits
// with the exit code of the run. It does not return.
//
// Call Main at the start of the main function, because each child process executes the code
// before it as well. The exit codes are those of the command ctworker: 0 if the run
// finished, whatever the outcomes of the tasks; 1 for a fatal error or broken input; 2 for
// an invalid command line or invalid settings; 3 with --strict if a task did not complete;
// 130 or 143 after SIGINT or SIGTERM.
func Main(f Func, opts ...Option) {
	procexec.RunGuard() // does not return in the guard process
	if f == nil {
		panic("ctworker: Main called with a nil function")
	}
	p := &application{f: f, name: filepath.Base(os.Args[0])}
	for _, opt := range opts {
		opt(p)
	}
	if isChild() {
		os.Exit(p.child(os.Args[1:]))
	}
	if code := app.Begin(os.Stderr, p.name); code != app.ExitOK {
		os.Exit(code)
	}
	os.Exit(p.engine(os.Args[1:]))
}

// Option is an option of Main.
type Option func(*application)

// WithFlags adds the program's own flags. On the command line they may be mixed with the
// flags of the worker, and --help lists them. They are set in each process before the first
// task runs and before the first task is requested from the task source. flags may be
// flag.CommandLine. A flag with the name of a flag of the worker is an error.
func WithFlags(flags *flag.FlagSet) Option { return func(w *application) { w.flags = flags } }

// WithTasks reads the tasks from a sequence instead of a queue or --task-file, which is
// ignored. One goroutine of the engine requests a task when there is room for it, so an
// infinite sequence needs no memory. The sequence is never read in a child process. An
// error ends the run after the tasks before it have run.
func WithTasks(tasks iter.Seq2[Task, error]) Option { return func(w *application) { w.tasks = tasks } }

// InProcess runs the tasks in this process instead of child processes, for functions that
// share large data, or for debugging. The function is then called concurrently from as many
// goroutines as --num-simultaneous-tasks. It cannot be killed: a function that does not
// return within --kill-delay after its context is done is abandoned and continues in the
// background. Whatever ends the process, such as os.Exit, ends the run.
func InProcess() Option { return func(w *application) { w.inProcess = true } }

// WithName sets the name of the program in help and messages. Defaults to the base name of
// os.Args[0].
func WithName(name string) Option { return func(w *application) { w.name = name } }

// WithDescription sets the description of the program in help.
func WithDescription(text string) Option { return func(w *application) { w.description = text } }

// application is a worker program.
type application struct {
	f                 Func
	name, description string
	flags             *flag.FlagSet // the program's own flags, or nil
	tasks             iter.Seq2[Task, error]
	inProcess         bool
}

// child runs the tasks that the engine sends, and returns the exit code.
func (w *application) child(args []string) int {
	parsed, err := w.parse(args)
	if err != nil {
		return w.usage(err)
	}
	c, err := newChild()
	if err != nil {
		return w.usage(err)
	}
	code, err := c.run(w.f, parsed.args)
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", w.name, err)
	}
	return code
}

func (w *application) usage(err error) int {
	return app.Usage(os.Stderr, w.name, w.name+" --help", err)
}

// engine runs the engine and returns the exit code.
func (w *application) engine(args []string) int {
	code := app.ExitOK
	parsed, faults := w.parse(args)
	line, wrong := config.Normalize(append(parsed.engine, "--"), append(w.ownNames(), versionFlag)...)
	var known config.Flags
	asked := questions{version: parsed.version}
	a := &cli.App{
		Name:           w.name,
		HelpName:       w.name,
		Usage:          summary,
		UsageText:      w.name + " [flags] [ARGS…]",
		Description:    w.describe(),
		Flags:          slices.Concat(w.ownFlags(), config.ProgramFlags(&known, config.Go), w.questionFlags(&asked)),
		HideHelp:       true,
		HideVersion:    true,
		Writer:         os.Stdout,
		ErrWriter:      os.Stderr,
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return err },
	}
	if shell, ok := completionShell(args); ok {
		text, err := help.OfApp(a).Completion(shell, w.name)
		if err != nil {
			return w.usage(err)
		}
		return w.print(text)
	}
	a.Action = func(*cli.Context) error {
		if text := w.answer(asked, a); text != "" {
			code = w.print(text)
			return nil
		}
		cfg, err := config.Load(config.Sources{
			Line: known, Faults: wrong, LookupEnv: os.LookupEnv, TaskSource: w.tasks != nil, SDK: config.Go,
		})
		if err := errors.Join(faults, err); err != nil {
			return errors.Join(err, parsed.misplaced())
		}
		if cfg.PrintConfig {
			code = w.written(cfg.Print(os.Stdout))
			return nil
		}
		code, err = w.run(cfg, args, parsed.args)
		return err
	}
	if err := a.Run(append([]string{w.name}, line...)); err != nil {
		return w.usage(err)
	}
	return code
}

// run runs the tasks. args is the whole command line, and taskArgs the arguments after its
// flags.
func (w *application) run(cfg *config.Config, args, taskArgs []string) (int, error) {
	opts := app.Options{
		Stdin: os.Stdin, Stderr: os.Stderr, Name: w.name, Help: w.name + " --help",
		// The user's functions may start processes in this one.
		OwnsProcess: !w.inProcess && w.tasks == nil,
	}
	if w.tasks != nil {
		opts.Source = w.source()
	}
	if w.inProcess {
		cloudqueue.FindInstance(context.Background(), cfg)
		data, err := parseWorkerData(cfg.WorkerData())
		if err != nil {
			return 0, err
		}
		data.Args = taskArgs
		// A ctworker that a task starts inherits the environment of this process. The variable
		// tells it to ignore the settings of this run.
		for _, variable := range cfg.TaskSettings(os.Environ()) {
			if value, ok := strings.CutPrefix(variable, config.OuterVar+"="); ok {
				_ = os.Setenv(config.OuterVar, value)
			}
		}
		var terminated atomic.Bool
		data.termination = terminated.Load
		opts.OnTermination = func() { terminated.Store(true) }
		opts.Runner = newInProcess(w.f, data, cfg.KillDelay, cfg.MaxResultSize)
		return app.Run(cfg, opts), nil
	}
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("path of this executable: %w", err)
	}
	opts.Argv, opts.TaskProtocol = append([]string{self}, args...), true
	return app.Run(cfg, opts), nil
}

// source returns the source for WithTasks.
func (w *application) source() pipeline.Source {
	return function.New(func(yield func(pipeline.Task, error) bool) {
		for t, err := range w.tasks {
			if err == nil {
				err = t.check()
			}
			if !yield(pipeline.Task{ID: t.ID, Data: t.Data}, err) {
				return
			}
		}
	})
}

// check returns an error for an invalid task that package function does not detect.
func (t *Task) check() error {
	switch {
	case !utf8.ValidString(t.ID):
		return fmt.Errorf("task %q: ID is not valid UTF-8", t.ID)
	case len(t.Data) > 0 && !json.Valid(t.Data):
		return fmt.Errorf("task %q: Data is not valid JSON; use NewTask to encode a value", t.ID)
	}
	return nil
}
