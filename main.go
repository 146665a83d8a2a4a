package ctworker

import (
	"context"
	"flag"
	"iter"
	"os"
	"path/filepath"

	"github.com/ctworker/ctworker/internal/sdk"
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
	if f == nil {
		panic("ctworker: Main called with a nil function")
	}
	p := program{sdk.Program{
		Func: f.run, NewWorker: newWorkerData, Name: filepath.Base(os.Args[0]), Version: Version,
	}}
	for _, opt := range opts {
		opt(&p)
	}
	p.Main()
}

// run adapts f to package sdk. Its frame is omitted from the stack of a panic in f.
func (f Func) run(ctx context.Context, t sdk.Task) (any, error) {
	worker, _ := t.Worker.(*WorkerData) // newWorkerData returns nothing else
	return f(ctx, &Task{ID: t.ID, Data: t.Data, Attempt: t.Attempt, worker: worker})
}

// Option is an option of Main.
type Option func(*program)

// program is a worker program under construction.
type program struct{ sdk.Program }

// WithFlags adds the program's own flags. On the command line they may be mixed with the
// flags of the worker, and --help lists them. They are set in each process before the first
// task runs and before the first task is requested from the task source. flags may be
// flag.CommandLine. A flag with the name of a flag of the worker is an error.
func WithFlags(flags *flag.FlagSet) Option { return func(p *program) { p.Flags = flags } }

// WithTasks reads the tasks from a sequence instead of a queue or --task-file, which is
// ignored. One goroutine of the engine requests a task when there is room for it, so an
// infinite sequence needs no memory. The sequence is never read in a child process. An
// error ends the run after the tasks before it have run.
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

// InProcess runs the tasks in this process instead of child processes, for functions that
// share large data, or for debugging. The function is then called concurrently from as many
// goroutines as --num-simultaneous-tasks. It cannot be killed: a function that does not
// return within --kill-delay after its context is done is abandoned and continues in the
// background. Whatever ends the process, such as os.Exit, ends the run.
func InProcess() Option { return func(p *program) { p.InProcess = true } }

// WithName sets the name of the program in help and messages. Defaults to the base name of
// os.Args[0].
func WithName(name string) Option { return func(p *program) { p.Name = name } }

// WithDescription sets the description of the program in help.
func WithDescription(text string) Option { return func(p *program) { p.Description = text } }
