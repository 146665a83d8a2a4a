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
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/function"
)

// Main is the whole of a worker program: it reads the command line, runs f for each
// task, and ends the process with the run's exit code. It does not return.
//
// Call it first thing in main: what comes before it is run by each child as well.
// The exit codes are those of the command: 0 when the run came to its end,
// whatever the tasks said; 1 for a fatal error or broken input; 2 for a command
// line or settings that cannot be used; 3 with --strict if a task did not complete;
// 130 or 143 after SIGINT or SIGTERM.
func Main(f Func, opts ...Option) {
	procexec.RunGuard() // does not return in the process that is the guard
	if f == nil {
		panic("ctworker: Main was given no function")
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

// An Option changes what Main does.
type Option func(*application)

// WithFlags adds the program's own flags, which may be mixed with the worker's on
// the command line, and are shown by --help. They are set before the first task is
// run and before the task source is asked for the first one, in each process.
// flags may be flag.CommandLine. A flag of the same name as one of the worker's is an
// error.
func WithFlags(flags *flag.FlagSet) Option { return func(w *application) { w.flags = flags } }

// WithTasks takes the tasks from a sequence, and not from --task-file, which is
// ignored, or a queue. The sequence is asked for a task when there is room for one,
// by one goroutine of the engine, and never in a child; so one without an end costs
// no memory. An error ends the run, after the tasks before it have been run.
func WithTasks(tasks iter.Seq2[Task, error]) Option { return func(w *application) { w.tasks = tasks } }

// InProcess runs the tasks in this process, and starts none: for functions that share
// something large, or for a debugger. The function is then called by as many
// goroutines at once as --num-simultaneous-tasks says. It cannot be killed: what
// does not heed its context is left behind, --kill-delay after the context's end,
// and goes on; and what ends the process, such as os.Exit, ends the run.
func InProcess() Option { return func(w *application) { w.inProcess = true } }

// WithName sets what help and messages call the program. Default: the name it was
// started by.
func WithName(name string) Option { return func(w *application) { w.name = name } }

// WithDescription sets what help says of the program.
func WithDescription(text string) Option { return func(w *application) { w.description = text } }

// worker is a worker program.
type application struct {
	f                 Func
	name, description string
	flags             *flag.FlagSet // the program's own; nil: none
	tasks             iter.Seq2[Task, error]
	inProcess         bool
}

// child runs tasks that the engine hands over, and returns the exit code.
func (w *application) child(args []string) int {
	given, err := w.parse(args)
	if err != nil {
		return w.usage(err)
	}
	c, err := newChild()
	if err != nil {
		return w.usage(err)
	}
	code, err := c.run(w.f, given.rest)
	if err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "%s: %v\n", w.name, err)
	}
	return code
}

func (w *application) usage(err error) int {
	return app.Usage(os.Stderr, w.name, w.name+" --help", err)
}

// engine reads tasks and has them run, and returns the exit code.
func (w *application) engine(args []string) int {
	code := app.ExitOK
	given, faults := w.parse(args)
	line, wrong := config.Normalize(append(given.worker, "--"), w.ownNames()...)
	var known config.Flags
	app := &cli.App{
		Name:                  w.name,
		HelpName:              w.name,
		UsageText:             w.name + " [flags] [ARGS…]",
		Description:           w.describe(),
		Flags:                 append(w.ownFlags(), config.ProgramFlags(&known)...),
		HideHelpCommand:       true,
		HideVersion:           true,
		CustomAppHelpTemplate: config.HelpTemplate,
		Writer:                os.Stdout,
		ErrWriter:             os.Stderr,
		ExitErrHandler:        func(*cli.Context, error) {},
		OnUsageError:          func(_ *cli.Context, err error, _ bool) error { return err },
		Action: func(*cli.Context) error {
			cfg, err := config.Load(config.Sources{
				Line: known, Faults: wrong, LookupEnv: os.LookupEnv, TaskSource: w.tasks != nil, Program: true,
			})
			if err := errors.Join(faults, err); err != nil {
				return errors.Join(err, given.misplaced())
			}
			if cfg.PrintConfig {
				return cfg.Print(os.Stdout)
			}
			code, err = w.run(cfg, args, given.rest)
			return err
		},
	}
	if err := app.Run(append([]string{w.name}, line...)); err != nil {
		return w.usage(err)
	}
	return code
}

// describe is the description that help shows.
func (w *application) describe() string {
	const settings = `Each setting is taken from the command line, else from its environment variable,
else from the config file, else it has its default.`
	if w.description == "" {
		return settings
	}
	return w.description + "\n\n" + settings
}

// run runs the tasks. args is the whole command line, and rest what follows its
// flags.
func (w *application) run(cfg *config.Config, args, rest []string) (int, error) {
	opts := app.Options{
		Stdin: os.Stdin, Stderr: os.Stderr, Name: w.name, Help: w.name + " --help",
		// What the user's functions do in this process is not ours to know.
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
		data.Args = rest
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
		return 0, fmt.Errorf("the program that is to be started again: %w", err)
	}
	opts.Argv, opts.Reuse = append([]string{self}, args...), true
	return app.Run(cfg, opts), nil
}

// source is the program's task source.
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

// check says what the task source's own check does not find.
func (t *Task) check() error {
	switch {
	case !utf8.ValidString(t.ID):
		return fmt.Errorf("task %q: the ID is not UTF-8", t.ID)
	case len(t.Data) > 0 && !json.Valid(t.Data):
		return fmt.Errorf("task %q: Data is not JSON; NewTask encodes a value as it", t.ID)
	}
	return nil
}
