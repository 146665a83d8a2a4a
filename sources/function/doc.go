// Package function provides a source whose tasks come from a Go iterator.
//
//	iter.Seq2[Task, error] ─▶ Receive, as slots become free ─▶ deliveries
//
// # Guarantee
//
// The iterator runs in one goroutine. It advances only when the run requests tasks, which happens
// as slots become free.
//
// # Scope
//
// As with any local source, tasks cannot be released to another worker: an interrupted task is
// lost when the program ends.
package function
