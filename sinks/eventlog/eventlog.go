package eventlog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/startup"
	"github.com/ctworker/ctworker/pipeline"
)

// errClosed is returned by Write after Close.
var errClosed = errors.New("the log is closed")

// errRemoved is returned if the file was removed while the Log had it open. The events in the
// removed file are lost.
var errRemoved = errors.New("the file was removed during the run")

// A Log appends events to a file, one JSON object per line. It is safe for concurrent use.
type Log struct {
	opts     Options
	file     file
	mayBlock bool          // not a regular file: a write may wait for a reader
	appender *appender     // nil unless file is a regular file
	turn     chan struct{} // holds a token while no goroutine writes

	// Only the goroutine that has the token may use the fields below.
	buf       []byte
	remainder []byte // the rest of a line of which an interrupted write has written a part
	err       error  // the first write error; there are no further writes after it
	closed    bool
}

// file contains the methods of *os.File that a Log needs.
type file interface {
	Write([]byte) (int, error)
	SetWriteDeadline(time.Time) error
	Sync() error
	Close() error
}

// chunk is the number of bytes that are collected before a write, and the maximum size of a
// buffer that is kept for the next write.
const chunk = 1 << 20

// Options configures a Log. The zero value has defaults.
type Options struct {
	// Log receives one warning if the file cannot be locked, and one line if the file is a FIFO and
	// Open waits for a process that reads it. The zero value discards both.
	Log zerolog.Logger
	// Flag is the command-line flag that sets the path of the file, for use in errors. Defaults to
	// "--event-log-file".
	Flag string
	// Recovery is what the user has to do about events that were not written, for use in errors.
	// Defaults to "run the tasks without an event again".
	Recovery string
	// Name is the kind of the file, for use in errors and log lines. Defaults to "event log".
	Name string
	// Header is the first line of the file, without its line break. It is written before the first
	// event, unless the file already contains text. Defaults to "", which means no header.
	Header string
	// Format appends an event to b as a line without its line break, and returns the extended buffer.
	// If it returns false, the event is not written. Format is not called concurrently. Defaults to
	// the method AppendJSON of the event, which appends one JSON object.
	Format func(b []byte, e *pipeline.Event) ([]byte, bool)

	noticeAfter time.Duration // the time after which Open logs that it waits; shorter in tests
}

// Validate returns nil: all values are valid.
func (o Options) Validate() error { return nil }

func (o Options) withDefaults() Options {
	o.Flag = cmp.Or(o.Flag, "--event-log-file")
	o.Recovery = cmp.Or(o.Recovery, "run the tasks without an event again")
	o.Name = cmp.Or(o.Name, "event log")
	if o.Format == nil {
		o.Format = func(b []byte, e *pipeline.Event) ([]byte, bool) { return e.AppendJSON(b), true }
	}
	o.noticeAfter = cmp.Or(o.noticeAfter, 2*time.Second)
	return o
}

// Open opens the log at path for appending, and creates it if it does not exist. It writes
// nothing. If the file is a FIFO, Open blocks until a process opens the FIFO for reading, and logs
// after two seconds that it is waiting. Open may also block on a network file system. If ctx is done
// first, Open returns the cause of ctx.
func Open(ctx context.Context, path string, opts Options) (*Log, error) {
	opts = opts.withDefaults()
	notice := time.AfterFunc(opts.noticeAfter, func() { opts.noticeFIFO(path) })
	defer notice.Stop()
	return startup.Open(ctx, func() (*Log, error) { return open(path, opts) }, func(l *Log) {
		_ = l.file.Close()
	}, opts.Name+": opening "+path)
}

// noticeFIFO logs that Open is waiting for a reader if the file is a FIFO.
func (o Options) noticeFIFO(path string) {
	if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		o.Log.Info().Str("component", "eventlog").Str("file", path).Msg("waiting until another process opens the " + o.Name + " FIFO for reading")
	}
}

func open(path string, opts Options) (*Log, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, opts.openError(path, err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", opts.Name, err)
	}
	l := newLog(f)
	l.opts = opts
	if info.Mode().IsRegular() {
		l.appender = newAppender(f, path, opts)
	} else {
		l.mayBlock = true
		if opts.Header != "" {
			l.remainder = []byte(opts.Header + "\n") // precedes the first line
		}
	}
	return l, nil
}

func newLog(f file) *Log {
	l := &Log{opts: Options{}.withDefaults(), file: f, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// Write appends the events in whole lines. It locks a regular file during each write, and first ends
// a line that another process left incomplete. Therefore neither a crash nor another run can corrupt
// a line of this run. When Write returns, the kernel has the events: they survive the end of this
// process, but only Close makes them survive a crash of the machine. After an error of the file, such
// as errRemoved, every later Write returns the same error.
//
// If ctx is done while a pipe is full or another process holds the lock, Write returns the error of
// ctx. It has then written only the events that the pipe has accepted. If the pipe has accepted a part
// of a line, the next Write or Close writes the rest of that line. After an error of ctx, later
// Writes work as usual. A write to a disk cannot be interrupted.
func (l *Log) Write(ctx context.Context, events []pipeline.Event) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer func() { l.turn <- struct{}{} }()
	return l.append(ctx, len(events), func(buf []byte, i int) ([]byte, bool) {
		if e := &events[i]; e.Withheld == nil || !e.Withheld() {
			return l.opts.Format(buf, e)
		}
		return buf, false
	})
}

// WriteLines appends lines as Write appends events. The lines contain no line breaks. When WriteLines
// returns nil, the lines are on disk and survive a crash of the machine. The caller may then delete
// the only other copy.
func (l *Log) WriteLines(ctx context.Context, lines [][]byte) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer func() { l.turn <- struct{}{} }()
	if err := l.append(ctx, len(lines), func(buf []byte, i int) ([]byte, bool) { return append(buf, lines[i]...), true }); err != nil {
		return err
	}
	if err := syncFile(l.file); err != nil {
		l.err = fmt.Errorf("%s: %w", l.opts.Name, err)
		return l.err
	}
	return nil
}

