package procexec

import "github.com/ctworker/ctworker/internal/unixfd"

// stdio is the parent's side of the standard streams of one process, and of the pipe for its
// result. The caller of openStdio calls finish.
type stdio struct {
	stdout, stderr, resultFD *pipeReader
	closeInput               func()
	// childFDs are the process's ends, in the order of their numbers in the process, until
	// closeChildFDs.
	childFDs []int
}

// openStdio opens the pipes for a task, and writes the task to its standard input.
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
		{&std.stderr, 0, func(line []byte, continued bool) { c.opts.Stderr(task, line, continued) }},
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

// closeChildFDs closes the process's ends in this process.
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

// finish reads the remaining output and releases all resources. Further calls have no effect.
func (s *stdio) finish() {
	s.closeInput()
	for _, c := range []*pipeReader{s.stdout, s.stderr, s.resultFD} {
		if c != nil {
			c.finish()
		}
	}
}
