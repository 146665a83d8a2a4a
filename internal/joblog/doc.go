// Package joblog writes task events in the format of the option --joblog of GNU parallel 20221122.
//
//	task events ─▶ Sink.Write ─▶ Formatter.Format ─▶ file, one line of nine columns per event
//
// # Guarantee
//
// Each task event becomes exactly one line with nine columns, whatever characters the ID of the task
// contains. The columns Exitval and Signal are those that GNU parallel writes for a command that ends in
// the same way. docs/events.md lists the differences in the other columns.
//
// # Scope
//
// The package does not read job logs. The source of the format is
// https://www.gnu.org/software/parallel/parallel.html#OPTIONS and the output of the program.
package joblog
