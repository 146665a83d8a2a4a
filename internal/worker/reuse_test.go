package worker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker"
	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/internal/worker"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/stages"
)

func TestMain(m *testing.M) {
	procexec.RunGuard()
	if os.Getenv("CTWORKER_FD") != "" {
		ctworker.Main(func(context.Context, *ctworker.Task) (ctworker.Result, error) { return true, nil })
	}
	os.Exit(m.Run())
}

// taskFile writes n tasks as JSON lines.
func taskFile(tb testing.TB, n int) string {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "tasks.jsonl"))
	if err != nil {
		tb.Fatal(err)
	}
	w := bufio.NewWriter(f)
	for i := range n {
		_, _ = fmt.Fprintf(w, "{\"task_id\": \"task-%08d\", \"data\": {\"num1\": %8d, \"num2\": %8d}}\n", i, i, 2*i)
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		tb.Fatal(err)
	}
	return f.Name()
}

// run runs the n tasks of a file with runner. If runner is nil, it runs them in processes that each run many
// tasks.
func run(tb testing.TB, path string, n, slots int, runner stages.Runner) {
	tb.Helper()
	settings := map[string]string{
		"RMS_CLOUD_TASKS_TASK_FILE": path, "RMS_CLOUD_TASKS_NUM_TASKS_PER_INSTANCE": strconv.Itoa(slots),
		"RMS_CLOUD_TASKS_EVENT_LOG_FILE": filepath.Join(tb.TempDir(), "events.log"),
	}
	cfg, err := config.Load(config.Sources{SDK: config.Go, LookupEnv: func(name string) (string, bool) { v, ok := settings[name]; return v, ok }})
	if err != nil {
		tb.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	w, err := worker.Start(tb.Context(), worker.Options{Config: cfg, Argv: []string{self}, TaskProtocol: true, Runner: runner, Log: zerolog.Nop()})
	if err != nil {
		tb.Fatal(err)
	}
	summary, err := w.Wait()
	if err != nil || summary.Completed != int64(n) {
		tb.Fatalf("%d of %d tasks completed, error %v", summary.Completed, n, err)
	}
}

// Each allocation per task slows all tasks down. On an idle machine, a task needs 1.9 allocations
// and 250 bytes, and 2.4 allocations and 380 bytes with the race detector. The limits are slightly
// higher, by less than one allocation per task. On a busy machine, replies arrive in smaller
// batches, which need more allocations. Therefore the measurement is repeated: one more allocation
// per task would exceed the limit every time.
func TestReuse_Allocations(t *testing.T) {
	const few, many = 2_000, 42_000
	measure := func(n int) (count, size uint64) {
		path := taskFile(t, n)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		run(t, path, n, 2, nil)
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs, after.TotalAlloc - before.TotalAlloc
	}
	// Floats, because the difference is negative if the small run on a busy machine allocates more than the
	// large one.
	perTask := func(small, large uint64) float64 { return (float64(large) - float64(small)) / (many - few) }
	for range 20 {
		count1, size1 := measure(few)
		count2, size2 := measure(many)
		count, size := perTask(count1, count2), perTask(size1, size2)
		t.Logf("%.2f allocations and %.0f bytes per task", count, size)
		if count <= 2.8 && size <= 450 {
			return
		}
	}
	t.Error("too many allocations per task: go test -run TestReuse_Allocations -memprofile lists them")
}

func BenchmarkReuse(b *testing.B) {
	for _, slots := range []int{1, 2} {
		b.Run(fmt.Sprintf("slots=%d", slots), func(b *testing.B) {
			path := taskFile(b, b.N)
			b.ReportAllocs()
			b.ResetTimer()
			run(b, path, b.N, slots, nil)
		})
	}
}

func BenchmarkInProcess(b *testing.B) {
	path := taskFile(b, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	run(b, path, b.N, 2, stages.RunnerFunc(func(context.Context, pipeline.Task) (bool, []byte, error) { return false, []byte("true"), nil }))
}
