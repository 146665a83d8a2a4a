package boottime_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctworker/ctworker/internal/boottime"
)

// While the machine is not suspended, Now advances like time.Now, also with the fake clock of a
// synctest bubble.
func TestNow_AdvancesLikeTimeNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := boottime.Now()
		<-time.After(time.Hour)
		if took := boottime.Now().Sub(began); took < time.Hour-time.Second || took > time.Hour+time.Minute {
			t.Errorf("after an hour, the clock advanced by %v", took)
		}
	})
}

func TestSuspended_IsStable(t *testing.T) {
	t.Parallel()
	first := boottime.Suspended()
	for range 1000 {
		if now := boottime.Suspended(); first < 0 || now < 0 || (now-first).Abs() > time.Minute {
			t.Fatalf("Suspended() = %v, then %v", first, now)
		}
	}
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		boottime.Now()
	}
}

func Example() {
	until := boottime.Now().Add(time.Minute)
	fmt.Println(boottime.Now().Before(until))
	// Output: true
}
