package ctworker_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/ctworker/ctworker"
	"github.com/ctworker/ctworker/internal/procexec"
)

// programVar is the environment variable that selects the program which the test binary
// runs.
const programVar = "TEST_BE_PROGRAM"

func TestMain(m *testing.M) {
	procexec.RunGuard() // the guard process is this binary
	if name := os.Getenv(programVar); name != "" {
		programs[name]()
		panic("Main returned")
	}
	os.Exit(m.Run())
}

// programs are worker programs like those of users.
var programs = map[string]func(){
	"behave": func() { ctworker.Main(behave, ctworker.WithName("behave")) },
	"chdir": func() {
		if err := os.Chdir(os.Getenv("TEST_DIR")); err != nil {
			panic(err)
		}
		ctworker.Main(behave)
	},
	"in-process": func() { ctworker.Main(behave, ctworker.InProcess()) },
	"flags":      func() { withFlags() },
	"flags-in-process": func() {
		withFlags(ctworker.InProcess())
	},
	"conflict": func() {
		flags := flag.NewFlagSet("", flag.ExitOnError)
		flags.Int("max-runtime", 0, "")
		flags.Bool("help", false, "")
		ctworker.Main(behave, ctworker.WithFlags(flags))
	},
	"own-version": func() {
		flags := flag.NewFlagSet("", flag.ExitOnError)
		flags.String("version", "1", "the data's version")
		ctworker.Main(behave, ctworker.WithFlags(flags))
	},
	"source":            func() { ctworker.Main(behave, ctworker.WithTasks(numbers)) },
	"source-in-process": func() { ctworker.Main(behave, ctworker.WithTasks(numbers), ctworker.InProcess()) },
	"broken-source": func() {
		ctworker.Main(behave, ctworker.WithTasks(func(yield func(ctworker.Task, error) bool) {
			_ = yield(ctworker.NewTask("a", action{Do: "worker"})) && yield(ctworker.Task{}, errors.New("the list is gone"))
		}))
	},
	"run":            func() { runProgram(nil) },
	"run-in-process": func() { runProgram([]string{"-j", "2"}, ctworker.InProcess()) },
	"bad-data": func() {
		ctworker.Main(behave, ctworker.WithTasks(func(yield func(ctworker.Task, error) bool) {
			yield(ctworker.Task{ID: "a", Data: []byte("{no json")}, nil)
		}))
	},
}

// withFlags is a program with its own flags.
func withFlags(opts ...ctworker.Option) {
	flags := flag.NewFlagSet("flags", flag.ExitOnError)
	threshold := flags.Float64("threshold", 0.5, "cut off below this `value`")
	loud := flags.Bool("loud", false, "be verbose")
	out := flags.String("o", "", "write to this `file`")
	show := func(_ context.Context, t *ctworker.Task) (ctworker.Result, error) {
		return spaced(*threshold, *loud, *out, t.Worker().Args, flags.Args()), nil
	}
	ctworker.Main(show, append(opts, ctworker.WithFlags(flags), ctworker.WithName("flags"), ctworker.WithDescription("Cut things off."))...)
}

// numbers is an infinite task source.
func numbers(yield func(ctworker.Task, error) bool) {
	for i := 0; yield(ctworker.NewTask(fmt.Sprint("n", i), action{Do: "echo", N: i})); i++ {
	}
}

// action is the data of a task of the function behave.
type action struct {
	Do string
	N  int
}

// calls is the number of calls in this process.
var calls atomic.Int64

type ownError struct{ code int }

func (e *ownError) Error() string { return "code " + strconv.Itoa(e.code) }

type panickingError struct{}

func (*panickingError) Error() string { panic("not even an error") }

type panickingResult struct{}

func (panickingResult) MarshalJSON() ([]byte, error) { panic("no JSON today") }

