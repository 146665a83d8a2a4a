// Package report describes a run from its event logs.
//
//	event logs ─▶ Builder.Read ─▶ Builder.Report ─▶ Report ─▶ WriteText, WriteHTML, JSON
//
// # Guarantee
//
// A Builder reads each log once. Its memory does not depend on the number of events: it keeps counters,
// histograms with logarithmic buckets, series whose buckets become wider as the run grows, and the largest
// elements of lists.
//
// Events are not trusted. The page escapes all their texts, loads nothing, and has a content security policy
// that permits only its own script.
//
// # Scope
//
// The package does not know which tasks a task file contains; see package audit for that. The logs do not
// contain the start of an attempt, idle slots, or attempts that a shutdown killed. The report derives these
// facts, and marks them as estimates.
package report
