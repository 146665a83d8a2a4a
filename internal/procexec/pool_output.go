package procexec

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/internal/unixfd"
)

// A processOutput reads what one process of a pool prints, and finds out which task has printed it.
//
// The process gets one task at a time, so that everything that it prints between two replies belongs
// to one task: before a reply is passed on, all that the process has printed until then is read. A
// process that has printed nothing for quietTasks tasks gets tasks in advance again. If it then
// prints, the loop determines the running task, which can be wrong by a few tasks. Such lines are
// marked as uncertain.
//
// The loop calls begin, and must not block. It therefore uses none of the state that mu guards.
type processOutput struct {
	open func(Task) TaskOutput
	slot int
	// locate asks the loop which task is running. It is called while prefetching is true.
	locate func() (Task, bool)

	next        atomic.Pointer[Task] // the task whose output is read next; nil if there is none
	prefetching atomic.Bool          // the process may run several tasks before the next reply is read
	unsure      atomic.Bool          // next is the first task after prefetching, so older output may still be in the pipes
	printed     atomic.Bool          // the process has printed something; the loop resets it

	mu         sync.Mutex
	streams    []*outputStream
	running    TaskOutput // of the task in next; nil until the task prints something
	idle       TaskOutput // for output without a task; nil until there is some
	stderrLine lastLine   // of the running task
	finished   bool
	panicked   error // a panic of a TaskOutput
}

// outputStream is one stream of a process. processOutput.mu guards it, except for file.
type outputStream struct {
	stream Stream
	file   *os.File // the reading end of the pipe
	done   chan struct{}
	lines  lineSplitter
	chunk  []byte
}

// quietTasks is the number of tasks without output after which a process gets tasks in advance.
const quietTasks = 1000

// newProcessOutput opens the pipes for the streams of a process. fds are the writing ends, which the
// process inherits; the index of a descriptor is that of its stream in streams.
func newProcessOutput(open func(Task) TaskOutput, slot int, streams []Stream) (o *processOutput, fds []int, err error) {
	o = &processOutput{open: open, slot: slot}
	for _, stream := range streams {
		r, w, err := unixfd.Pipe()
		if err == nil {
			err = syscall.SetNonblock(r, true) // the process gets a pipe that blocks
		}
		if err != nil {
			for _, fd := range fds {
				unixfd.Close(fd)
			}
			o.closeFiles()
			return nil, nil, os.NewSyscallError("pipe", err)
		}
		s := &outputStream{stream: stream, file: os.NewFile(uintptr(r), "output of a process"), done: make(chan struct{}), chunk: make([]byte, 4<<10)}
		o.streams = append(o.streams, s)
		fds = append(fds, w)
	}
	return o, fds, nil
}

// start starts to read. It must be called once, and finish after it.
func (o *processOutput) start() {
	for _, s := range o.streams {
		go o.read(s)
	}
}

// read reads a stream until its end, or until finish is called. It reads while it holds mu, so that
// endTask finds nothing that has been read but not handled.
func (o *processOutput) read(s *outputStream) {
	defer close(s.done)
	conn, err := s.file.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) (ended bool) {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.readAvailable(s, int(fd))
	})
}

// readAvailable reads what a pipe contains. It returns true at the end of the stream. It reads at
// most the capacity of a pipe, because the process may never stop writing.
func (o *processOutput) readAvailable(s *outputStream, fd int) (ended bool) {
	const capacity = 1 << 20 // default of /proc/sys/fs/pipe-max-size; see pipe(7)
	for total := 0; total < capacity; {
		n, err := syscall.Read(fd, s.chunk)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return false
		case n <= 0:
			return true
		default:
			o.handle(s, s.chunk[:n])
			total += n
			if n == len(s.chunk) && n < maxLine {
				s.chunk = make([]byte, 16*n) // the process prints a lot
			}
		}
	}
	return false
}

// handle passes data to the task that has printed it. After a panic of a TaskOutput, all further
// data is discarded: it must still be read, because the process blocks when its pipe is full.
func (o *processOutput) handle(s *outputStream, data []byte) {
	o.printed.Store(true)
	if o.panicked != nil {
		return
	}
	if p := panics.Try(func() { o.pass(s, data) }); p != nil {
		o.panicked = p.AsError()
	}
}

func (o *processOutput) pass(s *outputStream, data []byte) {
	to, uncertain := o.receiver()
	if uncertain {
		defer to.End()
	}
	s.lines.emit = func(line []byte, continued bool) {
		if s.stream == Stderr && !uncertain {
			o.stderrLine.add(line, continued)
		}
		to.Line(OutputLine{Stream: s.stream, Text: line, Continued: continued, Uncertain: uncertain})
	}
	s.lines.add(data)
	if uncertain {
		s.lines.flush()
	}
}

// receiver returns what receives the output that is read now.
func (o *processOutput) receiver() (to TaskOutput, uncertain bool) {
	if task := o.next.Load(); task != nil {
		if o.unsure.Load() {
			return o.open(*task), true
		}
		if o.running == nil {
			o.running = o.open(*task)
		}
		return o.running, false
	}
	if o.prefetching.Load() {
		if task, ok := o.locate(); ok {
			return o.open(task), true
		}
	}
	if o.idle == nil {
		o.idle = o.open(Task{Slot: o.slot})
	}
	return o.idle, false
}

// begin sets the task whose output is read from now on. It must be called before the process
// receives the task. It does not block.
func (o *processOutput) begin(task Task) {
	task.Data, task.Slot = nil, o.slot
	o.unsure.Store(o.prefetching.Swap(false))
	o.next.Store(&task)
}

// readStart reads what the process has printed before it was ready for its first task.
func (o *processOutput) readStart() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drain()
	o.flush()
}

// flush passes on the last line of each stream if its end is missing.
func (o *processOutput) flush() {
	for _, s := range o.streams {
		if o.panicked == nil && s.lines.emit != nil {
			if p := panics.Try(s.lines.flush); p != nil {
				o.panicked = p.AsError()
			}
		}
	}
}

// endTask reads what the running task has printed, and ends its output. It does nothing if begin
// was not called for the task.
func (o *processOutput) endTask() {
	if o.next.Load() == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drain()
	o.endRunning()
}

// drain reads what the pipes contain.
func (o *processOutput) drain() {
	if o.finished {
		return
	}
	for _, s := range o.streams {
		if conn, err := s.file.SyscallConn(); err == nil {
			_ = conn.Control(func(fd uintptr) { o.readAvailable(s, int(fd)) })
		}
	}
}

// endRunning ends the output of the running task.
func (o *processOutput) endRunning() {
	o.flush()
	if o.running != nil {
		if p := panics.Try(o.running.End); p != nil && o.panicked == nil {
			o.panicked = p.AsError()
		}
	}
	o.running, o.stderrLine = nil, nil
	o.next.Store(nil)
}

// finish reads the rest of the output of a process that has exited, and closes the pipes. It returns
// the last line of standard error of the task that was running, and the panic of a TaskOutput.
func (o *processOutput) finish() (stderrLine string, err error) {
	for _, s := range o.streams {
		_ = s.file.SetReadDeadline(time.Unix(1, 0))
		<-s.done
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.drain()
	o.finished = true
	o.flush()
	stderrLine = o.stderrLine.text()
	o.endRunning()
	if o.idle != nil {
		o.idle.End()
		o.idle = nil
	}
	o.closeFiles()
	return stderrLine, o.panicked
}

func (o *processOutput) closeFiles() {
	for _, s := range o.streams {
		_ = s.file.Close()
	}
}
