// Package again does once more what may do better the next time, such as a request to
// a provider whom the network keeps away.
package again

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Do calls do until it succeeds, or fails in a way that is not passing, or ctx ends.
// The pause between two calls grows to about ten seconds.
func Do(ctx context.Context, passing func(error) bool, do func() error) error {
	for try := 0; ; try++ {
		err := do()
		if err == nil || ctx.Err() != nil || !passing(err) {
			return err
		}
		if !Pause(ctx, try) {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// roundsAtStart is how often something is tried that has to be known before anything
// else, such as a queue's address: somebody waits for it, and may have mistyped it.
const roundsAtStart = 3

// AtStart calls do until it succeeds, or fails in a way that is not passing, but three
// times at most: within some seconds.
func AtStart[T any](ctx context.Context, passing func(error) bool, do func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		out, err := do()
		if err == nil || try == roundsAtStart || !passing(err) || !Pause(ctx, try-1) {
			return out, err
		}
	}
}

// Pause waits before another try: from about half a second to about ten, longer each
// time. It reports false where ctx ends first.
func Pause(ctx context.Context, try int) bool {
	most := min(time.Second<<min(try, 10), 10*time.Second)
	timer := time.NewTimer(most/2 + rand.N(most/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// All waits for n things that have been begun, and has each that has failed done once more,
// all of those at the same time. It returns the first error that this comes to.
func All(n int, wait, do func(i int) error) error {
	var more sync.WaitGroup
	errs := map[int]*error{}
	for i := range n {
		if wait(i) == nil {
			continue
		}
		err := new(error)
		errs[i] = err
		more.Go(func() { *err = do(i) })
	}
	more.Wait()
	for i := range n {
		if err := errs[i]; err != nil && *err != nil {
			return *err
		}
	}
	return nil
}
