package procexec_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/prefetch"
	"github.com/ctworker/ctworker/internal/procexec"
)

// If a goroutine of the pool panics, Run returns the panic as an error, and this process continues.
func TestPool_PanicFailsTheRun(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, procexec.Options{})
	pool, err := procexec.NewPool(l, procexec.PoolOptions{
		Argv: []string{self(t)}, Env: append(os.Environ(), childVar+"=worker", "GORACE=atexit_sleep_ms=0"),
	})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(action{})
	if err != nil {
		t.Fatal(err)
	}
	in := make(chan procexec.Task, 1)
	in <- procexec.Task{ID: "t", Attempt: 1, Data: data}
	failed := make(chan error, 1)
	err = procexec.Run(pool, procexec.RunConfig[procexec.Task, int]{
		Input: in, Output: func(int) chan<- int { return make(chan int, 1) }, Task: func(task procexec.Task) procexec.Task { return task },
		Prefetch:  prefetch.New(prefetch.Config{}),
		Result:    func(procexec.Task, procexec.TaskResult) int { panic("a fault in Result") },
		OnRelease: func(procexec.Task) {},
		OnError: func(err error) {
			select {
			case failed <- err:
			default:
			}
		},
	}, procexec.StopSignals{})
	if err == nil || !strings.Contains(err.Error(), "a fault in Result") {
		t.Errorf("Run: %v", err)
	}
	if err := <-failed; err == nil {
		t.Error("OnError was not called")
	}
	if err := pool.Close(); err != nil {
		t.Error(err)
	}
}
