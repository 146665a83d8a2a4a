package procexec

import "github.com/ctworker/ctworker/internal/unixfd"

// stdio is this program's end of the pipes of one process: the standard input, output and error of
// the process, and the pipe for its result. The caller of openStdio must call finish.
type stdio struct {
	stdout, stderr, resultFD *pipeReader
	stderrLine               lastLine   // of stderr; read it after finish
	output                   TaskOutput // receives the lines of stdout and stderr; nil if there is no receiver
	closeInput               func()
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
	if c.opts.Output != nil {
		std.output = c.opts.Output(task)
	}
	for _, open := range []struct {
		to    **pipeReader
		limit int64
		emit  func([]byte, bool)
	}{
		{&std.stdout, c.opts.MaxResult, std.emitStdout()},
		{&std.stderr, 0, func(line []byte, continued bool) {
			std.stderrLine.add(line, continued)
			c.opts.Stderr(task, line, continued)
			if std.output != nil {
				std.output.Line(OutputLine{Stream: Stderr, Text: line, Continued: continued})
			}
		}},
		{&std.resultFD, c.opts.MaxResult, nil},
	} {
		if *open.to, fd, err = newPipeReader(open.limit, open.emit); err != nil {
			std.closeChildFDs()
			std.finish()
			return nil, err
		}
		std.childFDs = append(std.childFDs, fd)
	}
	return std, nil
}

// emitStdout returns a function that passes lines of standard output to the output. It returns nil if
// there is no receiver.
func (s *stdio) emitStdout() func([]byte, bool) {
	if s.output == nil {
		return nil
	}
	return func(line []byte, continued bool) {
		s.output.Line(OutputLine{Stream: Stdout, Text: line, Continued: continued})
	}
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
	if s.output != nil {
		s.output.End()
		s.output = nil
	}
}
