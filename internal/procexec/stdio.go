package procexec

import (
	"bytes"

	"github.com/ctworker/ctworker/internal/unixfd"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

// maxStderrLine is the maximum length of TaskResult.StderrLine in bytes.
const maxStderrLine = 500

// stdio is this program's end of the pipes of one process: the standard input, output and error of
// the process, and the pipe for its result. The caller of openStdio must call finish.
type stdio struct {
	stdout, stderr, resultFD *pipeReader
	// stderrLine is the last line of stderr that is not empty. Read it after finish.
	stderrLine []byte
	closeInput func()
	// childFDs are the descriptors that the process inherits. The index of a descriptor is its
	// number in the process. closeChildFDs closes the descriptors in this program.
	childFDs []int
}

// openStdio opens the pipes for the process of a task, and starts to write the task to the standard
// input of the process.
func (c *Command) openStdio(task Task) (*stdio, error) {
	std := &stdio{childFDs: make([]int, 0, fdResult+1)}
	fd, finish, err := stdinPipe(stdinLine(task))
	if err != nil {
		return nil, err
	}
	std.closeInput = finish
	std.childFDs = append(std.childFDs, fd)
	for _, open := range []struct {
		to    **pipeReader
		limit int64
		line  func([]byte, bool)
	}{
		{&std.stdout, c.opts.MaxResult, nil},
		{&std.stderr, 0, func(line []byte, continued bool) {
			if text := bytes.TrimSpace(line); len(text) > 0 && !continued && (len(std.stderrLine) == 0 || !isHint(text)) {
				std.stderrLine = append(std.stderrLine[:0], utf8cut.Start(text, maxStderrLine)...)
			}
			c.opts.Stderr(task, line, continued)
		}},
		{&std.resultFD, c.opts.MaxResult, nil},
	} {
		if *open.to, fd, err = newPipeReader(open.limit, open.line); err != nil {
			std.closeChildFDs()
			std.finish()
			return nil, err
		}
		std.childFDs = append(std.childFDs, fd)
	}
	return std, nil
}

// isHint reports whether a line is the one that GNU programs write after the error message for an invalid
// command line, such as "Try 'sleep --help' for more information."
func isHint(line []byte) bool {
	return bytes.HasPrefix(line, []byte("Try '")) && bytes.HasSuffix(line, []byte(" --help' for more information."))
}

// closeChildFDs closes the descriptors that the process has inherited.
func (s *stdio) closeChildFDs() {
	for _, fd := range s.childFDs {
		unixfd.Close(fd)
	}
	s.childFDs = nil
}

// startReading starts goroutines that read the output while the process runs.
func (s *stdio) startReading() {
	for _, c := range []*pipeReader{s.stdout, s.stderr, s.resultFD} {
		c.start()
	}
}

// finish reads the rest of the output and closes the pipes. Further calls have no effect.
func (s *stdio) finish() {
	s.closeInput()
	for _, c := range []*pipeReader{s.stdout, s.stderr, s.resultFD} {
		if c != nil {
			c.finish()
		}
	}
}
