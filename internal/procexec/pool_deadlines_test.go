package procexec

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Each deadline expires once, and deadlines expire in the order of their times. A deadline that was
// cleared does not expire. A deadline that was moved expires at its new time.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all, began := newDeadlines(), time.Now()
		var expired []string
		add := func(name string, after time.Duration) *deadline {
			d := &deadline{index: -1, expire: func(time.Time) { expired = append(expired, name) }}
			all.set(d, began.Add(after))
			return d
		}
		add("c", 3*time.Second)
		moved := add("moved", time.Second)
		cleared := add("cleared", 2*time.Second)
		add("a", time.Second)
		all.set(moved, began.Add(4*time.Second))
		all.clear(cleared)
		all.clear(cleared) // does nothing
		for len(all.heap) > 0 {
			<-all.timer.C
			all.expire()
		}
		if want := []string{"a", "c", "moved"}; !slices.Equal(expired, want) {
			t.Errorf("expired: %q, want %q", expired, want)
		}
		if elapsed := time.Since(began); elapsed != 4*time.Second {
			t.Errorf("the last deadline expired after %v, want 4s", elapsed)
		}
	})
}

// A deadline whose time is always in the past expires at most once per millisecond. A deadline that
// has passed does not expire if the function of another deadline sets it again.
func TestDeadlines_ExpireOncePerCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all, began := newDeadlines(), time.Now()
		overdue, count := &deadline{index: -1}, 0
		again := &deadline{index: -1, expire: func(time.Time) { t.Error("expired although it was set again") }}
		overdue.expire = func(now time.Time) {
			all.set(again, now.Add(time.Hour))
			if count++; count < 5 {
				all.set(overdue, began)
			}
		}
		all.set(overdue, began)
		all.set(again, began.Add(time.Nanosecond))
		for count < 5 {
			<-all.timer.C
			all.expire()
		}
		if elapsed := time.Since(began); elapsed != 5*time.Millisecond {
			t.Errorf("expired five times in %v, want 5ms", elapsed)
		}
	})
}
