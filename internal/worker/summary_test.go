package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/stages"
)

func TestSummary_Print(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		summary  Summary
		finished bool
		want     string
	}{
		{
			"all completed",
			Summary{
				Counts:  stages.Counts{Completed: 1000, CPU: 1800 * time.Millisecond, PeakMemory: 14 << 20},
				Elapsed: 2 * time.Second, EventFile: "events.log",
				Median: 12345 * time.Microsecond, P99: 2345 * time.Millisecond, Self: usage{cpu: 300 * time.Millisecond, peak: 24 << 20},
			},
			true,
			`1000 tasks in 2.0s, 500 tasks/s
  completed        1000
tasks:    1.8s of CPU in all, at most 14 MiB of memory each
latency:  p50 12.3ms, p99 2.35s, from receiving a task to writing its event
ctworker: 300ms of CPU (300µs per task), at most 24 MiB of memory
events:   events.log
`,
		}, {
			"one of each",
			Summary{
				Counts:  stages.Counts{Completed: 1, Exception: 2, TimedOut: 3, Exited: 4, Interrupted: 5, Retried: 6},
				Elapsed: 10 * time.Second,
			},
			false,
			`10 tasks in 10s, 1.00 tasks/s
  completed           1
  exception           2
  timed out           3
  exited              4
  interrupted         5  (stopped by the shutdown, no event written; run them again)
  to retry            6  (run them with --resume; --retries N retries tasks in the same run)
`,
		}, {
			"stopped",
			Summary{Counts: stages.Counts{Completed: 3}, Elapsed: time.Minute, Incomplete: true, ContinueWith: "ctworker run --resume -- ./f"},
			false,
			`3 tasks in 1m00s, 0.050 tasks/s
  completed           3
  not all tasks have been run
continue with:
  ctworker run --resume -- ./f
`,
		}, {
			"continued, and stopped again",
			Summary{Counts: stages.Counts{Completed: 9, Interrupted: 1}, Elapsed: time.Minute, Incomplete: true, Earlier: 7},
			false,
			`9 tasks in 1m00s, 0.15 tasks/s
  completed           9
  interrupted         1  (stopped by the shutdown, no event written; run them again)
  done before         7  (by earlier runs)
  not all tasks have been run
`,
		}, {
			"lease lost before the shutdown",
			Summary{Counts: stages.Counts{Completed: 3, LeaseLost: 1}, Elapsed: time.Minute},
			true,
			`3 tasks in 1m00s, 0.050 tasks/s
  completed           3
  lease lost          1  (stopped or discarded, no event written; another worker may run them)
`,
		}, {
			"lease lost during the shutdown",
			Summary{Counts: stages.Counts{Completed: 3, LeaseLost: 1}, Elapsed: time.Minute, LostInShutdown: 1},
			false,
			`3 tasks in 1m00s, 0.050 tasks/s
  completed           3
  lease lost          1  (stopped or discarded, no event written; another worker may run them)
`,
		}, {
			"failed tasks",
			Summary{Counts: stages.Counts{Completed: 3, Exited: 1}, Elapsed: time.Minute, RerunWith: "ctworker run --rerun failed -- ./f"},
			true,
			`4 tasks in 1m00s, 0.067 tasks/s
  completed           3
  exited              1
run the failed tasks again with:
  ctworker run --rerun failed -- ./f
`,
		}, {
			"limit reached",
			Summary{Counts: stages.Counts{Completed: 3}, Elapsed: time.Minute, LimitReached: true},
			true,
			`3 tasks in 1m00s, 0.050 tasks/s
  completed           3
`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			if err := tc.summary.Print(&b); err != nil {
				t.Fatal(err)
			}
			if b.String() != tc.want {
				t.Errorf("got\n%s\nwant\n%s", b.String(), tc.want)
			}
			if got := tc.summary.Finished(); got != tc.finished {
				t.Errorf("Finished() = %v", got)
			}
		})
	}
}

func TestSummaryLog(t *testing.T) {
	t.Parallel()
	s := Summary{Counts: stages.Counts{Completed: 3}, Elapsed: 2 * time.Second, Median: time.Millisecond, P99: 250 * time.Millisecond, Self: usage{time.Second / 2, 4096}}
	var b strings.Builder
	s.Log(zerolog.New(&b))
	// The resource usage of the tasks is unknown if a process runs several of them.
	if got := b.String(); strings.Contains(got, `"cpu_seconds"`) || !strings.Contains(got, `"tasks_per_second":1.50,"latency_p50_seconds":0.001,"latency_p99_seconds":0.25,"engine_cpu_seconds":0.5,"engine_peak_memory_bytes":4096,"event_log_file":""`) {
		t.Errorf("got %s", got)
	}
	s.CPU, s.PeakMemory = time.Second, 5
	b.Reset()
	s.Log(zerolog.New(&b))
	if got := b.String(); !strings.Contains(got, `"duration_seconds":2,"tasks_per_second":1.50,"cpu_seconds":1,"peak_memory_bytes":5,`) || !strings.HasPrefix(got, `{"level":"info","task_count":3,`) {
		t.Errorf("got %s", got)
	}
}

// The peak memory is that of this process, not of its parent process.
func TestSelfUsage(t *testing.T) {
	t.Parallel()
	u := selfUsage()
	if u.cpu <= 0 || u.peak < 1<<20 || u.peak > 4<<30 {
		t.Errorf("%v of CPU and %d bytes", u.cpu, u.peak)
	}
}
