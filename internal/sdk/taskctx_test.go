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
		// Whichever method is asked first, the deadline ends it.
		first := newTaskContext(time.Second)
		<-first.Done()
		second := newTaskContext(time.Second)
		if second.Err() != nil {
			t.Error("ended early")
		}
		<-time.After(time.Second)
		for _, ctx := range []*taskContext{first, second} {
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("ended with %v", ctx.Err())
			}
			<-ctx.Done()
			ctx.end(context.Canceled) // too late
			if !ctx.hasExpired() || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("then %v", ctx.Err())
			}
		}

		// The end comes before the deadline, with somebody waiting or not.
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
				t.Errorf("ended with %v", ctx.Err())
			}
			cancel()
		}

		// None has none.
		forEver := newTaskContext(0)
		if _, has := forEver.Deadline(); has || forEver.Err() != nil {
			t.Error("has a deadline")
		}
		done := forEver.Done()
		forEver.end(context.Canceled)
		<-done
	})
}
