// Package function provides a source whose tasks come from a Go iterator.
//
//	iter.Seq2[Task, error] ─▶ Receive, as slots become free ─▶ deliveries
//
// # Guarantee
//
// The iterator is asked only for tasks that a slot can run, and runs in one goroutine.
//
// # Scope
//
// As with any local source, tasks cannot be released to another worker: an interrupted task is
// lost when the program ends.
package function
