package progress

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

func TestLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		began := time.Now()
		l := StartLines(zerolog.New(&out), 10*time.Second, func() Status {
			switch at := time.Since(began); {
			case at == 10*time.Second:
				return Status{}
			case at == 20*time.Second:
				return Status{Done: 30, Failed: 2, Running: 4, Total: 90, Estimated: true}
			case at == 40*time.Second:
				return Status{Done: 90, Moves: "events"}
			case at == 30*time.Second:
				return Status{Done: 60, Failed: 2, Running: 4, Unreported: 7, Total: 90}
			default:
				t.Errorf("asked for the status after %v", at)
				return Status{}
			}
		})
		time.Sleep(44 * time.Second) // of the bubble's time
		l.Stop()
		l.Stop()
		time.Sleep(time.Minute)
		want := []string{
			`{"level":"info","done":0,"failed":0,"running":0,"tasks_per_second":0.00,"message":"progress"}`,
			`{"level":"info","done":30,"failed":2,"running":4,"tasks_per_second":1.50,"total":90,"total_is_estimate":true,"eta_seconds":40,"message":"progress"}`,
			`{"level":"info","done":60,"failed":2,"running":4,"tasks_per_second":2.00,"events_pending":7,"total":90,"total_is_estimate":false,"eta_seconds":15,"message":"progress"}`,
			`{"level":"info","done":90,"events_per_second":2.25,"message":"progress"}`,
		}
		if diff := cmp.Diff(want, strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")); diff != "" {
			t.Error(diff)
		}
	})
}

// A panic in status ends the lines, but not the run.
func TestLines_PanicEndsTheLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := StartLines(zerolog.New(&out), time.Second, func() Status { panic("a fault") })
		time.Sleep(time.Minute) // of the bubble's time
		l.Stop()
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "a fault") {
			t.Errorf("log: %s", got)
		}
	})
}
