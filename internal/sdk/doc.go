// Package sdk implements worker programs that are written in Go. Package ctworker, at the root of
// the module, is its public API.
//
//	Program.Main ─┬─▶ engine: package app, which starts the program again as child processes
//	              ├─▶ child: reads tasks from a socket, calls Func, writes replies
//	              └─▶ inProcess: a stages.Runner that calls Func in goroutines
//
// A child runs one task at a time. It reports every way in which a call of Func can end: a result,
// an error, a panic and runtime.Goexit. If the task ends the process, for example with os.Exit, the
// engine reports the exit code of the process.
package sdk
