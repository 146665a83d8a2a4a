package prefetch_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/internal/prefetch"
)

func observe(c *prefetch.Controller, n int, duration time.Duration, size int) {
	for range n {
		c.Observe(duration, size)
	}
}

// For a shared source, the target is the number of tasks that the slots finish in one second. It is
// 0 until eight tasks have been observed, and if tasks take longer than a second.
func TestController_SharedSource(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tasks    int
		duration time.Duration
		want     int
	}{
		"too few tasks":    {7, time.Millisecond, 0},
		"short":            {8, 10 * time.Millisecond, 400},
		"very short":       {8, time.Microsecond, 1024},
		"no time":          {8, 0, 1024},
		"just a second":    {8, time.Second, 4},
		"above one second": {8, 1001 * time.Millisecond, 0},
	} {
		c := prefetch.New(prefetch.Config{Slots: 4})
		c.SetSource(true, 10)
		observe(c, tc.tasks, tc.duration, 100)
		if got := c.Target(); got != tc.want {
			t.Errorf("%s: target %d, want %d", name, got, tc.want)
		}
		c.Stalled()
		if c.Target() != 0 || c.PerProcess() != 1 {
			t.Errorf("%s: target %d and %d per process after a stall", name, c.Target(), c.PerProcess())
		}
	}
}

// The number of tasks per process is limited by their duration, size and number.
func TestController_PerProcess(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		slots    int
		tasks    int
		duration time.Duration
		size     int
		want     int
	}{
		"too few tasks": {2, 7, time.Microsecond, 0, 1},
		"very short":    {2, 8, time.Microsecond, 0, 256},
		"many slots":    {128, 8, time.Microsecond, 0, 64},
		"100 µs":        {2, 8, 100 * time.Microsecond, 0, 20},
		"3 ms":          {2, 8, 3 * time.Millisecond, 0, 1},
		"large":         {2, 8, time.Microsecond, 16<<10 - 64, 4},
		"very large":    {2, 8, time.Microsecond, 1 << 20, 1},
	} {
		c := prefetch.New(prefetch.Config{Slots: tc.slots})
		observe(c, tc.tasks, tc.duration, tc.size)
		if got := c.PerProcess(); got != tc.want {
			t.Errorf("%s: %d per process, want %d", name, got, tc.want)
		}
		if c.Target() != 0 {
			t.Errorf("%s: target %d, although no process holds tasks in advance", name, c.Target())
		}
	}
}

// For a source that is not shared, the target is twice the number of tasks that the processes may
// hold, but at least Config.Min.
func TestController_OwnSource(t *testing.T) {
	t.Parallel()
	c := prefetch.New(prefetch.Config{Slots: 2, Min: 4})
	c.UseQueues()
	if c.Target() != 4 {
		t.Errorf("target %d before the first task, want 4", c.Target())
	}
	observe(c, 64, time.Microsecond, 0)
	if c.Target() != 2*2*256 {
		t.Errorf("target %d, want %d", c.Target(), 2*2*256)
	}
	observe(c, 64, time.Second, 0)
	if c.Target() != 4 || c.MaxQueueTime() != 0 {
		t.Errorf("target %d, maximum queue time %v", c.Target(), c.MaxQueueTime())
	}
	c.Stalled() // has no effect: no other worker could run the tasks
	if c.Target() != 4 {
		t.Errorf("target %d after a stall", c.Target())
	}
}

// Acquire takes at most one credit per slot plus Target credits. It waits for a full batch, and
// returns when ctx is done. If Target decreases, the number of credits can become negative, and
// Acquire then waits until enough credits have been returned.
func TestController_Acquire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := prefetch.New(prefetch.Config{Slots: 4})
		c.SetSource(true, 10)
		if n, err := c.Acquire(t.Context(), 256); n != 4 || err != nil {
			t.Fatalf("%d credits, error %v", n, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if n, err := c.Acquire(ctx, 256); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%d credits, error %v", n, err)
		}
		observe(c, 8, 10*time.Millisecond, 0) // 400 more credits
		if n, err := c.Acquire(t.Context(), 256); n != 256 || err != nil {
			t.Fatalf("%d credits, error %v", n, err)
		}
		if n, err := c.Acquire(t.Context(), 140); n != 140 || err != nil {
			t.Fatalf("%d credits, error %v", n, err)
		}
		got := make(chan int)
		go func() {
			n, _ := c.Acquire(t.Context(), 256)
			got <- n
		}()
		c.Return(5) // 9 credits: less than a batch
		synctest.Wait()
		select {
		case n := <-got:
			t.Fatalf("%d credits, less than a batch", n)
		default:
		}
		c.Return(1)
		if n := <-got; n != 10 {
			t.Fatalf("%d credits, want a batch of 10", n)
		}
		c.Stalled() // 404 deliveries hold credits, and 4 may
		c.Return(400)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if n, err := c.Acquire(ctx, 256); err == nil {
			t.Fatalf("%d credits, although as many deliveries as slots are in flight", n)
		}
		c.Return(1)
		if n, err := c.Acquire(t.Context(), 256); n != 1 || err != nil {
			t.Fatalf("%d credits, error %v", n, err)
		}
	})
}
