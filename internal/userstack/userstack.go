// Package userstack formats the stack of a panic in a user's function. The user's frames come first,
// and the frames of ctworker are omitted.
package userstack

import (
	"fmt"
	"runtime"
	"strings"
)

// maxFrames is the maximum number of frames in the text.
const maxFrames = 64

// Format returns the frames between the panic and the code of ctworker that called the user's function,
// innermost first, as lines in the format of runtime/debug.Stack. Each line starts with a line break.
// pcs are the program counters of the panicking goroutine, innermost first. ours reports whether a
// function belongs to the code that called the user's function.
func Format(pcs []uintptr, ours func(function string) bool) string {
	frames := runtime.CallersFrames(pcs)
	var b strings.Builder
	panicking, shown := false, 0
	for {
		frame, more := frames.Next()
		name := frame.Function
		switch {
		case !panicking:
			panicking = name == "runtime.gopanic"
		case shown == 0 && strings.HasPrefix(name, "runtime."): // internal frames of the panic
		case ours(name): // the remaining frames are ctworker's
			return b.String()
		case shown == maxFrames:
			b.WriteString("\n…")
			return b.String()
		default:
			shown++
			fmt.Fprintf(&b, "\n%s\n\t%s:%d", name, frame.File, frame.Line)
		}
		if !more {
			return b.String()
		}
	}
}
