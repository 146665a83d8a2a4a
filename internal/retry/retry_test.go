package retry_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/internal/retry"
)

var (
	errPassing = errors.New("no route to host")
	errFinal   = errors.New("denied")
)

func passing(err error) bool { return errors.Is(err, errPassing) }

func TestDo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		errs  []error // errors of the first calls; later calls succeed
		calls int
		want  error
	}{
		"at once": {nil, 1, nil},
		"later":   {[]error{errPassing, errPassing}, 3, nil},
		"never":   {[]error{errPassing, errFinal}, 2, errFinal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				err := retry.Do(t.Context(), retry.Transients(passing), func() error {
					calls++
					if calls <= len(tc.errs) {
						return tc.errs[calls-1]
					}
					return nil
				})
				if calls != tc.calls || !errors.Is(err, tc.want) {
					t.Errorf("%d calls, %v", calls, err)
				}
			})
		})
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		calls := 0
		err := retry.Do(ctx, retry.Transients(passing), func() error { calls++; return errPassing })
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no route") || calls < 360 || calls > 800 {
			t.Errorf("%d calls in an hour, %v", calls, err)
		}
	})
}

// AtStart retries a transient error only a few times, and does not retry a permanent error.
func TestAtStart(t *testing.T) {
	t.Parallel()
	for want, err := range map[int]error{4: errPassing, 1: errFinal} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			if _, got := retry.AtStart(t.Context(), retry.Transients(passing), func() (int, error) { calls++; return 0, err }); calls != want || !errors.Is(got, err) {
				t.Errorf("%v: %d calls, %v", err, calls, got)
			}
		})
	}
}

func suspect(error) retry.Class { return retry.Suspect }

// Suspect errors are retried for a limited time. A panic is a suspect error.
func TestDo_GivesUpSuspectErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := retry.Do(t.Context(), retry.Options{Classify: suspect}, func() error { return errFinal })
		if took := time.Since(began); !errors.Is(err, errFinal) || took < retry.SuspectTime || took > retry.SuspectTime+time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
		calls := 0
		err = retry.Do(t.Context(), retry.Options{Classify: suspect}, func() error {
			if calls++; calls == 3 {
				return nil
			}
			panic("nil pointer")
		})
		if err != nil || calls != 3 {
			t.Errorf("%d calls, %v", calls, err)
		}
	})
}

func TestDo_TurnsPanicsIntoErrors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		err := retry.Do(t.Context(), retry.Transients(passing), func() error {
			if calls++; calls == 1 {
				var p *struct{ id int }
				p.id = 1 // panics, as an SDK may do if the response lacks a field
			}
			return nil
		})
		if err != nil || calls != 2 {
			t.Errorf("%d calls, %v", calls, err)
		}
	})
}

func TestAll_ReturnsPanicAsError(t *testing.T) {
	t.Parallel()
	failed := func(int) error { return errors.New("failed") }
	if err := retry.All(2, failed, func(int) error { panic("a fault") }); !retry.IsPanic(err) {
		t.Errorf("error %v", err)
	}
}
