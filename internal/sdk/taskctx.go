package sdk

import (
	"context"
	"errors"
	"sync"
	"time"
)

// taskContext is the context of one task. Its channel and timer are created only when Done is
// called, so the context of a task that does not call Done costs almost nothing.
type taskContext struct {
	deadline time.Time // zero if there is none

	mu    sync.Mutex
	err   error         // why the context ended, or nil
	done  chan struct{} // created by the first call of Done
	timer *time.Timer   // ends the context at the deadline; nil before the first call of Done
}

var _ context.Context = (*taskContext)(nil)

// newTaskContext returns the context of a task that may run for d from now. If d is 0,
// there is no limit.
func newTaskContext(d time.Duration) *taskContext {
	if d <= 0 {
		return &taskContext{}
	}
	return &taskContext{deadline: time.Now().Add(d)}
}

func (c *taskContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// isPastDeadline reports whether the deadline has passed.
func (c *taskContext) isPastDeadline() bool {
	return !c.deadline.IsZero() && !time.Now().Before(c.deadline)
}

// hasExpired reports whether the context has ended because of its deadline. The task may then have
// observed this end.
func (c *taskContext) hasExpired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Is(c.err, context.DeadlineExceeded)
}

func (c *taskContext) Value(any) any { return nil }

func (c *taskContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		switch {
		case c.err != nil:
			close(c.done)
		case !c.deadline.IsZero():
			c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.end(context.DeadlineExceeded) })
		}
	}
	return c.done
}

func (c *taskContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.isPastDeadline() {
		c.endLocked(context.DeadlineExceeded)
	}
	return c.err
}

// end ends the context. Calls after the first one have no effect.
func (c *taskContext) end(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(reason)
}

func (c *taskContext) endLocked(reason error) {
	if c.err != nil {
		return
	}
	c.err = reason
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.done != nil {
		close(c.done)
	}
}
