package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/config"
)

const loadDescription = `Send the tasks of a task file to the task queue of a job, in concurrent batches. The file
can have any format that "ctworker run" reads: JSON, JSON lines or YAML, also compressed, or
- for standard input.

If loading stops early, because of a signal, a malformed entry or a task that the queue
rejects, ctworker reports the number of loaded tasks, and the value of --tasks-to-skip with which
to continue.

Examples:
   ctworker load --provider AWS --job-id demo --task-file tasks.json --create
   ctworker load --provider AWS --job-id demo --task-file tasks.json --tasks-to-skip 5000 --max-num-tasks 1000`

func (p process) loadCommand(code *int) *cli.Command {
	return p.tool(code, "load", &cli.Command{
		Name:        "load",
		Usage:       "send the tasks of a task file to a queue",
		UsageText:   "ctworker load --task-file FILE [flags]",
		Description: loadDescription,
	}, []string{"task-file", "csv"}, []cli.Flag{
		&cli.BoolFlag{Name: "create", Usage: "Create the queue if it does not exist"},
		&cli.Int64Flag{Name: "tasks-to-skip", Usage: "Skip the first `N` tasks of the file"},
		&cli.Int64Flag{Name: "max-num-tasks", Usage: "Send at most `N` tasks", DefaultText: "no limit", Value: -1},
	}, func(c *cli.Context, t *app.Tool) (int, error) {
		opts := app.LoadOptions{Create: c.Bool("create"), TasksToSkip: c.Int64("tasks-to-skip"), MaxNumTasks: c.Int64("max-num-tasks")}
		switch {
		case t.Config.TaskPath() == "":
			return 0, errors.New("--task-file: give the file that contains the tasks")
		case opts.TasksToSkip < 0:
			return 0, fmt.Errorf("--tasks-to-skip %d: give 0 or more", opts.TasksToSkip)
		case c.IsSet("max-num-tasks") && opts.MaxNumTasks < 0:
			return 0, fmt.Errorf("--max-num-tasks %d: give 0 or more", opts.MaxNumTasks)
		}
		return t.Load(opts), nil
	})
}

const eventsDescription = `Write the events of a job to a file or to standard output, one JSON object per line. Each
event is deleted from the event queue after it is written, so concurrent instances share the
events. The command runs until it receives a signal or, with --idle-timeout, until no event
arrives for that time. It then reports the number of events of each type. If events are
still waiting in the queue at that moment, it reads on. The exit code is 3 if events remain
in the queue that were not delivered, for example because another reader has received them.

Example:
   ctworker events --provider AWS --job-id demo --output results.jsonl`

func (p process) eventsCommand(code *int) *cli.Command {
	return p.tool(code, "events", &cli.Command{
		Name:        "events",
		Usage:       "write the events of a job to a file",
		UsageText:   "ctworker events [flags]",
		Description: eventsDescription,
	}, nil, []cli.Flag{
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "Append the events to `FILE`; - means standard output", Value: "-"},
		&cli.Float64Flag{Name: "idle-timeout", Usage: "Exit after `SECONDS` without an event; 0 disables it"},
	}, func(c *cli.Context, t *app.Tool) (int, error) {
		idle := c.Float64("idle-timeout")
		if !(idle >= 0 && idle < 1e9) {
			return 0, fmt.Errorf("--idle-timeout %v: give a number of seconds, 0 or more", idle)
		}
		if c.String("output") == "" {
			return 0, errors.New("--output: give the name of a file, or - for standard output")
		}
		return t.Events(app.EventsOptions{Output: c.String("output"), Idle: time.Duration(idle * float64(time.Second))}), nil
	})
}

const queueDescription = `A job has two queues: one for its tasks, and one for the events that report their outcomes.`

func (p process) queueCommand(code *int) *cli.Command {
	which := func(events bool) []cli.Flag {
		return []cli.Flag{
			&cli.BoolFlag{Name: "tasks", Usage: "Select the task queue", Value: true},
			&cli.BoolFlag{Name: "events", Usage: "Select the event queue", Value: events},
		}
	}
	yes := &cli.BoolFlag{Name: "yes", Usage: "Do not ask for confirmation"}
	sub := func(name, usage, description string, flags []cli.Flag, do func(*app.Tool, app.QueueOptions) int) *cli.Command {
		return p.tool(code, "queue "+name, &cli.Command{
			Name: name, Usage: usage, UsageText: "ctworker queue " + name + " [flags]", Description: description,
		}, nil, flags, func(c *cli.Context, t *app.Tool) (int, error) {
			opts := app.QueueOptions{Tasks: c.Bool("tasks"), Events: c.Bool("events"), Yes: c.Bool("yes"), JSON: c.Bool("json")}
			if c.IsSet("tasks") != c.IsSet("events") { // if only one of the flags is given, select only that queue
				opts.Tasks, opts.Events = c.IsSet("tasks") && opts.Tasks, c.IsSet("events") && opts.Events
			}
			if !opts.Tasks && !opts.Events {
				return 0, errors.New("no queue is selected: use --tasks, --events or both")
			}
			return do(t, opts), nil
		})
	}
	return &cli.Command{
		Name: "queue", Usage: "show, create, empty or delete a job's queues", Description: queueDescription,
		Subcommands: []*cli.Command{
			sub("status", "show how many messages are in the queues",
				"The numbers are approximate. Messages in flight have been received by a worker. The exit\ncode is 1 if a queue does not exist.",
				append(which(true), &cli.BoolFlag{Name: "json", Usage: "Print a JSON object for each queue"}), (*app.Tool).Status),
			sub("create", "create the queues", "An existing queue is not changed. A new queue retains messages for the longest time that the\nprovider supports.", which(true), (*app.Tool).Create),
			sub("purge", "delete all messages in the task queue or the event queue", "Messages in flight are deleted, too. Without --yes, the command asks for confirmation.", append(which(false), yes), (*app.Tool).Purge),
			sub("delete", "delete the task queue or the event queue", "Without --yes, the command asks for confirmation.", append(which(false), yes), (*app.Tool).Delete),
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.Args().First() == "help":
				return p.helpAbout(c.App, append([]string{"queue"}, c.Args().Tail()...))
			case c.NArg() > 0:
				return unknownCommand(c.Args().First(), "queue", c.Command.Subcommands)
			}
			return &usageError{"no command: give status, create, purge or delete", helpOf("queue")}
		},
	}
}

// tool completes cmd, a command for the queues of a job. The command accepts the flags in the
// argument flags, the flags of the queue settings, and the flags of the settings in extra. The
// parameter do is the function that runs the command.
func (p process) tool(code *int, name string, cmd *cli.Command, extra []string, flags []cli.Flag, do func(*cli.Context, *app.Tool) (int, error)) *cli.Command {
	var line config.Flags
	cmd.Flags = append(flags, config.QueueFlags(&line, extra...)...)
	cmd.Action = func(c *cli.Context) error {
		help := helpOf(name)
		if c.NArg() > 0 {
			return unexpected(c.Args().First(), name, cmd.Flags)
		}
		cfg, err := config.Load(config.Sources{Line: line, LookupEnv: os.LookupEnv, Queue: true})
		if err != nil {
			*code = app.Usage(p.stderr, "ctworker", help, err)
			return nil
		}
		t := &app.Tool{Config: cfg, Stdin: p.stdin, Stdout: p.stdout, Stderr: p.stderr, Name: "ctworker", Help: help}
		if *code, err = do(c, t); err != nil {
			*code = app.Usage(p.stderr, "ctworker", help, err)
		}
		return nil
	}
	return cmd
}
