package ctworker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/ctworker/ctworker"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/function"
)

// memorySink keeps events in memory.
type memorySink struct {
	mu     sync.Mutex
	types  map[string]pipeline.EventType // by task ID
	failed error                         // returned by Write, if not nil
	closed int
}

func (s *memorySink) open(context.Context) (pipeline.Sink, error) { return s, nil }

func (s *memorySink) Write(_ context.Context, events []pipeline.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.types == nil {
		s.types = map[string]pipeline.EventType{}
	}
	for _, e := range events {
		s.types[e.TaskID] = e.Type
	}
	return s.failed
}

func (s *memorySink) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	return nil
}

// twenty opens a source of 20 tasks: 0 to 19.
func twenty(context.Context) (pipeline.Source, error) {
	tasks := make([]pipeline.Task, 20)
	for i := range tasks {
		tasks[i] = pipeline.Task{ID: fmt.Sprint(i), Data: fmt.Appendf(nil, `{"do": "echo", "n": %d}`, i)}
	}
	return function.Of(tasks...), nil
}

// onlyEven is a stage that acknowledges tasks with an odd number instead of running them.
func onlyEven(ctx context.Context, in <-chan *pipeline.Delivery, out pipeline.Output[*pipeline.Delivery]) error {
	for d := range in {
		if strings.Contains("13579", d.Task.ID[len(d.Task.ID)-1:]) {
			if err := d.Ack(ctx); err != nil {
				return err
			}
			continue
		}
		if out.Send(ctx, d) != nil {
			return nil
		}
	}
	return nil
}

func failOnSix(ctx context.Context, t *ctworker.Task) (ctworker.Result, error) {
	if t.ID == "6" {
		return nil, errors.New("six")
	}
	return behave(ctx, t)
}

// runProgram is a program that calls Run and prints the summary.
func runProgram(args []string, opts ...ctworker.Option) {
	sink := &memorySink{}
	s, err := ctworker.Run(context.Background(), failOnSix, append(opts, ctworker.WithArgs(args),
		ctworker.WithSource(twenty), ctworker.WithSink(sink.open), ctworker.WithStage("only even", onlyEven))...)
	var again error
	if err == nil {
		_, again = ctworker.Run(context.Background(), failOnSix, append(opts, ctworker.WithArgs([]string{"--no-event-log-to-file"}), ctworker.WithSource(twenty))...)
	}
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"summary": s, "error": fmt.Sprint(err), "events": len(sink.types), "six": sink.types["6"], "closed": sink.closed, "second": fmt.Sprint(again),
	})
	os.Exit(0)
}

// Run returns the summary of the run, in child processes and in this process. The run uses the
// source, the stage and the sink of the program. A second call of Run is possible only without
// child processes.
func TestRun(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"run", "run-in-process"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProgram(t, t.TempDir(), name)
			p.want(0)
			var got struct {
				Summary            ctworker.Summary
				Error, Six, Second string
				Events, Closed     int
			}
			if err := json.Unmarshal(p.stdout.Bytes(), &got); err != nil {
				t.Fatalf("%v\n%s\n%s", err, p.stdout.String(), p.stderr.String())
			}
			s := got.Summary
			if got.Error != "<nil>" || s.Completed != 9 || s.Exception != 1 || !s.Finished || s.Elapsed <= 0 || s.NotCompleted() != 1 {
				t.Errorf("error %s, summary %+v\n%s", got.Error, s, p.stderr.String())
			}
			if got.Events != 10 || got.Six != "task_exception" || got.Closed != 1 {
				t.Errorf("%d events, %q for task 6, closed %d times", got.Events, got.Six, got.Closed)
			}
			if events := p.events(); len(events) != 10 {
				t.Errorf("%d events in the file, want 10", len(events))
			}
			if twice := strings.Contains(got.Second, "only once"); twice != (name == "run") {
				t.Errorf("second Run: error %s", got.Second)
			}
		})
	}
}

// Run returns an error with every invalid setting, and runs no task.
func TestRun_InvalidSettings(t *testing.T) {
	t.Parallel()
	s, err := ctworker.Run(t.Context(), behave, ctworker.InProcess(), ctworker.WithSource(twenty), ctworker.WithArgs([]string{"--max-runtime", "-1", "--no-such-flag"}))
	if err == nil || !strings.Contains(err.Error(), "--max-runtime") || !strings.Contains(err.Error(), "--no-such-flag") || s.Reported() != 0 {
		t.Errorf("error %v, summary %+v", err, s)
	}
}

// If the source or a sink cannot be opened, or a sink fails, Run returns that error, and everything
// that was opened is closed once.
func TestRun_BrokenSourceAndSink(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	noFile := ctworker.WithArgs([]string{"--no-event-log-to-file"})
	first := &memorySink{}
	_, err := ctworker.Run(t.Context(), behave, ctworker.InProcess(), noFile, ctworker.WithSource(twenty), ctworker.WithSink(first.open),
		ctworker.WithSink(func(context.Context) (pipeline.Sink, error) { return nil, broken }))
	if !errors.Is(err, broken) || first.closed != 1 {
		t.Errorf("error %v, the other sink was closed %d times", err, first.closed)
	}
	_, err = ctworker.Run(t.Context(), behave, ctworker.InProcess(), noFile, ctworker.WithSource(func(context.Context) (pipeline.Source, error) { return nil, broken }))
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	failing := &memorySink{failed: broken}
	s, err := ctworker.Run(t.Context(), behave, ctworker.InProcess(), noFile, ctworker.WithSource(twenty), ctworker.WithSink(failing.open))
	if !errors.Is(err, broken) || s.Finished || failing.closed == 0 {
		t.Errorf("error %v, summary %+v, closed %d times", err, s, failing.closed)
	}
}

// When the context of Run is done, the run is shut down, and that is not an error.
func TestRun_ContextDone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	sink := &memorySink{}
	s, err := ctworker.Run(ctx, func(context.Context, *ctworker.Task) (ctworker.Result, error) {
		cancel()
		return 1, nil
	}, ctworker.InProcess(), ctworker.WithSource(twenty), ctworker.WithSink(sink.open), ctworker.WithArgs([]string{"--no-event-log-to-file", "--shutdown-grace-period", "60"}))
	if err != nil || s.Finished || s.Completed < 1 || s.Completed > 5 {
		t.Errorf("error %v, summary %+v", err, s)
	}
}

// A unit test of a Func can set what the method Worker returns.
func TestTask_WithWorker(t *testing.T) {
	t.Parallel()
	task, err := ctworker.NewTask("a", 1)
	if err != nil {
		t.Fatal(err)
	}
	if w := task.Worker(); w == nil || w.ReceivedTerminationNotice() || w.ReceivedShutdownRequest() {
		t.Errorf("worker data of a new task: %+v", w)
	}
	d := ctworker.WorkerData{Slot: 3}
	d.Simulate(false, true)
	got := task.WithWorker(&d)
	if w := got.Worker(); w.Slot != 3 || !w.ReceivedTerminationNotice() || w.ReceivedShutdownRequest() || got.Attempt != 1 || got.ID != "a" {
		t.Errorf("%+v, %+v", got, w)
	}
}
