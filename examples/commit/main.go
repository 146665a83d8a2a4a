// Command commit is a worker whose tasks do not write their results after a termination notice. If
// the machine stopped during the write, the result would be incomplete. After the notice, a task
// therefore requests a retry instead, and runs again on another machine.
//
//	go build -o commit ./examples/commit
//	./commit --task-file tasks.json --simulate-spot-termination-after 2
//
// examples/commit/worker.py does the same in Python, and examples/commit/task.sh as a command.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ctworker/ctworker"
)

func main() { ctworker.Main(work) }

func work(_ context.Context, t *ctworker.Task) (ctworker.Result, error) {
	<-time.After(time.Second) // simulates the work, which must not write anything
	if t.Worker().ReceivedTerminationNotice() {
		return ctworker.Retry("termination notice received: nothing was written"), nil
	}
	return "written", commit(t.ID + ".result")
}

// commit writes a temporary file and then renames it, because readers must never see an incomplete
// file.
func commit(name string) error {
	name = filepath.Base(name)
	if err := os.WriteFile(name+".part", []byte("the result\n"), 0o600); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return os.Rename(name+".part", name)
}
