package batch_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/internal/batch"
)

// recorder records the batches that it is asked to send. It returns an error for each negative
// item.
type recorder struct {
	mu      sync.Mutex
	batches [][]int
	at      []time.Duration
	began   time.Time
	busy    int
	busiest int
	takes   time.Duration // duration of each send
}

func newRecorder() *recorder { return &recorder{began: time.Now()} }

func (r *recorder) send(ctx context.Context, items []int) []error {
	r.mu.Lock()
	r.batches, r.at = append(r.batches, items), append(r.at, time.Since(r.began))
	r.busy++
	r.busiest = max(r.busiest, r.busy)
	r.mu.Unlock()
	select {
	case <-time.After(r.takes):
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy--
	var errs []error
	for _, i := range items {
		var err error
		switch {
		case ctx.Err() != nil:
			err = ctx.Err()
		case i < 0:
			err = fmt.Errorf("item %d is refused", i)
		}
		errs = append(errs, err)
	}
	return errs
}

// do calls b.Do for all items at the same time, and returns the error of each call.
func do(t *testing.T, b *batch.Batcher[int], items ...int) []error {
	errs := make([]error, len(items))
	var all sync.WaitGroup
	for i, item := range items {
		all.Go(func() { errs[i] = b.Do(t.Context(), item) })
	}
	all.Wait()
	return errs
}

func upTo(n int) (items []int) {
	for i := range n {
		items = append(items, i)
	}
	return items
}

func TestItemsAreGathered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		b := batch.New(batch.Options[int]{Linger: 20 * time.Millisecond}, r.send)
		defer b.Close(t.Context())
		do(t, b, upTo(25)...)
		if len(r.batches) != 3 || len(r.batches[0]) != 10 || len(r.batches[2]) != 5 {
			t.Fatalf("batches %v", r.batches)
		}
		if r.at[0] != 0 || r.at[2] != 20*time.Millisecond {
			t.Errorf("a full batch was sent after %v, the last batch after %v, want 0s and 20ms", r.at[0], r.at[2])
		}
	})
}

func TestEachHasItsOwnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		b := batch.New(batch.Options[int]{}, r.send)
		defer b.Close(t.Context())
		for i, err := range do(t, b, 1, -2, 3, -4) {
			if refused := i%2 == 1; (err != nil) != refused {
				t.Errorf("item %d: %v", i, err)
			}
		}
	})
}

func TestSizeBoundsABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		b := batch.New(batch.Options[int]{MaxBytes: 100, Size: func(i int) int { return i }}, r.send)
		defer b.Close(t.Context())
		do(t, b, 60, 60, 60, 500, 1, 2)
		if len(r.batches) < 4 {
			t.Errorf("batches %v", r.batches)
		}
		for _, items := range r.batches {
			sum := 0
			for _, i := range items {
				sum += i
			}
			if sum > 100 && len(items) > 1 {
				t.Errorf("a batch of %v", items)
			}
		}
	})
}

// A slow batch does not delay other batches, as long as at most MaxConcurrent batches are being
// sent.
func TestParallel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		r.takes = time.Second
		b := batch.New(batch.Options[int]{MaxItems: 1, MaxConcurrent: 3}, r.send)
		defer b.Close(t.Context())
		do(t, b, upTo(9)...)
		if took := time.Since(r.began); took != 3*time.Second || r.busiest != 3 {
			t.Errorf("9 batches took %v, at most %d at the same time", took, r.busiest)
		}
	})
}

func TestTheEndOfTheContextEndsDo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		r.takes = time.Hour
		b := batch.New(batch.Options[int]{}, r.send)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Do(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do returned %v", err)
		}
		if err := b.Do(ctx, 2); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do returned %v", err)
		}
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b.Close(soon)
		if took := time.Since(r.began); took != 2*time.Second || len(r.batches) != 1 {
			t.Errorf("closed after %v, batches %v", took, r.batches)
		}
		if err := b.Do(t.Context(), 3); !errors.Is(err, batch.ErrClosed) {
			t.Errorf("Do after Close returned %v", err)
		}
	})
}

// Close sends an incomplete batch.
func TestCloseSendsWhatIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		b := batch.New(batch.Options[int]{Linger: time.Hour}, r.send)
		did := make(chan error)
		go func() { did <- b.Do(t.Context(), 1) }()
		synctest.Wait()
		b.Close(t.Context())
		if err := <-did; err != nil || len(r.batches) != 1 {
			t.Errorf("%v, batches %v", err, r.batches)
		}
	})
}
