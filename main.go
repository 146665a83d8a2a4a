package ctworker

import (
	"context"
	"flag"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/ctworker/ctworker/internal/sdk"
	"github.com/ctworker/ctworker/internal/worker"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// Main runs a worker program: it parses the command line, runs f for each task, and exits with the
// exit code of the run. It does not return.
//
// Call Main at the start of the main function, because each child process also executes the code
// before that call. The exit codes are those of the command ctworker: 0 if the run finished,
// whatever the outcomes of the tasks; 1 for a fatal error or broken input; 2 for an invalid command
// line or invalid settings; 3 with --strict if a task did not complete; 4 if too many tasks failed,
// according to --max-failures or --max-consecutive-failures; 130 or 143 after SIGINT or SIGTERM.
func Main(f Func, opts ...Option) { newProgram("Main", f, opts).Main() }

// Run runs f for each task and returns when the run has ended. Use it instead of Main in a program
// that does something else before or after the run. Run reads the settings from the environment
// variables and from WithArgs, and writes the log and the progress to standard error. Run handles
// no signals. When ctx is done, the run is shut down in the same way as with Main after SIGTERM.
//
// The error is the reason why the run failed. If a setting is invalid, Run returns an error and runs
// no task. If ctx was done, or if tasks failed, Run returns no error: see Summary.
//
// Tasks run in child processes, which execute the program from its start to the call of Run. In a
// child process, Run does not return. Code before the call of Run therefore also runs in each child
// process. With the option InProcess, there are no child processes. Without InProcess, a program can
// call Run only once, and a test cannot call it.
func Run(ctx context.Context, f Func, opts ...Option) (Summary, error) {
	p := newProgram("Run", f, opts)
	s, err := p.Program.Run(ctx, p.args)
	if s == nil {
		return Summary{}, err
	}
	return Summary{
		Counts: s.Counts, Malformed: s.Malformed, Unsettled: s.Unsettled, Elapsed: s.Elapsed, Finished: err == nil && s.Finished() && !s.Stopped,
	}, err
}

// Summary is the outcome of a run.
type Summary struct {
	// Counts are the numbers of tasks by outcome.
	stages.Counts
	// Malformed is the number of malformed messages of the task queue that were reported.
	Malformed int64
	// Unsettled is the number of tasks whose events were not written, or that were not settled,
	// before the end of a shutdown. A queue delivers these tasks again.
	Unsettled int64
	Elapsed   time.Duration
	// Finished reports whether all tasks have been run and reported. It is true even if tasks did not
	// complete. It is false if the run was shut down, or failed, before all tasks had ended.
	Finished bool
}

func newProgram(caller string, f Func, opts []Option) *program {
	if f == nil {
		panic("ctworker: " + caller + " called with a nil function")
	}
	p := &program{Program: sdk.Program{
		Func: f.run, NewWorker: newWorkerData, Name: filepath.Base(os.Args[0]), Version: Version,
	}}
	for _, opt := range opts {
		opt(p)
	}
	return p
}

// run adapts f to package sdk. Its frame is omitted from the stack of a panic in f.
func (f Func) run(ctx context.Context, t sdk.Task) (any, error) {
	worker, _ := t.Worker.(*WorkerData) // newWorkerData returns nothing else
	return f(ctx, &Task{ID: t.ID, Data: t.Data, Attempt: t.Attempt, worker: worker})
}

// Option is an option of Main and Run.
type Option func(*program)

// program collects the options of a worker program.
type program struct {
	sdk.Program
	args []string
}

// WithArgs sets the arguments of Run: flags of the worker, flags of WithFlags, and arguments for the
// tasks (see WorkerData.Args). For example, pass os.Args[1:]. Main ignores WithArgs and uses the
// command line. Defaults to no arguments.
func WithArgs(args []string) Option { return func(p *program) { p.args = args } }

// WithFlags adds the program's own flags. On the command line they may be mixed with the flags of the
// worker, and --help lists them. In each process, the program's own flags are set before the first
// task runs, and before the first task is requested from the task source. flags may be
// flag.CommandLine. A program flag with the name of a flag of the worker causes an error.
func WithFlags(flags *flag.FlagSet) Option { return func(p *program) { p.Flags = flags } }

// WithTasks reads the tasks from a sequence. A configured task queue or --task-file is ignored. The
// engine reads the sequence in one goroutine, and only as fast as the tasks run, so even an infinite
// sequence needs little memory. The sequence is never read in a child process. If the sequence yields
// an error, the run ends after the tasks before that error have run.
func WithTasks(tasks iter.Seq2[Task, error]) Option {
	return func(p *program) {
		p.Tasks = func(yield func(sdk.Task, error) bool) {
			for t, err := range tasks {
				if !yield(sdk.Task{ID: t.ID, Data: t.Data}, err) {
					return
				}
			}
		}
	}
}

// WithSource takes the tasks from a source of the program instead of a queue or --task-file. open is
// called once, in the engine. The run closes the source. The run extends the leases of the tasks,
// each time by the duration of --lease. WithSource overrides WithTasks.
func WithSource(open func(ctx context.Context) (pipeline.Source, error)) Option {
	return func(p *program) { p.OpenSource = open }
}

// WithSink writes the events to a sink of the program, in addition to the event log file and the
// event queue. To write no file, use --no-event-log-to-file. open is called once, in the engine. The
// run closes the sink. If the sink fails, the run fails. WithSink may be used several times.
func WithSink(open func(ctx context.Context) (pipeline.Sink, error)) Option {
	return func(p *program) { p.OpenSinks = append(p.OpenSinks, open) }
}

// WithStage adds a stage before the execution, for example to drop or change tasks. The stage runs
// in the engine. name appears in errors and in the log. WithStage may be used several times; the
// stages are added in the order of these options.
func WithStage(name string, stage pipeline.Stage[*pipeline.Delivery, *pipeline.Delivery]) Option {
	return func(p *program) { p.Stages = append(p.Stages, worker.Stage{Name: name, Stage: stage}) }
}

// InProcess runs the tasks in this process instead of child processes, for functions that share large
// data, for tests, or for debugging. The function is then called concurrently from as many goroutines
// as --num-simultaneous-tasks. The function cannot be killed: if it does not return within
// --kill-delay after its context is done, it is abandoned and continues in the background. A call
// that ends the process, such as os.Exit, ends the run.
func InProcess() Option { return func(p *program) { p.InProcess = true } }

// WithName sets the name of the program in help and messages. Defaults to the base name of os.Args[0].
func WithName(name string) Option { return func(p *program) { p.Name = name } }

// WithDescription sets the description of the program in help.
func WithDescription(text string) Option { return func(p *program) { p.Description = text } }
