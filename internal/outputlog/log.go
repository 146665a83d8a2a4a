package outputlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rs/zerolog"
	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/internal/startup"
)

// Options configures a Log.
type Options struct {
	// Path is the file of JSON lines. If it ends with ".zst", the file is compressed with zstd. If it
	// is empty, no such file is written.
	Path string
	// Dir is a directory for one text file per attempt and stream: Dir/TASK/ATTEMPT.stdout, where TASK
	// is FileName of the task ID. If it is empty, no such files are written.
	Dir string
	// MaxSize is the maximum size of the lines that the log keeps per attempt, in bytes of JSON. One
	// half is for the first lines, the other for the last. Defaults to 1 MiB.
	MaxSize int64
	// Log receives errors. An error never ends the run.
	Log zerolog.Logger
}

// DefaultMaxSize is the default of Options.MaxSize.
const DefaultMaxSize = 1 << 20

const (
	// maxPending is the size of the lines that may wait to be written. While more wait, Attempt.Line
	// blocks.
	maxPending = 4 << 20
	// A frame of a compressed file is written when frameSize bytes of lines wait, or after
	// frameInterval. Larger frames compress better; a crash loses at most one frame.
	frameSize     = 1 << 20
	frameInterval = time.Second
)

// A Log records the output of tasks. Its methods are safe for concurrent use.
type Log struct {
	opts Options
	file *os.File      // nil without Options.Path
	zstd *zstd.Encoder // nil if the file is not compressed

	mu      sync.Mutex
	pending []byte
	taken   chan struct{} // closed and replaced when the writer takes the pending lines
	wake    chan struct{} // capacity 1
	closed  bool
	ended   chan struct{} // closed when the writer has returned

	failures sync.Mutex // guards the fields below
	failing  bool       // the last write failed, and the error has been logged
	lost     int64      // lines that could not be written
	torn     bool       // the file may end within a line
	noFiles  bool       // a text file could not be written, and the error has been logged
}

// Open opens the output log. It creates the file, or appends to an existing output log. A compressed
// file must have only one writer, so Open locks it. Call Close when the run has ended.
func Open(ctx context.Context, opts Options) (*Log, error) {
	if opts.MaxSize == 0 {
		opts.MaxSize = DefaultMaxSize
	}
	l := &Log{opts: opts, taken: make(chan struct{}), wake: make(chan struct{}, 1), ended: make(chan struct{})}
	if opts.Dir != "" {
		if err := os.MkdirAll(opts.Dir, 0o777); err != nil {
			return nil, fmt.Errorf("--output-dir-per-task: %w", err)
		}
	}
	if opts.Path == "" {
		close(l.ended)
		return l, nil
	}
	file, err := startup.Open(ctx, func() (*os.File, error) { return openFile(opts.Path) }, func(f *os.File) { _ = f.Close() }, "--output-log: opening "+opts.Path)
	if err != nil {
		return nil, err
	}
	l.file = file
	if isCompressed(opts.Path) {
		// The window is small, because frames are small.
		l.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(frameSize))
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	go l.run()
	return l, nil
}

func isCompressed(path string) bool { return strings.HasSuffix(path, ".zst") }

// openFile opens the file for appending, after checking that it is an output log.
func openFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fmt.Errorf("--output-log: %w", err)
	}
	if err := prepare(file, path); err != nil {
		return nil, errors.Join(fmt.Errorf("--output-log %s: %w", path, err), file.Close())
	}
	return file, nil
}

// errNotALog means that a file exists and is not an output log.
var errNotALog = errors.New("the file exists and is not an output log, so nothing is appended to it; use another file")

