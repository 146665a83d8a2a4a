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

const loadDescription = `Send the tasks of a task file to the task queue of a job, in batches, several at once.
The file is one that "ctworker run" takes: JSON, JSON lines or YAML, also compressed, or -
for standard input.

When it ends before all are in, by a signal, a broken entry or a task that the queue does
not take, it reports how many are, and the --tasks-to-skip with which to continue.

Examples:
   ctworker load --provider AWS --job-id demo --task-file tasks.json --create
   ctworker load --provider AWS --job-id demo --task-file tasks.json --tasks-to-skip 5000 --max-num-tasks 1000`

func (p process) loadCommand(code *int) *cli.Command {
	return p.tool(code, "load", &cli.Command{
		Name:        "load",
		Usage:       "send the tasks of a task file to a queue",
		UsageText:   "ctworker load --task-file FILE [flags]",
		Description: loadDescription,
	}, []string{"task-file"}, []cli.Flag{
		&cli.BoolFlag{Name: "create", Usage: "create the queue if it is not there"},
		&cli.Int64Flag{Name: "tasks-to-skip", Usage: "skip the first `N` tasks of the file"},
		&cli.Int64Flag{Name: "max-num-tasks", Usage: "send at most `N` tasks", DefaultText: "no limit", Value: -1},
	}, func(c *cli.Context, t *app.Tool) (int, error) {
		opts := app.LoadOptions{Create: c.Bool("create"), TasksToSkip: c.Int64("tasks-to-skip"), MaxNumTasks: c.Int64("max-num-tasks")}
		switch {
		case t.Config.TaskFile == "":
			return 0, errors.New("--task-file: give the file that has the tasks")
		case opts.TasksToSkip < 0:
			return 0, fmt.Errorf("--tasks-to-skip %d: give 0 or more", opts.TasksToSkip)
		case c.IsSet("max-num-tasks") && opts.MaxNumTasks < 0:
			return 0, fmt.Errorf("--max-num-tasks %d: give 0 or more", opts.MaxNumTasks)
		}
		return t.Load(opts), nil
	})
}

const eventsDescription = `Write the events of a job to a file, or to standard output, one JSON object a line, and
delete each from the event queue once it is written: of several that run at once, each
gets a part. It goes on until a signal ends it, or, with --idle-timeout, until there has
been nothing for so long. At its end it says how many there were of each type.

Example:
   ctworker events --provider AWS --job-id demo --output results.jsonl`

func (p process) eventsCommand(code *int) *cli.Command {
	return p.tool(code, "events", &cli.Command{
		Name:        "events",
		Usage:       "follow the events of a job",
		UsageText:   "ctworker events [flags]",
		Description: eventsDescription,
	}, nil, []cli.Flag{
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "append the events to `FILE`; - is standard output", Value: "-"},
		&cli.Float64Flag{Name: "idle-timeout", Usage: "exit after `SECONDS` without an event; 0 disables it"},
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

const queueDescription = `A job has two queues: one of its tasks, and one of the events that tell of them.`

func (p process) queueCommand(code *int) *cli.Command {
	which := func(events bool) []cli.Flag {
		return []cli.Flag{
			&cli.BoolFlag{Name: "tasks", Usage: "the queue of tasks", Value: true},
			&cli.BoolFlag{Name: "events", Usage: "the queue of events", Value: events},
		}
	}
	yes := &cli.BoolFlag{Name: "yes", Usage: "do not ask"}
	sub := func(name, usage, description string, flags []cli.Flag, do func(*app.Tool, app.QueueOptions) int) *cli.Command {
		return p.tool(code, "queue "+name, &cli.Command{
			Name: name, Usage: usage, UsageText: "ctworker queue " + name + " [flags]", Description: description,
		}, nil, flags, func(c *cli.Context, t *app.Tool) (int, error) {
			opts := app.QueueOptions{Tasks: c.Bool("tasks"), Events: c.Bool("events"), Yes: c.Bool("yes"), JSON: c.Bool("json")}
			if c.IsSet("tasks") != c.IsSet("events") { // one is named: that one is meant
				opts.Tasks, opts.Events = c.IsSet("tasks") && opts.Tasks, c.IsSet("events") && opts.Events
			}
			if !opts.Tasks && !opts.Events {
				return 0, errors.New("no queue is left: give --tasks, --events or both")
			}
			return do(t, opts), nil
		})
	}
	return &cli.Command{
		Name: "queue", Usage: "show, create, empty or delete a job's queues", Description: queueDescription,
		Subcommands: []*cli.Command{
			sub("status", "show how many messages are in the queues",
				"The numbers are approximate. IN FLIGHT messages are with a worker. The exit code is 1 if a\nqueue is not there.",
				append(which(true), &cli.BoolFlag{Name: "json", Usage: "print a JSON object for each queue"}), (*app.Tool).Status),
			sub("create", "create the queues", "A queue that is there stays as it is. One that is created keeps its messages for the\nlongest time that the provider has.", which(true), (*app.Tool).Create),
			sub("purge", "delete everything in the queue of tasks, or of events", "What a worker holds at the moment is deleted as well. Without --yes, it asks.", append(which(false), yes), (*app.Tool).Purge),
			sub("delete", "delete the queue of tasks, or of events", "Without --yes, it asks.", append(which(false), yes), (*app.Tool).Delete),
		},
		Action: func(c *cli.Context) error {
			switch {
			case c.Args().First() == "help":
				return p.helpAbout(c.App, append([]string{"queue"}, c.Args().Tail()...))
			case c.NArg() > 0:
				return unknownCommand(c.Args().First(), "queue", c.Command.Subcommands)
			}
			return &usageError{"no command was given: status, create, purge or delete", helpOf("queue")}
		},
	}
}

// tool completes the command of this name, which is about a job's queues: with its
// settings, and those named beside, and flags of its own.
func (p process) tool(code *int, name string, cmd *cli.Command, beside []string, flags []cli.Flag, do func(*cli.Context, *app.Tool) (int, error)) *cli.Command {
	var line config.Flags
	cmd.Flags = append(flags, config.QueueFlags(&line, beside...)...)
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