// append writes n lines. line appends the ith line to a buffer, or returns false if that line
// must not be written. The caller holds the token of l.turn.
func (l *Log) append(ctx context.Context, n int, line func(buf []byte, i int) ([]byte, bool)) error {
	if l.closed {
		return errClosed
	}
	defer l.interruptible(ctx)()
	l.awaitReader()
	l.buf = append(l.buf[:0], l.remainder...)
	for i := range n {
		var ok bool
		if l.buf, ok = line(l.buf, i); ok {
			l.buf = append(l.buf, '\n')
		}
		if len(l.buf) == 0 || len(l.buf) < chunk && i < n-1 {
			continue
		}
		if err := l.flush(ctx); err != nil {
			return err
		}
		if cap(l.buf) > chunk {
			l.buf = nil
		}
		l.buf = l.buf[:0]
	}
	return l.err
}

// awaitReader waits until a pipe has room. Call it before the lines are generated and Event.Withheld
// is called, so that both results are current when the lines are written. If the wait fails, the next
// write returns the error.
func (l *Log) awaitReader() {
	if !l.mayBlock {
		return
	}
	f, ok := l.file.(syscall.Conn)
	if !ok {
		return
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Write(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0)
		return n > 0 || err != nil
	})
}

// syncFile flushes the file to disk. It does nothing for a pipe or a terminal.
func syncFile(f file) error {
	err := f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

// lock takes the token of turn.
func (l *Log) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-l.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// interruptible makes a blocked write return when ctx ends. Call the returned function after the
// write.
func (l *Log) interruptible(ctx context.Context) func() {
	if !l.mayBlock {
		return func() {}
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = l.file.SetWriteDeadline(time.Unix(1, 0)) // files that do not support deadlines do not block for long
	})
	return func() {
		if !stop() {
			<-ended
		}
		_ = l.file.SetWriteDeadline(time.Time{})
	}
}

// flush writes the buffer, which ends with a line break.
func (l *Log) flush(ctx context.Context) error {
	if l.err != nil {
		return l.err
	}
	n, err := l.write(ctx)
	switch {
	case err == nil:
		l.remainder = nil
		return nil
	case ctx.Err() != nil && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ctx.Err())):
		if n > 0 {
			l.remainder = remainingLine(l.buf, n)
		}
		return ctx.Err()
	}
	l.err = l.opts.writeError(err, n)
	return l.err
}

// write writes the buffer. In a regular file, it starts on a new line, and holds the lock during the
// write.
func (l *Log) write(ctx context.Context) (n int, err error) {
	if l.appender == nil {
		return l.file.Write(l.buf)
	}
	torn, empty, err := l.appender.begin(ctx)
	if err != nil {
		return 0, err
	}
	prefix := 0
	switch {
	case torn:
		prefix, err = l.file.Write([]byte{'\n'})
	case empty && l.opts.Header != "":
		prefix, err = l.file.Write([]byte(l.opts.Header + "\n"))
	}
	if err == nil {
		n, err = l.file.Write(l.buf)
	}
	l.appender.end(prefix + n)
	return n, err
}

// remainingLine returns the rest of a line of which only a part was written. The first n bytes of buf
// were written. If they end with a line break, remainingLine returns nil.
func remainingLine(buf []byte, n int) []byte {
	if n == 0 || buf[n-1] == '\n' {
		return nil
	}
	return bytes.Clone(buf[n : n+bytes.IndexByte(buf[n:], '\n')+1])
}

// Close flushes the file to disk, so that it survives a crash of the machine, and closes it. If
// ctx ends first, Close returns an error, and the flush continues in the background. A second
// Close does nothing.
func (l *Log) Close(ctx context.Context) error {
	<-l.turn
	defer func() { l.turn <- struct{}{} }()
	if l.closed {
		return nil
	}
	l.closed = true
	var tornErr error
	if len(l.remainder) > 0 && l.err == nil {
		reset := l.interruptible(ctx)
		l.buf = append(l.buf[:0], l.remainder...)
		if err := l.flush(ctx); err != nil {
			tornErr = fmt.Errorf("%s: the last line is incomplete: %w", l.opts.Name, err)
		}
		reset()
	}
	synced := make(chan error, 1)
	go func() {
		err := syncFile(l.file)
		if l.appender != nil {
			l.appender.close()
		}
		synced <- errors.Join(err, l.file.Close())
	}()
	select {
	case err := <-synced:
		if err != nil {
			return errors.Join(tornErr, fmt.Errorf("%s: %w", l.opts.Name, err))
		}
	case <-ctx.Done():
		return errors.Join(tornErr, fmt.Errorf("%s: the file could not be flushed to disk in time; if the machine crashes now, the last events are lost: %w", l.opts.Name, ctx.Err()))
	}
	return tornErr
}
