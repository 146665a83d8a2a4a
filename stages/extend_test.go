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

// controlledLease is a lease whose responses the test determines.
type controlledLease struct {
	mu       sync.Mutex
	received time.Time
	expires  time.Time                              // when the source makes the task available to others
	extended []time.Duration                        // time from receiving to each extension
	respond  func(ctx context.Context, n int) error // returns the result of the n-th extension, from 1; nil if all succeed
	released time.Duration                          // time from receiving to releasing
	ack      func()                                 // called by Ack; it may block
}

func newControlledLease(duration time.Duration, respond func(context.Context, int) error) *controlledLease {
	now := time.Now()
	return &controlledLease{received: now, expires: now.Add(duration), respond: respond}
}

func (k *controlledLease) ExpiresAt() time.Time { return k.received.Add(k.expires.Sub(k.received)) }

func (k *controlledLease) Extend(ctx context.Context, d time.Duration) (time.Time, error) {
	k.mu.Lock()
	k.extended = append(k.extended, time.Since(k.received))
	n := len(k.extended)
	k.mu.Unlock()
	if k.respond != nil {
		if err := k.respond(ctx, n); err != nil {
			return time.Time{}, err
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expires = time.Now().Add(d)
	return k.expires, nil
}

func (k *controlledLease) Ack(context.Context) error {
	if k.ack != nil {
		k.ack()
	}
	return nil
}

func (k *controlledLease) Release(context.Context, time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.released = time.Since(k.received)
	k.expires = time.Now()
	return nil
}

func (k *controlledLease) extensions() []time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]time.Duration(nil), k.extended...)
}

func (k *controlledLease) isHeld() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Now().Before(k.expires)
}

// pass sends deliveries through the stage of an Extender, and discards the output. Call it in a
// synctest bubble.
func pass(t *testing.T, opts stages.ExtendOptions, ds ...*pipeline.Delivery) stages.Extender {
	t.Helper()
	return passOr(t, opts, func(error) {}, ds...)
}

// passOr is like pass. In addition, it calls onError if leases cannot be extended.
func passOr(t *testing.T, opts stages.ExtendOptions, onError func(error), ds ...*pipeline.Delivery) stages.Extender {
	t.Helper()
	x := stages.NewExtender(opts, onError)
	t.Cleanup(x.Close)
	in, out := make(chan *pipeline.Delivery, len(ds)), make(chan *pipeline.Delivery, len(ds))
	for _, d := range ds {
		in <- d
	}
	close(in)
	if err := x.Stage()(t.Context(), in, pipeline.NewOutput(out)); err != nil {
		t.Fatal(err)
	}
	for i, want := range ds {
		if got := <-out; got != want {
			t.Fatalf("delivery %d is task %q, want %q", i, got.Task.ID, want.Task.ID)
		}
	}
	return x
}

// advance waits until the time d has passed and everything else in the synctest bubble is blocked.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func delivery(id string, l pipeline.Lease) *pipeline.Delivery {
	return pipeline.NewDelivery(pipeline.Task{ID: id, Data: []byte("{}")}, l, 1)
}

const leaseTime = time.Minute

// The lease of a long task is extended repeatedly, each time well before the lease expires.
func TestExtender_ExtendsLeaseOfLongTask(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newControlledLease(30*time.Second, nil)
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{}, d)
		for range 600 {
			advance(time.Second)
			if !k.isHeld() {
				t.Fatal("the lease has expired")
			}
		}
		if isLost(d) {
			t.Error("the delivery is lost")
		}
		n := len(k.extensions())
		if n < 600/36 || n > 600/24+2 {
			t.Errorf("%d extensions of a lease of 1 minute in 10 minutes", n)
		}
		if err := d.Ack(t.Context()); err != nil {
			t.Error(err)
		}
		advance(time.Hour)
		if after := len(k.extensions()); after != n {
			t.Errorf("%d extensions after settling", after-n)
		}
	})
}

// Leases that begin at the same time are extended at different times.
func TestExtender_SpreadsExtensions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ds []*pipeline.Delivery
		var ks []*controlledLease
		for i := range 50 {
			k := newControlledLease(leaseTime, nil)
			ks, ds = append(ks, k), append(ds, delivery(fmt.Sprint(i), k))
		}
		pass(t, stages.ExtendOptions{}, ds...)
		advance(37 * time.Second)
		first, last := time.Hour, time.Duration(0)
		for _, k := range ks {
			at := k.extensions()[0]
			first, last = min(first, at), max(last, at)
		}
		if first < 24*time.Second || last > 36*time.Second || last-first < 6*time.Second {
			t.Errorf("the first extensions were between %v and %v", first, last)
		}
	})
}

