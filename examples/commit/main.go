// Command commit is a worker whose tasks do not begin to write their results when the
// machine is about to be taken away: a write that is cut off would leave half a result.
// What such a task has not written, it asks to be run again elsewhere.
//
//	go build -o commit ./examples/commit
//	./commit --task-file tasks.json --simulate-spot-termination-after 2
//
// examples/commit/worker.py and examples/commit/task.sh do the same in Python and as a
// command.
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
	<-time.After(time.Second) // the work; nothing is written meanwhile
	if t.Worker().ReceivedTerminationNotice() {
		return ctworker.Retry("the machine is about to be taken away: nothing was written"), nil
	}
	return "written", commit(t.ID + ".result")
}

// commit writes under another name first, so that nobody ever sees half a file.
func commit(name string) error {
	name = filepath.Base(name)
	if err := os.WriteFile(name+".part", []byte("the result\n"), 0o600); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return os.Rename(name+".part", name)
}
