package sdk

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTaskContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// The deadline ends the context, whichever method is called first.
		first := newTaskContext(time.Second)
		<-first.Done()
		second := newTaskContext(time.Second)
		if second.Err() != nil {
			t.Error("the context ended before its deadline")
		}
		<-time.After(time.Second)
		for _, ctx := range []*taskContext{first, second} {
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("Err() = %v after the deadline", ctx.Err())
			}
			<-ctx.Done()
			ctx.end(context.Canceled) // no effect after the deadline
			if !ctx.hasExpired() || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("Err() = %v after a second end", ctx.Err())
			}
		}

		// The context is ended before the deadline, with and without a goroutine that waits for it.
		for _, waits := range []bool{false, true} {
			ctx := newTaskContext(time.Hour)
			derived, cancel := context.WithCancel(context.WithValue(ctx, t, 1))
			if waits {
				go ctx.end(context.Canceled)
				<-derived.Done()
			} else {
				ctx.end(context.Canceled)
			}
			<-ctx.Done()
			if ctx.hasExpired() || !errors.Is(ctx.Err(), context.Canceled) {
				t.Errorf("Err() = %v, want context canceled", ctx.Err())
			}
			cancel()
		}

		// A context without a limit has no deadline.
		unlimited := newTaskContext(0)
		if _, has := unlimited.Deadline(); has || unlimited.Err() != nil {
			t.Error("a context without a limit has a deadline")
		}
		done := unlimited.Done()
		unlimited.end(context.Canceled)
		<-done
	})
}
