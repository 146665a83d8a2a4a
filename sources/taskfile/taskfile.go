package taskfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// DefaultMaxTaskSize is the default of Options.MaxTaskSize.
const DefaultMaxTaskSize = 64 << 20

// Options are how a task file is read. The zero value is good.
type Options struct {
	// Skip is how many entries to read past. They are checked like any other,
	// but no task is made of them.
	Skip int64
	// Stdin is what the path "-" reads. The default is os.Stdin.
	Stdin io.Reader
	// Name is what errors call the path "-". The default is "standard input".
	Name string
	// Stream, if set, is read in place of a file; the path is then what errors call it,
	// and its ending says the format. The Source takes it over: Close closes it, also
	// to end a read that blocks.
	Stream io.ReadCloser
	// Size is how many bytes Stream has; 0 or less is unknown.
	Size int64
	// MaxTaskSize is how many bytes one entry may take in the file, and, for
	// YAML, also once its aliases have been expanded. Reading an entry takes a
	// few times its size in memory. The default is DefaultMaxTaskSize.
	MaxTaskSize int64
	// OnAmbiguous, if set, is called for the first unquoted value in a YAML file
	// that YAML 1.1 reads differently than this package. It is called at most
	// once. For a regular file it is called from the goroutine that calls Receive,
	// otherwise from another one. It must not call methods of the Source.
	OnAmbiguous func(Ambiguity)
	// OnWait, if set, is called at most once, from a goroutine of the Source, if opening a FIFO
	// has taken two seconds because no process has opened it for writing.
	OnWait func()

	waitNotice time.Duration // the two seconds; shorter in tests
}

// A Source reads the tasks of one file. It is a pipeline.Source.
//
// The caller of Receive reads a regular file itself. Anything else, such as a
// pipe or a terminal, may block for longer than a context lasts, so there a
// goroutine reads, which the Source owns: Open starts it and Close ends it.
type Source struct {
	scan    scan                 // where Receive reads
	reader  *asyncReader         // else nil
	surplus []*pipeline.Delivery // what feed gave beyond a later call's limit
	file    io.Closer            // nil where there is nothing of ours to close

	read  atomic.Int64
	total int64

	closeOnce sync.Once
	closeErr  error
}

var _ pipeline.Source = (*Source)(nil)

// Open opens a task file; the path "-" is standard input. It reports a file
// that is not there, or whose start shows that it cannot be a task file, with
// an *Error. Of anything but a regular file it reads nothing yet.
func Open(path string, opts Options) (*Source, error) {
	if opts.Stdin == nil {
		opts.Stdin = os.Stdin
	}
	if opts.MaxTaskSize <= 0 {
		opts.MaxTaskSize = DefaultMaxTaskSize
	}
	s := &Source{scan: scan{name: path, skip: opts.Skip, limit: opts.MaxTaskSize, onAmbiguous: opts.OnAmbiguous, onWait: opts.OnWait, waitNotice: cmp.Or(opts.waitNotice, 2*time.Second)}}
	if opts.Stream != nil {
		s.file, s.total = opts.Stream, max(opts.Size, 0)
		s.reader = startReader(&s.scan, opts.Stream, path)
		return s, nil
	}
	var src io.Reader
	var regular bool
	if path == "-" {
		s.scan.name = cmp.Or(opts.Name, "standard input")
		src = opts.Stdin
		if file, ok := src.(*os.File); ok {
			info, err := file.Stat()
			if err != nil {
				return nil, &Error{File: s.scan.name, Reason: "cannot be read: " + err.Error(), Err: err}
			}
			if info.IsDir() {
				return nil, &Error{File: s.scan.name, Reason: "is a directory, not a file"}
			}
			regular = info.Mode().IsRegular()
		}
	} else {
		info, err := os.Stat(path)
		if err != nil {
			return nil, openError(path, err)
		}
		if info.IsDir() {
			return nil, &Error{File: path, Reason: "is a directory, not a file"}
		}
		if regular = info.Mode().IsRegular(); regular {
			file, err := os.Open(path)
			if err != nil {
				return nil, openError(path, err)
			}
			src, s.file, s.total = file, file, info.Size()
		}
	}
	if !regular {
		s.reader = startReader(&s.scan, src, path)
		return s, nil
	}
	s.scan.begin(src, path, nil)
	if err := s.scan.err; err != nil {
		if closing := s.Close(context.Background()); closing != nil {
			err = errors.Join(err, closing)
		}
		return nil, err
	}
	return s, nil
}

