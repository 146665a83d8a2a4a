// Package eventlog writes events to a file, one JSON object a line.
//
//	events ─▶ Write ─▶ whole lines, O_APPEND ─▶ file ◀─ other runs
//
// # The guarantee
//
// When Write returns nil, the events outlive this process, even if it is killed
// the next moment. A line is never split over two writes to a file, so several
// runs can share one and whoever reads it sees whole lines, but for one that a full
// disk cut off. Close makes them outlive the machine.
//
// # What it is not for
//
// It does not rotate, compress or read logs, and writes to local paths only. A
// named pipe that several runs share mixes their lines where they are longer than
// PIPE_BUF (pipe(7)).
package eventlog
