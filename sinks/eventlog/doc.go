// Package eventlog writes events to a file, one per line, as JSON objects or in a format that the
// caller defines.
//
//	events ─▶ Write ─▶ lock, whole lines, unlock ─▶ file ◀─ other runs
//
// # The guarantee
//
// When Write returns nil, the events survive the end of this process, even by SIGKILL. When
// Close returns nil, they are on disk and survive a crash of the machine.
//
// Several runs can share a file. Each write holds a lock on the file. If the file ends in
// the middle of a line, because a process was killed during a write or the disk was full, the
// next write starts with a line break, so that the incomplete line does not corrupt the next line.
//
// Readers must skip lines that are empty or not JSON.
//
// # Scope
//
// The package does not rotate, compress or read logs, and writes to local paths only. In a
// named pipe that several runs share, lines longer than PIPE_BUF can be interleaved; see
// pipe(7). On a file system without locks, a run that is killed can corrupt lines of the other
// runs that share the file; the Log warns about such a file system.
package eventlog
