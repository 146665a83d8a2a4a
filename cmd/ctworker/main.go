// Command ctworker runs a command over a very large set of tasks, in parallel,
// each in a process of its own. See the README, or "ctworker run --help".
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker"
	"github.com/ctworker/ctworker/procexec"
)

// The exit codes. Beside them, a run that a signal interrupted ends with 128 and
// the signal's number: 130 for SIGINT, 143 for SIGTERM.
const (
	exitOK     = 0 // the run came to its end, whatever the tasks said
	exitFatal  = 1 // a fatal error, or broken input
	exitUsage  = 2 // the command line or the configuration
	exitStrict = 3 // with --strict: not every task completed
)

func main() {
	procexec.RunGuard() // does not return in the process that is the guard
	// A processor of the scheduler is held while a process is being started
	// (vfork), so there is one more than CPUs; a fifth is gained for short tasks.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	os.Exit(program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}.main(os.Args))
}

// program is one invocation.
type program struct {
	stdin          io.Reader
	stdout, stderr *os.File
}

// main runs the command line and returns the exit code.
func (p program) main(args []string) int {
	code := exitOK
	args, faults := normalized(args)
	app := &cli.App{
		Name:            "ctworker",
		Usage:           "run a command over a very large set of tasks, and lose none of them",
		Version:         ctworker.Version,
		Writer:          p.stdout,
		ErrWriter:       p.stderr,
		HideHelpCommand: true,
		Suggest:         true,
		Commands:        []*cli.Command{p.runCommand(faults, &code)},
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return err },
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return fmt.Errorf("%q is no command of ctworker%s", c.Args().First(), didYouMean(c))
			}
			_ = cli.ShowAppHelp(c)
			return errors.New("no command was given")
		},
	}
	if err := app.Run(args); err != nil {
		return p.usage(err)
	}
	return code
}

func didYouMean(c *cli.Context) string {
	if s := cli.SuggestCommand(c.App.Commands, c.Args().First()); s != "" {
		return "; " + strings.TrimSpace(s)
	}
	return ""
}

// usage reports what is wrong with the command line or the configuration, a
// line a fault.
func (p program) usage(err error) int {
	for line := range strings.SplitSeq(strings.TrimRight(err.Error(), "\n"), "\n") {
		_, _ = fmt.Fprintf(p.stderr, "ctworker: %s\n", line)
	}
	_, _ = fmt.Fprintln(p.stderr, `ctworker: nothing was run; see "ctworker run --help"`)
	return exitUsage
}
