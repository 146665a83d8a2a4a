package ctworker

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// inProcess runs tasks in this process. It is a stages.Runner.
type inProcess struct {
	f         Func
	data      *WorkerData // of slot 0
	killDelay time.Duration
	maxResult int64

	mu    sync.Mutex
	seats map[int]*seat
}

// seat is a slot.
type seat struct {
	worker *WorkerData
	desk   *goroutineWorker // nil: one has to be made
}

// goroutineWorker is a goroutine that calls the function for task after task: a new one for each
// would have to grow its stack each time. It ends with the run, or is left behind where
// the function does not return.
type goroutineWorker struct {
	invoker  *invoker
	calls    chan invocation
	returned chan struct{} // has room, so that one that is left behind does not wait
	calling  bool
}

type invocation struct {
	ctx  *taskContext
	task *Task
}

func newGoroutineWorker(c *invoker, over <-chan struct{}) *goroutineWorker {
	d := &goroutineWorker{invoker: c, calls: make(chan invocation), returned: make(chan struct{}, 1)}
	go d.serve(over)
	return d
}

func (d *goroutineWorker) serve(over <-chan struct{}) {
	defer func() {
		if d.calling { // the function has ended its goroutine, which is this one
			d.calling = false
			d.returned <- struct{}{}
			go d.serve(over)
		}
	}()
	for {
		select {
		case next := <-d.calls:
			d.calling = true
			d.invoker.invoke(next.ctx, next.task)
			d.calling = false
			d.returned <- struct{}{}
		case <-over:
			return
		}
	}
}

func newInProcess(f Func, data *WorkerData, killDelay time.Duration, maxResult int64) *inProcess {
	return &inProcess{f: f, data: data, killDelay: killDelay, maxResult: maxResult, seats: map[int]*seat{}}
}

// seat returns a slot's seat; it is called by one goroutine a slot.
func (r *inProcess) seat(phases pipeline.Phases, slot int) *seat {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seats[slot]
	if s == nil {
		data := *r.data
		data.Slot = slot
		data.shutdown = func() bool { return phases.Shutdown.Err() != nil }
		s = &seat{worker: &data}
		r.seats[slot] = s
	}
	return s
}

// Run implements stages.Runner.
func (r *inProcess) Run(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error) {
	s := r.seat(phases, slot)
	task := &Task{ID: d.Task.ID, Data: bytes.Clone(d.Task.Data), Attempt: d.Attempt, worker: s.worker}
	began := time.Now()
	ctx := newTaskContext(s.worker.MaxRuntime)
	if s.desk == nil {
		s.desk = newGoroutineWorker(newInvoker(r.f, r.maxResult), phases.Settle.Done())
	}
	c := s.desk.invoker
	s.desk.calls <- invocation{ctx, task}
	kind, left := r.await(phases, d, ctx, s.desk.returned)
	ctx.end(context.Canceled)
	if left { // and goes on: what it writes to is its own from now on
		s.desk = nil
	}
	out := pipeline.Outcome{Kind: kind, Elapsed: time.Since(began)}
	if left || kind == pipeline.TimedOut || kind == pipeline.LeaseLost {
		return out, nil
	}
	called := c.out
	switch {
	case called.exception == "":
		out.Kind, out.RetryRequested, out.Result = pipeline.Completed, called.retry, bytes.Clone(called.result)
	case kind == 0:
		out.Kind, out.Exception, out.Permanent = pipeline.Exception, called.exception, called.final
	}
	return out, nil
}

// await waits until the function has returned, or is not waited for any longer,
// and says which (left). kind is why its context was ended; 0: it was not.
func (r *inProcess) await(phases pipeline.Phases, d *pipeline.Delivery, ctx *taskContext, returned <-chan struct{}) (kind pipeline.OutcomeKind, left bool) {
	runtime.Gosched() // a function that returns at once needs no clock
	select {
	case <-returned:
		return 0, false
	default:
	}
	grace := time.NewTimer(time.Until(ctx.deadline))
	defer grace.Stop()
	work, lost := phases.Terminate.Done(), d.Lost()
	end := func(why pipeline.OutcomeKind, err error) {
		if kind == 0 {
			kind = why
		}
		ctx.end(err)
		grace.Reset(r.killDelay)
	}
	for {
		select {
		case <-returned:
			if kind == 0 && ctx.hasExpired() { // by its own timer, before patience fired
				kind = pipeline.TimedOut
			}
			return kind, false
		case <-phases.Kill.Done():
			if kind == 0 {
				kind = pipeline.Interrupted
			}
			return kind, true
		case <-work:
			work = nil
			end(pipeline.Interrupted, context.Canceled)
		case <-lost:
			lost = nil
			end(pipeline.LeaseLost, context.Canceled)
		case <-grace.C:
			if kind != 0 {
				return kind, true
			}
			end(pipeline.TimedOut, context.DeadlineExceeded)
		}
	}
}
