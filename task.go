package ctworker

import (
	"context"
	"encoding/json"
	"fmt"
)

// A Func runs one task. It is called by one goroutine at a time in a process,
// unless Main was given InProcess.
//
// What it returns is the task's result, which is encoded by encoding/json: nil, a
// text, a number, a map or a struct, say. Return Retry(result) to ask for another
// attempt. An error is told as task_exception, with the chain of errors that it
// wraps; so is a panic, with its stack, and a result that cannot be encoded. A call
// of os.Exit or log.Fatal is told as task_exited.
//
// ctx ends when the task has run for --max-runtime, and when the worker has to end
// it for another reason; soon after that the process is killed, with all that it
// has started. It also ends when the function has returned.
type Func func(ctx context.Context, t *Task) (Result, error)

// A Result is what a Func returns: any value that encoding/json can encode, or what
// Retry makes of one.
type Result any

// Retry returns a result that asks for the task to be attempted again. A task from
// a file is not queued again; its event says that it would have been worth it.
func Retry(result any) Result { return retry{result} }

type retry struct{ result any }

// NoRetry marks an error that another attempt would only meet again, such as input
// that is broken: the task is not attempted again, whatever --retry-on-exception
// says. The mark holds for every error that wraps it; what is told is the error
// itself. NoRetry(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// finalError is the mark. It is left out of what is told.
type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

// A Task is what a Func works on. It is the Func's own: it stays as it is after the
// Func has returned.
type Task struct {
	// ID is the task_id. It is never empty.
	ID string
	// Data is the task's input: one JSON value, with the digits and keys that
	// the task file has.
	Data json.RawMessage
	// Attempt counts the attempts, from 1.
	Attempt int

	worker *WorkerData
}

// NewTask returns a task for a task source (see WithTasks); data is encoded by
// encoding/json. Its results fit a yield: yield(ctworker.NewTask(id, data)).
func NewTask(id string, data any) (Task, error) {
	b, err := json.Marshal(data)
	if err != nil {
		return Task{}, fmt.Errorf("data of task %q: %w%s", id, err, faultPlace(data))
	}
	return Task{ID: id, Data: b}, nil
}

// Decode decodes Data into v, as json.Unmarshal does.
func (t *Task) Decode(v any) error {
	if err := json.Unmarshal(t.Data, v); err != nil {
		return fmt.Errorf("data of task %q: %w", t.ID, err)
	}
	return nil
}

// Worker returns what there is to know of the worker that runs the task. It is the
// same for all tasks of a slot; do not write to it. It is nil for a task that no
// worker runs.
func (t *Task) Worker() *WorkerData { return t.worker }
