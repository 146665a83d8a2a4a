package stages_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

// kept is a lease whose renewals a test decides on.
type kept struct {
	mu       sync.Mutex
	received time.Time
	expires  time.Time // as the source has it
	extended []time.Duration
	answer   func(ctx context.Context, n int) error // to the n-th renewal, from 1; nil: it succeeds
	released time.Duration                          // when, since received
	ack      func()                                 // an acknowledgment waits for it
}

func newKept(lasts time.Duration, answer func(context.Context, int) error) *kept {
	now := time.Now()
	return &kept{received: now, expires: now.Add(lasts), answer: answer}
}

func (k *kept) ExpiresAt() time.Time { return k.received.Add(k.expires.Sub(k.received)) }

func (k *kept) Extend(ctx context.Context, d time.Duration) (time.Time, error) {
	k.mu.Lock()
	k.extended = append(k.extended, time.Since(k.received))
	n := len(k.extended)
	k.mu.Unlock()
	if k.answer != nil {
		if err := k.answer(ctx, n); err != nil {
			return time.Time{}, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expires = time.Now().Add(d)
	return k.expires, nil
}

func (k *kept) Ack(context.Context) error {
	if k.ack != nil {
		k.ack()
	}
	return nil
}

func (k *kept) Release(context.Context, time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.released = time.Since(k.received)
	k.expires = time.Now()
	return nil
}

func (k *kept) renewals() []time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]time.Duration(nil), k.extended...)
}

func (k *kept) held() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.expires)
}

// pass passes deliveries through an Extender's stage, to nobody, in a bubble of
// package synctest: time passes when all wait for it.
func pass(t *testing.T, opts stages.ExtendOptions, ds ...*pipeline.Delivery) *stages.Extender {
	t.Helper()
	x := stages.NewExtender(opts)
	t.Cleanup(x.Close)
	in, out := make(chan *pipeline.Delivery, len(ds)), make(chan *pipeline.Delivery, len(ds))
	for _, d := range ds {
		in <- d
	}
	close(in)
	if err := x.Stage()(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
	for i, want := range ds {
		if got := <-out; got != want {
			t.Fatalf("delivery %d is task %q, want %q", i, got.Task.ID, want.Task.ID)
		}
	}
	return x
}

// later lets time pass, and what comes of it, in a bubble.
func later(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func delivery(id string, l pipeline.Lease) *pipeline.Delivery {
	return pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte("{}")}, l, 1)
}

const leaseTime = time.Minute

// A task that takes many leases keeps its own, and each renewal comes well before
// the end of the one before.
func TestExtendKeepsALongTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKept(30*time.Second, nil)
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{}, d)
		for range 600 {
			later(time.Second)
			if !k.held() {
				t.Fatal("the lease has run out")
			}
		}
		if isLost(d) {
			t.Error("it counts as lost")
		}
		n := len(k.renewals())
		if n < 600/36 || n > 600/24+2 {
			t.Errorf("%d renewals in 10 minutes of a lease of 1", n)
		}
		if err := d.Ack(t.Context()); err != nil {
			t.Error(err)
		}
		later(time.Hour)
		if after := len(k.renewals()); after != n {
			t.Errorf("%d renewals after the end", after-n)
		}
	})
}

// Many leases that began together are not renewed together for ever.
func TestExtendSpreadsRenewals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ds []*pipeline.Delivery
		var ks []*kept
		for i := range 50 {
			k := newKept(leaseTime, nil)
			ks, ds = append(ks, k), append(ds, delivery(fmt.Sprint(i), k))
		}
		pass(t, stages.ExtendOptions{}, ds...)
		later(37 * time.Second)
		first, last := time.Hour, time.Duration(0)
		for _, k := range ks {
			at := k.renewals()[0]
			first, last = min(first, at), max(last, at)
		}
		if first < 24*time.Second || last > 36*time.Second || last-first < 6*time.Second {
			t.Errorf("the first renewals came between %v and %v", first, last)
		}
	})
}

// What fails is tried again, and the task is not lost by it.
func TestExtendTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKept(leaseTime, func(_ context.Context, n int) error {
			if n < 5 {
				return errors.New("no route to host")
			}
			return nil
		})
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{}, d)
		later(2 * leaseTime)
		if isLost(d) || !k.held() {
			t.Errorf("lost after %v", k.renewals())
		}
	})
}