// prepare makes sure that lines can be appended to the file.
func prepare(file *os.File, path string) error {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if isCompressed(path) {
		if err := lock(file); err != nil {
			return err
		}
		return truncateTornFrame(file)
	}
	if info.Size() == 0 {
		return nil
	}
	start := make([]byte, min(int64(len(prefix)), info.Size()))
	if _, err := file.ReadAt(start, 0); err != nil {
		return err
	}
	if !strings.HasPrefix(prefix, string(start)) {
		return errNotALog
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = file.Write([]byte{'\n'}) // the last run was killed while it wrote a line
	return err
}

// write adds a line to the pending lines. It blocks while too many lines are pending.
func (l *Log) write(line []byte) {
	if l.file == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending)+len(line) > maxPending && len(l.pending) > 0 && !l.closed {
		taken := l.taken
		l.mu.Unlock()
		<-taken
		l.mu.Lock()
	}
	if l.closed {
		return
	}
	l.pending = append(l.pending, line...)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run writes the pending lines until the log is closed.
func (l *Log) run() {
	defer close(l.ended)
	var lines []byte
	for range l.wake {
		if l.zstd != nil {
			l.awaitFrame()
		}
		if lines = l.take(lines); len(lines) > 0 {
			if p := panics.Try(func() { l.writeAll(lines) }); p != nil {
				l.failed(p.AsError(), lines)
			}
		}
	}
}

// awaitFrame waits until enough lines for a frame are pending, frameInterval has passed, or the log
// is closed.
func (l *Log) awaitFrame() {
	timer := time.NewTimer(frameInterval)
	defer timer.Stop()
	for {
		l.mu.Lock()
		ready := len(l.pending) >= frameSize || l.closed
		l.mu.Unlock()
		if ready {
			return
		}
		select {
		case <-timer.C:
			return
		case <-l.wake: // closed, or more lines
		}
	}
}

// take returns the pending lines. It reuses the memory of before.
func (l *Log) take(before []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.pending
	l.pending = before[:0]
	close(l.taken)
	l.taken = make(chan struct{})
	return lines
}

func (l *Log) writeAll(lines []byte) {
	data := lines
	var before int64
	if l.zstd != nil {
		data = l.zstd.EncodeAll(lines, nil)
		end, err := l.file.Seek(0, io.SeekEnd)
		if err != nil {
			l.failed(err, lines)
			return
		}
		before = end
	} else if l.torn {
		data = append([]byte{'\n'}, lines...)
	}
	n, err := l.file.Write(data)
	if err == nil {
		l.succeeded()
		return
	}
	switch {
	case n == 0:
	case l.zstd != nil:
		err = errors.Join(err, l.file.Truncate(before))
	default:
		l.torn = true
		lines = lines[min(bytes.LastIndexByte(data[:n], '\n')+1, len(lines)):]
	}
	l.failed(err, lines)
}

// failed counts the lines that could not be written. It logs the first error of a series.
func (l *Log) failed(err error, lines []byte) {
	l.failures.Lock()
	defer l.failures.Unlock()
	l.lost += int64(bytes.Count(lines, []byte{'\n'}))
	if !l.failing {
		l.opts.Log.Error().Err(err).Str("file", l.opts.Path).Msg("cannot write to the output log: the tasks continue, but what they print is not recorded until writing succeeds")
	}
	l.failing = true
}

func (l *Log) succeeded() {
	l.failures.Lock()
	defer l.failures.Unlock()
	if l.failing {
		l.opts.Log.Info().Str("file", l.opts.Path).Int64("lost_lines", l.lost).Msg("writing to the output log works again")
	}
	l.failing, l.torn = false, false
}

// fileFailed logs the first error of a text file.
func (l *Log) fileFailed(err error) {
	l.failures.Lock()
	defer l.failures.Unlock()
	if !l.noFiles {
		l.opts.Log.Error().Err(err).Msg("cannot write to a file of --output-dir-per-task: the tasks continue, but what some of them print is not recorded")
	}
	l.noFiles = true
}

// Close writes the pending lines and closes the file. No attempt may be recorded after that.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	if l.file != nil {
		close(l.wake)
	}
	l.mu.Unlock()
	<-l.ended
	if l.file == nil {
		return nil
	}
	if l.zstd != nil {
		_ = l.zstd.Close() // releases its memory; nothing is buffered
	}
	if l.lost > 0 {
		l.opts.Log.Error().Str("file", l.opts.Path).Int64("lost_lines", l.lost).Msg("the output log is incomplete, because some lines could not be written")
	}
	return l.file.Close()
}
