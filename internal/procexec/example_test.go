package procexec_test

import (
	"fmt"
	"time"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

// Run a command without a shell: the value of a placeholder is always one argument, even if the
// value contains spaces or characters that are special in a shell.
func Example() {
	launcher, err := procexec.NewLauncher(procexec.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = launcher.Close() }()
	command, err := procexec.NewCommand(launcher, procexec.CommandOptions{
		Argv:       []string{"echo", "{task_id}:", "{data.file}"},
		MaxRuntime: time.Minute,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := command.Run(procexec.Task{ID: "task-1", Data: []byte(`{"file":"$(a) b.txt"}`), Attempt: 1}, procexec.StopSignals{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Kind == outcome.Completed, string(result.Result))
	// Output: true "task-1: $(a) b.txt"
}