func openError(path string, err error) *Error {
	reason := "cannot be opened: " + err.Error()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		reason = "there is no such file"
	case errors.Is(err, fs.ErrPermission):
		reason = "permission to read it is denied"
	}
	return &Error{File: path, Reason: reason, Err: err}
}

// checkEvery is how many entries are read between two looks at the context.
const ctxCheckInterval = 256

// Receive returns the next tasks, at most limit: all there are of a regular
// file, and of a pipe those that have arrived, but at least one. It returns
// io.EOF after the last, and an *Error for a broken entry, together with the
// tasks before it. Either error then comes of every later call.
//
// Where ctx ends first, nothing is lost: a later call goes on from there.
func (s *Source) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	limit = max(limit, 1)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.reader != nil {
		return s.receive(ctx, limit)
	}
	var out []*pipeline.Delivery
	for n := 1; len(out) < limit; n++ {
		if n%ctxCheckInterval == 0 && ctx.Err() != nil {
			if len(out) == 0 {
				return nil, ctx.Err()
			}
			break
		}
		delivery, err := s.scan.step()
		if err != nil {
			s.read.Store(s.scan.position())
			return result(out, err)
		}
		if delivery == nil {
			continue // skipped
		}
		if out == nil {
			out = make([]*pipeline.Delivery, 0, min(limit, ctxCheckInterval))
		}
		out = append(out, delivery)
	}
	s.read.Store(s.scan.position())
	return out, nil
}

// receive is Receive where a goroutine reads.
func (s *Source) receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	if len(s.surplus) == 0 {
		b, err := s.reader.receive(ctx, limit)
		if err != nil {
			return nil, err
		}
		s.read.Store(b.position)
		if len(b.deliveries) <= limit {
			return result(b.deliveries, b.err)
		}
		// The batch was asked for by an earlier call that did not wait for it.
		// Its error, if it has one, comes again with the next.
		s.surplus = b.deliveries
	}
	n := min(limit, len(s.surplus))
	out := s.surplus[:n:n]
	s.surplus = s.surplus[n:]
	return out, nil
}

// together keeps io.EOF for a call of its own: the contract has it come alone.
func result(out []*pipeline.Delivery, err error) ([]*pipeline.Delivery, error) {
	if errors.Is(err, io.EOF) && len(out) > 0 {
		return out, nil
	}
	return out, err
}

// Progress says how many bytes of the file the tasks delivered so far take up,
// and its size; 0 where that is not known, as for a pipe. Of a compressed file
// they are compressed bytes, and read runs ahead by what is being unpacked. It
// may be called from any goroutine.
func (s *Source) Progress() (read, total int64) {
	return s.read.Load(), s.total
}

// Close closes the file. It may be called more than once. Standard input is
// left open, except that an Options.Stdin which is blocked in a read and has a
// Close method, but no read deadline, is closed to end the read.
//
// A blocked read of a terminal or of an inherited pipe cannot be ended by any
// means that leaves it usable for other processes. Then Close returns all the
// same, and the goroutine ends with the next byte, the end of the input, or
// the process. The same holds for a named pipe that nobody has opened for
// writing.
func (s *Source) Close(ctx context.Context) error {
	s.closeOnce.Do(func() {
		if s.reader != nil {
			s.closeErr = s.reader.close(ctx)
			if s.file != nil {
				s.closeErr = errors.Join(s.closeErr, s.file.Close())
			}
			return
		}
		s.scan.close()
		s.scan.err = errClosed
		if s.file != nil {
			s.closeErr = s.file.Close()
		}
		if s.closeErr != nil {
			s.closeErr = fmt.Errorf("close task file: %w", s.closeErr)
		}
	})
	return s.closeErr
}
