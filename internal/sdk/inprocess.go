package sdk

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/pipeline"
)

// inProcess runs tasks in this process. It is a stages.Runner.
type inProcess struct {
	program *Program
	info    WorkerInfo
	cfg     *config.Config

	mu    sync.Mutex
	slots map[int]*slotState
}

// slotState is the state of one slot.
type slotState struct {
	worker    any              // return value of Program.NewWorker
	goroutine *goroutineWorker // nil if the next task needs a new one
}

// goroutineWorker is a goroutine that calls the function for one task after another. A new
// goroutine for each task would have to grow its stack each time. The goroutine ends with the run,
// or is abandoned if the function does not return.
type goroutineWorker struct {
	invoker  *invoker
	calls    chan invocation
	returned chan struct{} // buffered, so that an abandoned goroutine does not block
	calling  bool
}

type invocation struct {
	ctx  *taskContext
	task Task
}

func newGoroutineWorker(c *invoker, done <-chan struct{}) *goroutineWorker {
	d := &goroutineWorker{invoker: c, calls: make(chan invocation), returned: make(chan struct{}, 1)}
	go d.serve(done)
	return d
}

func (d *goroutineWorker) serve(done <-chan struct{}) {
	defer func() {
		if d.calling { // the function has called runtime.Goexit
			d.calling = false
			d.returned <- struct{}{}
			go d.serve(done)
		}
	}()
	for {
		select {
		case next := <-d.calls:
			d.calling = true
			d.invoker.invoke(next.ctx, next.task)
			d.calling = false
			d.returned <- struct{}{}
		case <-done:
			return
		}
	}
}

func newInProcess(p *Program, info WorkerInfo, cfg *config.Config) *inProcess {
	return &inProcess{program: p, info: info, cfg: cfg, slots: map[int]*slotState{}}
}

// slot returns the state of a slot. For each slot, only one goroutine calls it.
func (r *inProcess) slot(phases pipeline.Phases, slot int) (*slotState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slots[slot]
	if s == nil {
		info := r.info
		info.Slot = slot
		info.Shutdown = func() bool { return phases.Shutdown.Err() != nil }
		worker, err := r.program.NewWorker(info)
		if err != nil {
			return nil, err
		}
		s = &slotState{worker: worker}
		r.slots[slot] = s
	}
	return s, nil
}

// Run implements stages.Runner.
func (r *inProcess) Run(phases pipeline.Phases, slot int, d *pipeline.Delivery) (pipeline.Outcome, error) {
	s, err := r.slot(phases, slot)
	if err != nil {
		return pipeline.Outcome{}, err
	}
	task := Task{ID: d.Task.ID, Data: bytes.Clone(d.Task.Data), Attempt: d.Attempt, Worker: s.worker}
	began := time.Now()
	ctx := newTaskContext(r.cfg.MaxRuntime)
	if s.goroutine == nil {
		s.goroutine = newGoroutineWorker(newInvoker(r.program.Func, r.cfg.MaxResultSize), phases.Settle.Done())
	}
	c := s.goroutine.invoker
	s.goroutine.calls <- invocation{ctx, task}
	kind, abandoned := r.await(phases, d, ctx, s.goroutine.returned)
	ctx.end(context.Canceled)
	if abandoned { // the abandoned function still uses this goroutine and this invoker
		s.goroutine = nil
	}
	out := pipeline.Outcome{Kind: kind, Elapsed: time.Since(began)}
	if abandoned || kind == pipeline.TimedOut || kind == pipeline.LeaseLost {
		return out, nil
	}
	result := c.out
	switch {
	case result.exception == "":
		out.Kind, out.RetryRequested, out.Result = pipeline.Completed, result.retry, bytes.Clone(result.result)
	case kind == 0:
		out.Kind, out.Exception, out.Permanent = pipeline.Exception, result.exception, result.permanent
	}
	return out, nil
}

// await waits until the function has returned. If the function does not return in time, abandoned
// is true. kind is the reason why ctx was ended early, or 0 if it was not.
func (r *inProcess) await(phases pipeline.Phases, d *pipeline.Delivery, ctx *taskContext, returned <-chan struct{}) (kind pipeline.OutcomeKind, abandoned bool) {
	runtime.Gosched() // avoid the timer if the function returns at once
	select {
	case <-returned:
		return 0, false
	default:
	}
	grace := time.NewTimer(time.Until(ctx.deadline))
	defer grace.Stop()
	terminate, lost := phases.Terminate.Done(), d.Lost()
	end := func(reason pipeline.OutcomeKind, err error) {
		if kind == 0 {
			kind = reason
		}
		ctx.end(err)
		grace.Reset(r.cfg.KillDelay)
	}
	for {
		select {
		case <-returned:
			if kind == 0 && ctx.hasExpired() { // the timer of ctx fired before grace
				kind = pipeline.TimedOut
			}
			return kind, false
		case <-phases.Kill.Done():
			if kind == 0 {
				kind = pipeline.Interrupted
			}
			return kind, true
		case <-terminate:
			terminate = nil
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
