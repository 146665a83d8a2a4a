package program

import (
	"fmt"
	"io"
	"runtime/debug"
)

// Begin prepares this process for a run or a command. It returns an exit code other than 0
// if a resource limit leaves too little for it, after writing which.
//
// Go's runtime aborts when it cannot have a thread or memory, with an exit code that means
// a wrong usage of ctworker; from here on it ends by SIGABRT instead.
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
