package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/internal/redact"
	"github.com/ctworker/ctworker/internal/units"
	"github.com/ctworker/ctworker/pipeline"
)

// dryRunTasks is the number of tasks that DryRun prints.
const dryRunTasks = 10

// dryRunBatch is the number of tasks that DryRun receives at a time.
const dryRunBatch = 256

// DryRun reads all tasks, and prints how the first tasks would run. It runs no task and writes no event. It
// returns an error if a task is invalid, or has no value for a placeholder.
func DryRun(ctx context.Context, opts Options, stdout io.Writer) (err error) {
	w := &Worker{opts: opts}
	switch {
	case w.hasLeases():
		return &ConfigError{errors.New("--dry-run: the tasks come from a queue, and receiving them would hide them from other workers; use --task-file")}
	case opts.ForkServer != nil && opts.ForkServer.Hello.Source != nil && opts.ForkServer.Hello.Source.File == "":
		return &ConfigError{errors.New("--dry-run does not call the program's function that returns the tasks; use --task-file")}
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.openSource(ctx); err != nil {
		return err
	}
	if opts.Config.Resume {
		if err := w.resume(ctx); err != nil {
			return err
		}
	}
	n, err := w.printTasks(ctx, stdout)
	if err != nil {
		return err
	}
	if n > 0 {
		if err := w.printEnvironment(stdout); err != nil {
			return err
		}
	}
	done, _ := w.earlier()
	text := units.Count(n, "task") + " would run"
	if opts.Config.Resume {
		text += fmt.Sprintf(", and %d are done", done)
	}
	_, err = fmt.Fprintf(stdout, "%s; -j %d, time limit of each task %v; nothing was run\n", text, opts.Config.NumSimultaneousTasks, opts.Config.MaxRuntime)
	return err
}

// runsCommands reports whether a command is started for each task.
func (w *Worker) runsCommands() bool {
	return w.opts.ForkServer == nil && w.opts.Runner == nil && !w.opts.TaskProtocol
}

// printEnvironment prints the environment variables that ctworker sets for the tasks.
func (w *Worker) printEnvironment(stdout io.Writer) error {
	text := "environment of each task, in addition to that of ctworker:\n"
	if w.runsCommands() {
		text += "  CTWORKER_TASK_ID, CTWORKER_ATTEMPT\n"
	}
	switch slots := w.opts.Config.NumSimultaneousTasks; {
	case w.opts.Runner != nil: // tasks run in this process
		return nil
	case slots == 1:
		text += "  CTWORKER_SLOT: 0\n"
	default:
		text += fmt.Sprintf("  CTWORKER_SLOT: 0 to %d\n", slots-1)
	}
	for _, variable := range w.opts.Config.TaskSettings(os.Environ()) {
		if name, value, _ := strings.Cut(variable, "="); name != config.OuterVar {
			text += "  " + name + "=" + shellQuote(redact.Text(value)) + "\n"
		}
	}
	return w.print(stdout, text)
}

// print prints text, which may contain data of tasks. It escapes control characters with Options.Printable.
func (w *Worker) print(stdout io.Writer, text string) error {
	if w.opts.Printable != nil {
		text = w.opts.Printable(text)
	}
	_, err := io.WriteString(stdout, text)
	return err
}

// printTasks prints the first tasks, checks all, and returns their number.
func (w *Worker) printTasks(ctx context.Context, stdout io.Writer) (n int64, err error) {
	limit := limitOf(w.opts.Config)
	skip := w.skip()
	for {
		ds, err := w.source.Receive(ctx, dryRunBatch)
		for _, d := range ds {
			if skip > 0 {
				skip--
				continue
			}
			if limit >= 0 && n == limit {
				return n, nil
			}
			if err := w.printTask(stdout, d, n < dryRunTasks); err != nil {
				return n, err
			}
			n++
		}
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, fmt.Errorf("source: %w", err)
		}
	}
}

// printTask checks a task, and prints it if show is true.
func (w *Worker) printTask(stdout io.Writer, d *pipeline.Delivery, show bool) error {
	line := "  data: " + string(d.Task.Data)
	if w.runsCommands() {
		argv, err := procexec.Expand(w.opts.Argv, procexec.Task{ID: d.Task.ID, Data: d.Task.Data, Attempt: d.Attempt})
		if err != nil && !w.opts.Config.AllowMissingKeys {
			return fmt.Errorf("task %q: %w", d.Task.ID, err)
		}
		if line = "  " + shellCommand(argv); err != nil {
			line = "  exception: " + err.Error()
		}
	}
	if !show {
		return nil
	}
	return w.print(stdout, fmt.Sprintf("%s (attempt %d)\n%s\n", d.Task.ID, d.Attempt, line))
}
