package ctworker

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ctworker/ctworker/internal/sdk"
)

// Func runs one task. It is called from one goroutine at a time in each process, unless the
// option InProcess is used.
//
// It returns the result of the task, which is encoded with encoding/json: for example nil, a
// string, a number, a map or a struct. To request another attempt, return Retry(result). An error
// is reported as task_exception, with the chain of errors that it wraps. A panic, with its stack,
// and a result that cannot be encoded are reported in the same way. A call of os.Exit or log.Fatal
// is reported as task_exited.
//
// ctx is done when the task has run for --max-runtime, when the worker terminates it for another
// reason, and after Func has returned. If Func does not return soon after ctx is done, its process
// is killed, along with all processes that it has started.
type Func func(ctx context.Context, t *Task) (Result, error)

// Result is the result of a Func: any value that encoding/json can encode, or the return
// value of Retry.
type Result any

// Retry returns a result that requests another attempt of the task. A task from a queue is
// delivered again. A task from a file is retried with --retries, or by a later run with --resume.
// The event of the attempt contains the request.
func Retry(result any) Result { return sdk.Retry{Result: result} }

// Permanent marks err as an error that another attempt would repeat, such as invalid input: the
// task is not retried, even with --retry-on-exception. The mark also applies to errors that wrap
// the returned error. The reported error does not contain the mark. Permanent(nil) returns nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &sdk.PermanentError{Err: err}
}

// Task is the task that a Func runs. The Func may keep it: the task does not change after the Func
// has returned.
type Task struct {
	// ID is the task_id. It is never empty.
	ID string
	// Data is the input of the task: one JSON value. Its numbers and keys are the same as in the
	// task source.
	Data json.RawMessage
	// Attempt is the number of this attempt, from 1.
	Attempt int

	worker *WorkerData
}

// NewTask returns a task for a task source (see WithTasks). It encodes data with encoding/json. The
// results of NewTask can be passed to yield directly: yield(ctworker.NewTask(id, data)).
func NewTask(id string, data any) (Task, error) {
	b, err := json.Marshal(data)
	if err != nil {
		return Task{}, fmt.Errorf("data of task %q: %w%s", id, err, sdk.FaultPath(data))
	}
	return Task{ID: id, Data: b}, nil
}

// Decode decodes Data into v as json.Unmarshal does.
func (t *Task) Decode(v any) error {
	if err := json.Unmarshal(t.Data, v); err != nil {
		return fmt.Errorf("data of task %q: %w", t.ID, err)
	}
	return nil
}

// Worker returns a description of the worker that runs the task. All tasks of a slot share it; do not
// modify it. For a task that is not run by a worker, it returns the argument of WithWorker, or a
// WorkerData without settings.
func (t *Task) Worker() *WorkerData {
	if t.worker == nil {
		return new(WorkerData)
	}
	return t.worker
}

// WithWorker returns a copy of the task whose method Worker returns d. Use it to test a Func:
//
//	task, err := ctworker.NewTask("a", map[string]int{"n": 1})
//	d := ctworker.WorkerData{Slot: 3}
//	d.Simulate(false, true) // a termination notice
//	result, err := process(ctx, task.WithWorker(&d))
func (t Task) WithWorker(d *WorkerData) *Task {
	t.Attempt = max(t.Attempt, 1)
	t.worker = d
	return &t
}
