package procexec

// streams are one process's standard input, output and error, and the pipe for
// its result. Whoever opened them finishes them.
type streams struct {
	stdout, stderr, told *pipeReader
	finishInput          func()
	// theirs are the process's ends, in the order of its descriptors, until
	// handedOver.
	theirs []int
}

// openStreams opens the pipes for a task and puts the task into the first.
func (c *Command) openStreams(task Task) (*streams, error) {
	io := &streams{theirs: make([]int, 0, fdResult+1)}
	fd, finish, err := stdinPipe(taskLine(task))
	if err != nil {
		return nil, err
	}
	io.finishInput = finish
	io.theirs = append(io.theirs, fd)
	for _, open := range []struct {
		to    **pipeReader
		limit int64
		line  func([]byte, bool)
	}{
		{&io.stdout, c.opts.MaxResult, nil},
		{&io.stderr, 0, func(line []byte, continued bool) { c.opts.Stderr(task, line, continued) }},
		{&io.told, c.opts.MaxResult, nil},
	} {
		if *open.to, fd, err = newCapture(open.limit, open.line); err != nil {
			io.handedOver()
			io.finish()
			return nil, err
		}
		io.theirs = append(io.theirs, fd)
	}
	return io, nil
}

// handedOver closes the process's ends in this process.
func (s *streams) handedOver() {
	for _, fd := range s.theirs {
		closeFD(fd)
	}
	s.theirs = nil
}

// follow reads on as the process writes.
func (s *streams) follow() {
	for _, c := range []*pipeReader{s.stdout, s.stderr, s.told} {
		c.follow()
	}
}

// finish takes what is left and releases everything. A second call does nothing.
func (s *streams) finish() {
	s.finishInput()
	for _, c := range []*pipeReader{s.stdout, s.stderr, s.told} {
		if c != nil {
			c.finish()
		}
	}
}
