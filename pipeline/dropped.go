package pipeline

import (
	"errors"
	"fmt"
	"time"
)

// droppedError is the error of a stage that has returned although it neither settled nor passed on
// some of its deliveries. This is a bug in the stage.
type droppedError struct {
	count int
	tasks []string // IDs of at most maxListed of the tasks
}

func (e *droppedError) Error() string {
	return fmt.Sprintf("%d tasks were dropped (%q): a stage must acknowledge or release each delivery that it does not pass on", e.count, e.tasks)
}

// maxListed is the maximum number of tasks that an error or log message lists.
const maxListed = 10

// holderOf returns the stage that holds d. It returns nil if the stage is unknown, because the
// previous stage sent d without using its Output.
func (r *Run) holderOf(d *Delivery) *stageState {
	position := d.sentBy.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, st := range r.stages {
		if position > 0 && st.input == position {
			return st
		}
	}
	return nil
}

// releaseDropped releases the deliveries that a stage neither settled nor passed on. A queue then
// delivers the tasks again. A source without leases, such as a file, does not. releaseDropped
// returns a StageError for each stage that dropped deliveries, unless the stage has failed anyway.
func (r *Run) releaseDropped() error {
	dropped, unknown := map[*stageState]*droppedError{}, &stageState{name: "unknown"}
	var errs []error
	for _, d := range r.inFlight.unsettled() {
		st := r.holderOf(d)
		if st == nil {
			st = unknown
		}
		e := dropped[st]
		if e == nil {
			e = &droppedError{}
			dropped[st] = e
			if st.err == nil {
				errs = append(errs, &StageError{Stage: st.name, Err: e})
			}
		}
		if e.count++; e.count <= maxListed {
			e.tasks = append(e.tasks, d.Task.ID)
		}
		if err := d.Release(r.phases.Close, 0); err != nil {
			errs = append(errs, err)
			break
		}
	}
	return errors.Join(errs...)
}

// A run is stalled when no delivery in flight has left its stage for stallTime, and no stage that
// holds a delivery has a reason to wait: its input is empty, and it is not a stage that is known to
// hold deliveries for a long time.
const (
	stallTime     = 3 * time.Second
	stallInterval = time.Second
)

// watchStall logs a warning with the name of the stage when the run is stalled, at most once per
// stage. The returned function ends the watch.
func (r *Run) watchStall() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(stallInterval)
		defer ticker.Stop()
		var w stallWatch
		for {
			select {
			case now := <-ticker.C:
				w.check(r, now)
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// stallWatch detects that a run is stalled.
type stallWatch struct {
	since  time.Time // when held changed last
	held   stallState
	warned map[*stageState]bool
}

// stallState identifies the deliveries in flight and the stages that hold them. Two states with the
// same deliveries in the same stages are equal.
type stallState struct {
	count     int
	newest    int64 // number of the newest delivery
	positions int64 // sum of the positions of the stages
}

func (w *stallWatch) check(r *Run, now time.Time) {
	if !r.mayStall() {
		return
	}
	w.checkLeases(r)
	var state stallState
	held := map[*stageState][]string{} // IDs of the tasks that each stage holds
	for _, d := range r.inFlight.unsettled() {
		st := r.holderOf(d)
		if st == nil || st.longTerm.Load() || st.queue.len() > 0 {
			state = stallState{} // the delivery has a reason to wait
			break
		}
		state.count++
		state.newest = max(state.newest, d.number)
		state.positions += int64(st.position)
		held[st] = append(held[st], d.Task.ID)
	}
	if state.count == 0 || state != w.held {
		w.held, w.since = state, now
		return
	}
	if now.Sub(w.since) < stallTime {
		return
	}
	w.warn(r, held, "waiting for a stage that still owns tasks; a stage must pass on, acknowledge or release every task")
}

// checkLeases logs a warning about a stage that has held a delivery until its lease expired, although the input
// of the stage is empty. With a queue, the run does not stall then: the queue delivers the task again.
func (w *stallWatch) checkLeases(r *Run) {
	expired := map[*stageState][]string{}
	for _, d := range r.inFlight.unsettled() {
		if st := r.holderOf(d); d.leased && st != nil && !st.longTerm.Load() && st.queue.len() == 0 && d.remainingLease() < -stallTime {
			expired[st] = append(expired[st], d.Task.ID)
		}
	}
	w.warn(r, expired, "the leases of tasks have expired while a stage owned the tasks; a stage must pass on, acknowledge or release every task")
}

// warn logs a warning about the stages in held, at most once per stage.
func (w *stallWatch) warn(r *Run, held map[*stageState][]string, message string) {
	for st, ids := range held {
		if w.warned[st] {
			continue
		}
		if w.warned == nil {
			w.warned = map[*stageState]bool{}
		}
		w.warned[st] = true
		r.opts.Log.Warn().Str("stage", st.name).Int("task_count", len(ids)).Strs("task_ids", ids[:min(len(ids), maxListed)]).Msg(message)
	}
}

// mayStall reports whether the run has a stage that is not known to hold deliveries for long.
func (r *Run) mayStall() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, st := range r.stages {
		if st.queue != nil && !st.longTerm.Load() {
			return true
		}
	}
	return false
}
