package config_test

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/help"
)

// run passes args to an app, as the command does. It returns the settings, the user's command, and
// the output of the app. Tests that call run are not parallel, because all apps share the library's
// global help flag.
func run(t *testing.T, args ...string) (cfg *config.Config, err error, command []string, output string) {
	t.Helper()
	var b strings.Builder
	var line config.Flags
	fixed, faults := config.Normalize(args)
	app := &cli.App{
		Name:      "ctworker",
		Writer:    &b,
		ErrWriter: &b,
		Commands: []*cli.Command{{
			Name:            "run",
			Flags:           config.FlagsOf(&line),
			HideHelpCommand: true,
			Action: func(ctx *cli.Context) error {
				command = ctx.Args().Slice()
				cfg, err = config.Load(config.Sources{Line: line, Faults: faults})
				return nil
			},
		}},
	}
	if err := app.Run(append([]string{"ctworker", "run"}, fixed...)); err != nil {
		t.Fatalf("run %q: %v\n%s", args, err, b.String())
	}
	return cfg, err, command, b.String()
}

func TestInAnApp(t *testing.T) {
	cfg, err, command, output := run(t,
		"--task-file", "tasks.json", "--retry-on-exit", "--no-retry-on-exit", "--no-is-spot", "--is-spot=true",
		"-j", "3", "--num-simultaneous-tasks", "4", "-j5", "--verbose", "--strict=false", "--max-runtime=1.5",
		"--", "COMMAND", "-x", "--max-runtime", "args", "--", "-j9")
	if err != nil || output != "" {
		t.Fatalf("error %v, output %q", err, output)
	}
	if cfg.TaskFile != "tasks.json" || cfg.RetryOnExit || !cfg.IsSpot || cfg.NumSimultaneousTasks != 5 || !cfg.Verbose ||
		cfg.Strict || cfg.MaxRuntime != 3*sec/2 {
		t.Errorf("got %+v", cfg)
	}
	if want := []string{"COMMAND", "-x", "--max-runtime", "args", "--", "-j9"}; !slices.Equal(command, want) {
		t.Errorf("the command is %q, want %q", command, want)
	}
}

func TestInAnAppAllFaults(t *testing.T) {
	_, err, command, output := run(t,
		"--max-runtim", "5", "--max-runtime", "ten", "-j0", "--is-spot=maybe", "--task-file=", "--price=x", "--", "help", "-h")
	if err == nil || strings.Count(err.Error(), "\n") != 5 {
		t.Errorf("got\n%v\nwant six faults", err)
	}
	if output != "" || !slices.Equal(command, []string{"help", "-h"}) {
		t.Errorf("output %q, command %q", output, command)
	}
}

// The help contains each setting, in the order of the table, with its default and variable.
func TestHelp(t *testing.T) {
	var line config.Flags
	c := help.OfCommand("ctworker", &cli.Command{Name: "run", Flags: config.FlagsOf(&line)})
	text := strings.Join(strings.Fields(c.Full(80)), " ")
	at := 0
	for _, want := range []string{ // in this order
		"Flags (tasks): --task-file FILE Take the tasks from this JSON, YAML or CSV file instead of a queue; a local file, or a gs://, s3:// or http(s):// " +
			"address [$RMS_CLOUD_TASKS_TASK_FILE]",
		"Flags (queue):",
		"--queue-name NAME Use the task queue with this name (default: the job ID) [$RMS_CLOUD_TASKS_QUEUE_NAME]",
		"Flags (events):",
		"Flags (instance):",
		"Flags (running): --num-simultaneous-tasks, -j N|auto ",
		"--max-runtime SECONDS Kill a task that runs longer than this (default: 600) [$RMS_CLOUD_TASKS_MAX_RUNTIME]",
		"Flags (retry): --retry-on-exit, --no-retry-on-exit Retry a task whose event is task_exited, for example after exit code 1 or a crash (default: false) " +
			"[$RMS_CLOUD_TASKS_RETRY_ON_EXIT]",
		"Flags (spot):",
		"Flags (output): --verbose, -v The same as --log-level debug [$RMS_CLOUD_TASKS_VERBOSE]",
	} {
		i := strings.Index(text[at:], want)
		if i < 0 {
			t.Fatalf("%q is missing or out of order in\n%s", want, text)
		}
		at += i + len(want)
	}
	for _, k := range every {
		if strings.Count(text, " --"+k.flag+" ")+strings.Count(text, " --"+k.flag+", ") < 1 {
			t.Errorf("--%s is missing in\n%s", k.flag, text)
		}
		if k.env != "" && strings.Count(text, "[$"+k.env+"]") != 1 {
			t.Errorf("%s is not once in\n%s", k.env, text)
		}
	}
}

// The short help contains about ten settings, because a longer list would not be short.
func TestHelp_CommonFlagsAreFew(t *testing.T) {
	t.Parallel()
	n := 0
	for _, f := range config.FlagsOf(&config.Flags{}) {
		if d := help.DescribeFlag(f); d.Common && d.Names[0] == f.Names()[0] {
			n++
		}
	}
	if n < 8 || n > 12 {
		t.Errorf("%d common settings, want 8 to 12", n)
	}
}

func TestLoadByDefaultReadsFilesOfTheSystem(t *testing.T) {
	name := t.TempDir() + "/worker.yaml"
	if err := os.WriteFile(name, []byte("task-file: t\nmax-runtime: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err, _, _ := run(t, "--config", name)
	if err != nil || cfg.MaxRuntime != 7*sec || cfg.TaskFile != "t" {
		t.Errorf("got %+v, error %v", cfg, err)
	}
	_, err, _, _ = run(t, "--config", name+".missing", "--task-file=t")
	if err == nil || strings.Count(err.Error(), name) != 1 || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got the error %v", err)
	}
}

func TestFlagsDescribeThemselves(t *testing.T) {
	line := config.Flags{{Name: "verbose", Value: "true"}}
	for _, f := range config.FlagsOf(&line) {
		doc, ok := f.(cli.DocGenerationFlag)
		if !ok {
			t.Fatalf("%v does not implement DocGenerationFlag", f.Names())
		}
		if doc.GetUsage() == "" || (doc.TakesValue() && strings.HasPrefix(f.Names()[0], "no-") && f.Names()[0] != "no-retry-on-exit-codes") {
			t.Errorf("%v: usage %q, takes a value: %v", f.Names(), doc.GetUsage(), doc.TakesValue())
		}
		if got, want := f.IsSet(), f.Names()[0] == "verbose"; got != want {
			t.Errorf("%v: IsSet is %v, want %v", f.Names(), got, want)
		}
	}
	if err := (&cli.App{Writer: io.Discard, Flags: config.FlagsOf(&line)}).Run([]string{"ctworker", "--help"}); err != nil {
		t.Errorf("help without the template: %v", err)
	}
}