// If an extension fails, it is retried, and the lease is not lost.
func TestExtender_RetriesFailedExtensions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newControlledLease(leaseTime, func(_ context.Context, n int) error {
			if n < 5 {
				return errors.New("no route to host")
			}
			return nil
		})
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{}, d)
		advance(2 * leaseTime)
		if isLost(d) || !k.isHeld() {
			t.Errorf("lost after extensions at %v", k.extensions())
		}
	})
}

// If all extensions fail or get no response, the delivery is lost when the lease expires, and not
// earlier.
func TestExtender_LosesLeaseWhenItExpires(t *testing.T) {
	t.Parallel()
	for name, respond := range map[string]func(context.Context, int) error{
		"errors": func(context.Context, int) error { return errors.New("no route to host") },
		"hangs":  func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newControlledLease(leaseTime, respond)
				d := delivery("a", k)
				pass(t, stages.ExtendOptions{}, d)
				advance(leaseTime - time.Second)
				if isLost(d) {
					t.Fatal("lost before the lease expired")
				}
				advance(2 * time.Second)
				if !isLost(d) {
					t.Fatalf("not lost %v after the lease expired", time.Second)
				}
				if n := len(k.extensions()); n > 40 {
					t.Errorf("%d attempts, want at most 40", n)
				}
			})
		})
	}
}

// If the source reports that a lease is lost, the delivery is lost.
func TestExtender_LosesLeaseThatSourceReportsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newControlledLease(leaseTime, func(context.Context, int) error { return fmt.Errorf("gone: %w", pipeline.ErrLeaseLost) })
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{}, d)
		advance(37 * time.Second)
		if !isLost(d) {
			t.Fatal("the delivery is not lost")
		}
		advance(time.Hour)
		if n := len(k.extensions()); n != 1 {
			t.Errorf("%d extensions, want 1", n)
		}
	})
}

// After MaxHold the lease is not extended, and the delivery is lost when the lease expires.
func TestExtender_MaxHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newControlledLease(leaseTime, nil)
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{MaxHold: 10 * time.Minute}, d)
		advance(10 * time.Minute)
		if isLost(d) || !k.isHeld() {
			t.Fatal("the delivery is lost too early")
		}
		advance(2 * time.Minute)
		if !isLost(d) || k.isHeld() {
			t.Error("the lease is still held")
		}
	})
}

// A release waits until no extension is in flight, because a later extension would undo the
// release.
func TestExtender_NoExtensionAfterRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ended := false
		k := newControlledLease(leaseTime, func(ctx context.Context, _ int) error {
			<-ctx.Done()
			<-time.After(time.Second) // the request ends only a second after its context is done
			ended = true
			return ctx.Err()
		})
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{}, d)
		advance(37 * time.Second)
		if err := d.Release(t.Context(), 0); err != nil || !ended {
			t.Errorf("release error %v, extension ended %v", err, ended)
		}
		if k.released < 38*time.Second || isLost(d) {
			t.Errorf("released after %v, lost %v", k.released, isLost(d))
		}
	})
}

// If an acknowledgment takes longer than the lease duration, the lease is extended while the
// acknowledgment is in flight.
func TestExtender_ExtendsLeaseDuringAck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newControlledLease(leaseTime, nil)
		k.ack = func() { <-time.After(5 * leaseTime) }
		d := delivery("a", k)
		pass(t, stages.ExtendOptions{}, d)
		if err := d.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !k.isHeld() {
			t.Error("the lease expired during the acknowledgment")
		}
		n := len(k.extensions())
		advance(time.Hour)
		if len(k.extensions()) != n {
			t.Error("the lease was extended after settling")
		}
	})
}

// The leases of all waiting tasks are extended. When the stage ends, it releases the tasks.
func TestExtender_ExtendsLeasesOfWaitingTasks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := stages.NewExtender(stages.ExtendOptions{}, func(error) {})
		defer x.Close()
		in, out := make(chan *pipeline.Delivery), make(chan *pipeline.Delivery)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- x.Stage()(ctx, in, pipeline.NewOutput(out)) }()
		var ks []*controlledLease
		for i := range 100 { // nothing receives from out, so all tasks wait in the stage
			ks = append(ks, newControlledLease(leaseTime, nil))
			in <- delivery(fmt.Sprint(i), ks[i])
		}
		advance(10 * leaseTime)
		for i, k := range ks {
			if !k.isHeld() {
				t.Fatalf("the lease of task %d has expired", i)
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
			if k.released == 0 || k.isHeld() {
				t.Errorf("task %d was not released", i+1)
			}
		}
	})
}

// Close waits until no extension is in flight. After Close, no extension starts.
func TestExtender_Close(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newControlledLease(leaseTime, func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
		d := delivery("a", k)
		x := pass(t, stages.ExtendOptions{}, d, delivery("local", nil))
		advance(37 * time.Second)
		x.Close()
		advance(time.Hour)
		if n := len(k.extensions()); n != 1 || isLost(d) {
			t.Errorf("%d extensions, want 1; lost %v", n, isLost(d))
		}
	})
}
