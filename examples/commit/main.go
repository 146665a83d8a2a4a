// Command commit is a worker whose tasks do not write their results after a termination notice:
// if the machine stopped during the write, the result would be incomplete. Such a task requests a
// retry, so that it runs again on another machine.
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
	<-time.After(time.Second) // the work; it writes nothing
	if t.Worker().ReceivedTerminationNotice() {
		return ctworker.Retry("termination notice received: nothing was written"), nil
	}
	return "written", commit(t.ID + ".result")
}

// commit writes to a temporary name and renames the file, so that readers never see an incomplete
// file.
func commit(name string) error {
	name = filepath.Base(name)
	if err := os.WriteFile(name+".part", []byte("the result\n"), 0o600); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return os.Rename(name+".part", name)
}