// behave performs the action of its task.
func behave(ctx context.Context, t *ctworker.Task) (ctworker.Result, error) {
	var o action
	if err := t.Decode(&o); err != nil {
		return nil, err
	}
	n := calls.Add(1)
	switch o.Do {
	case "echo":
		return t.Data, nil
	case "nil":
		return nil, nil
	case "text":
		return "a <b> \"c\"\n\u00e4\u2028", nil
	case "retry":
		return ctworker.Retry(map[string]int{"n": o.N}), nil
	case "error":
		return "lost", fmt.Errorf("task %s: %w", t.ID, &fs.PathError{Op: "open", Path: "x", Err: syscall.ENOENT})
	case "permanent":
		return nil, fmt.Errorf("task %s: %w", t.ID, ctworker.Permanent(&ownError{3}))
	case "joined":
		return nil, fmt.Errorf("both: %w", errors.Join(errors.New("first"), fmt.Errorf("second: %w", &ownError{7})))
	case "panicking error":
		return nil, &panickingError{}
	case "nil error":
		var e *ownError
		return nil, fmt.Errorf("typed: %w", e)
	case "panic":
		panics(o.N)
	case "panic error":
		panic(fmt.Errorf("wrapped: %w", &ownError{3}))
	case "nil map":
		nilMap()["x"] = o.N
	case "exit":
		os.Exit(o.N)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "goexit":
		runtime.Goexit()
	case "channel":
		return make(chan int), nil
	case "nan":
		return map[string]any{"x": math.NaN()}, nil
	case "panicking result":
		return panickingResult{}, nil
	case "bad raw":
		return ctworker.Result([]byte(nil)), nil
	case "large":
		return strings.Repeat("x", o.N), nil
	case "print":
		fmt.Println(`{"task_id":"x","result":1}`)
		fmt.Fprintln(os.Stderr, "noise")
		return "printed", nil
	case "calls":
		return n, nil
	case "deadline":
		_, has := ctx.Deadline()
		<-ctx.Done()
		return spaced(has, ctx.Err()), nil
	case "ctx error":
		<-ctx.Done()
		return nil, ctx.Err()
	case "stubborn":
		select {}
	case "worker":
		w := t.Worker()
		return spaced(w.Provider, w.JobID, *w.NumCPUs, w.MemoryGB, w.MaxRuntime, w.ShutdownGracePeriod, w.RetryOnExit, w.Slot, w.EventLogFile, *w.SimulateSpotTerminationAfter, w.EventLogQueueName, w.KeepaliveInterval, w.MaxMemoryAllowedPerTask != nil), nil
	case "env":
		out, err := exec.CommandContext(ctx, "sh", "-c", `echo "$CTWORKER_FD$CTWORKER_CLAIM_FD:$CTWORKER_SLOT"; if [ -e /proc/self/fd/3 ] || [ -e /proc/self/fd/4 ]; then echo held; fi`).Output()
		return string(out), err
	case "notices":
		w := t.Worker()
		return []bool{w.ReceivedShutdownRequest(), w.ReceivedTerminationNotice()}, nil
	case "await termination":
		for !t.Worker().ReceivedTerminationNotice() {
			runtime.Gosched()
		}
		return t.Worker().ReceivedShutdownRequest(), nil
	case "await shutdown":
		touch("started")
		for !t.Worker().ReceivedShutdownRequest() {
			runtime.Gosched()
		}
		return "saw it", nil
	case "await end":
		touch("started")
		<-ctx.Done()
		return "in time", nil
	}
	return nil, fmt.Errorf("unknown action %q", o.Do)
}

func panics(n int) {
	inner := []int{1}
	fmt.Println(inner[n])
}

func spaced(values ...any) string { return strings.TrimSpace(fmt.Sprintln(values...)) }

// touch notifies the test through a named pipe.
func touch(name string) {
	if f, err := os.OpenFile(name, os.O_WRONLY, 0); err == nil {
		_, _ = f.WriteString("x\n")
		_ = f.Close()
	}
}

// nilMap returns a nil map. It hides the intended panic from a linter.
func nilMap() map[string]int { return nil }
