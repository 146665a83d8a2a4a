// Package eventlog writes events to a file, one JSON object a line.
//
//	events ─▶ Write ─▶ lock, whole lines, unlock ─▶ file ◀─ other runs
//
// # The guarantee
//
// When Write returns nil, the events outlive this process, even if it is killed
// the next moment. Several runs can share a file: each write holds a lock on it
// (flock(2)), and begins with a line break if the file ends in the middle of a line,
// as after a process that was killed while writing, or a full disk. Such a line stays
// incomplete, and never damages the next one. Close makes the events outlive the
// machine.
//
// A reader skips lines that are empty or are not JSON.
//
// # What it is not for
//
// It does not rotate, compress or read logs, and writes to local paths only. A
// named pipe that several runs share mixes lines that are longer than PIPE_BUF
// (pipe(7)). On a file system without locks, lines of several runs can damage each
// other if one of the runs is killed; a warning says so.
package eventlog
