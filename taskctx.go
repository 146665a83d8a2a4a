package ctworker

import (
	"context"
	"errors"
	"sync"
	"time"
)

// taskContext is the context of one task. It costs a task that does not wait for
// it next to nothing: its channel and its timer are made when they are asked for.
type taskContext struct {
	deadline time.Time // zero: none

	mu    sync.Mutex
	err   error         // why it ended; nil: it has not
	done  chan struct{} // made by the first Done
	timer *time.Timer   // runs while done is waited for
}

var _ context.Context = (*taskContext)(nil)

// newTaskContext returns the context of a task that may run for d from now; 0 is
// for ever.
func newTaskContext(d time.Duration) *taskContext {
	if d <= 0 {
		return &taskContext{}
	}
	return &taskContext{deadline: time.Now().Add(d)}
}

func (c *taskContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// isDue reports whether the deadline has passed.
func (c *taskContext) isDue() bool {
	return !c.deadline.IsZero() && !time.Now().Before(c.deadline)
}

// hasExpired reports whether the context has ended because of its deadline, so that the task
// may have observed it.
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
	if c.err == nil && c.isDue() {
		c.endLocked(context.DeadlineExceeded)
	}
	return c.err
}

// end ends the context. Only the first call counts.
func (c *taskContext) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(why)
}

func (c *taskContext) endLocked(why error) {
	if c.err != nil {
		return
	}
	c.err = why
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.done != nil {
		close(c.done)
	}
}