// A lease that cannot be renewed is lost at its end and not before, also where the
// source does not answer at all.
func TestExtendLosesAtTheEnd(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(context.Context, int) error{
		"errors": func(context.Context, int) error { return errors.New("no route to host") },
		"hangs":  func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKept(leaseTime, answer)
				d := delivery("a", k)
				pass(t, stages.ExtendOptions{}, d)
				later(leaseTime - time.Second)
				if isLost(d) {
					t.Fatal("it is lost before the end of its lease")
				}
				later(2 * time.Second)
				if !isLost(d) {
					t.Fatalf("it is not lost, %v after the end of its lease", time.Second)
				}
				if n := len(k.renewals()); n > 40 {
					t.Errorf("%d attempts", n)
				}
			})
		})
	}
}

func TestExtendLosesWhatTheSourceHasTakenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKept(leaseTime, func(context.Context, int) error { return fmt.Errorf("gone: %w", pipeline.ErrLeaseLost) })
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{}, d)
		later(37 * time.Second)
		if !isLost(d) {
			t.Fatal("it is not lost")
		}
		later(time.Hour)
		if n := len(k.renewals()); n != 1 {
			t.Errorf("%d renewals", n)
		}
	})
}

// What is held longer than a task can take is let go, for somebody else.
func TestExtendLetsGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKept(leaseTime, nil)
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{MaxHold: 10 * time.Minute}, d)
		later(10 * time.Minute)
		if isLost(d) || !k.held() {
			t.Fatal("it is lost too early")
		}
		later(2 * time.Minute)
		if !isLost(d) || k.held() {
			t.Error("it is still held")
		}
	})
}

// A renewal that is under way when the task is released does not come after it.
func TestExtendDoesNotUndoARelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := false
		k := newKept(leaseTime, func(ctx context.Context, _ int) error {
			<-ctx.Done()
			<-time.After(time.Second) // as long as the network takes to see that
			ended = true
			return ctx.Err()
		})
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{}, d)
		later(37 * time.Second)
		if err := d.Release(t.Context(), 0); err != nil || !ended {
			t.Errorf("released (%v), and the renewal has ended: %v", err, ended)
		}
		if k.released < 38*time.Second || isLost(d) {
			t.Errorf("released after %v; lost: %v", k.released, isLost(d))
		}
	})
}

// An acknowledgment that takes longer than the lease does not lose the task.
func TestExtendKeepsWhatIsBeingAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKept(leaseTime, nil)
		k.ack = func() { <-time.After(5 * leaseTime) }
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{}, d)
		if err := d.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !k.held() {
			t.Error("the lease ran out meanwhile")
		}
		n := len(k.renewals())
		later(time.Hour)
		if len(k.renewals()) != n {
			t.Error("it is renewed after the end")
		}
	})
}

// What waits for a slot is renewed too, however much it is, and goes back when the
// stage is told to end.
func TestExtendKeepsWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := stages.NewExtender(stages.ExtendOptions{})
		defer x.Close()
		in, out := make(chan *pipeline.Delivery), make(chan *pipeline.Delivery)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- x.Stage()(ctx, in, out) }()
		var ks []*kept
		for i := range 100 { // nobody takes them
			ks = append(ks, newKept(leaseTime, nil))
			in <- delivery(fmt.Sprint(i), ks[i])
		}
		later(10 * leaseTime)
		for i, k := range ks {
			if !k.held() {
				t.Fatalf("task %d has run out", i)
			}
		}
		if first := <-out; first.Task.ID != "0" {
			t.Errorf("task %s came first", first.Task.ID)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for i, k := range ks[1:] {
			if k.released == 0 || k.held() {
				t.Errorf("task %d was not released", i+1)
			}
		}
	})
}

// Close returns when no renewal is under way, and there is none after it.
func TestExtendClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKept(leaseTime, func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
		d := delivery("a", k)
		x := pass(t, stages.ExtendOptions{}, d, delivery("local", nil))
		later(37 * time.Second)
		x.Close()
		later(time.Hour)
		if n := len(k.renewals()); n != 1 || isLost(d) {
			t.Errorf("%d renewals, lost: %v", n, isLost(d))
		}
	})
}
