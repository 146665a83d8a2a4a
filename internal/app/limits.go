package app

import (
	"fmt"
	"io"
	"runtime/debug"
)

// Begin prepares this process for a run or a command. If a resource limit is too low, Begin writes
// the name of the limit to stderr, and returns an exit code other than ExitOK.
//
// Go's runtime aborts if it cannot get a thread or memory. By default, it then exits with 2, which
// in ctworker means a usage error. After Begin, the process dies of SIGABRT instead.
func Begin(stderr io.Writer, name string) int {
	debug.SetTraceback("crash")
	warning, err := checkLimits()
	if warning != "" {
		_, _ = fmt.Fprintf(stderr, "%s: %s\n", name, warning)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return ExitFatal
	}
	return ExitOK
}
