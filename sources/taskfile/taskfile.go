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

	"github.com/ctworker/ctworker/internal/optcheck"
	"github.com/ctworker/ctworker/pipeline"
)

// defaultMaxTaskSize is the default of Options.MaxTaskSize.
const defaultMaxTaskSize = 64 << 20

// Options configures Open. The zero value has defaults.
type Options struct {
	// Skip is the number of entries to skip. Skipped entries are checked, but not delivered.
	Skip int64
	// Stdin is the reader for the path "-". Defaults to os.Stdin.
	Stdin io.Reader
	// Name is the name of the path "-" in errors. Defaults to "standard input".
	Name string
	// Stream, if set, is read instead of a file. The path is then used for errors, and its
	// extension determines the format. The Source owns Stream: Source.Close calls Stream.Close,
	// and Stream.Close must end a blocked Read.
	Stream io.ReadCloser
	// CSV states that the file is a CSV file, whatever its extension is. If the extension is .tsv, the values
	// are separated by tabs.
	CSV bool
	// Lines states that each line of the file is the input of a task, whatever the extension of the file is.
	// The data of the task is {"value": line}. Empty lines are ignored.
	Lines bool
	// Size is the size of Stream in bytes; 0 or less means unknown.
	Size int64
	// MaxTaskSize is the maximum size of an entry in bytes. In YAML, it also limits the entry after
	// its aliases have been expanded. Reading an entry needs a few times its size in memory.
	// Defaults to defaultMaxTaskSize.
	MaxTaskSize int64
	// OnAmbiguous, if set, is called for the first unquoted value in a YAML file that YAML 1.1 and
	// this package read differently. It is called at most once. For a regular file, it runs in the
	// goroutine that calls Receive; for any other file, in a goroutine of the Source. It must not
	// call methods of the Source.
	OnAmbiguous func(Ambiguity)
	// OnWait, if set, is called if no process opens a FIFO for writing within two seconds. It is
	// called at most once, by a goroutine of the Source.
	OnWait func()

	waitNotice time.Duration // delay of OnWait; tests shorten it
}

// Validate returns an error that lists every invalid field, or nil.
func (o Options) Validate() error {
	return optcheck.Join("taskfile.Options", optcheck.NotNegative("Skip", o.Skip), optcheck.NotNegative("MaxTaskSize", o.MaxTaskSize))
}

// A Source reads the tasks of one file. It implements pipeline.Source.
//
// Receive reads a regular file in the caller's goroutine. A read of any other file, such as a pipe
// or a terminal, can block after the context has ended. Such a file is therefore read in a separate
// goroutine, which Open starts and Close stops.
type Source struct {
	scan    scan                 // used by Receive for a regular file, else by reader
	reader  *asyncReader         // nil for a regular file
	surplus []*pipeline.Delivery // received deliveries that exceeded the limit of the last Receive
	file    io.Closer            // nil for standard input and for a file that reader opens

	read  atomic.Int64
	total int64

	closeOnce sync.Once
	closeErr  error
}

var _ pipeline.Source = (*Source)(nil)

// Open opens a task file. The path "-" means standard input. Open returns an *Error if the file
// does not exist, or if its first bytes show that it is not a task file. Open reads only from
// regular files; reading from any other file begins with the first Receive. The caller must close
// the Source.
func Open(path string, opts Options) (*Source, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.Stdin == nil {
		opts.Stdin = os.Stdin
	}
	if opts.MaxTaskSize <= 0 {
		opts.MaxTaskSize = defaultMaxTaskSize
	}
	s := &Source{scan: scan{name: path, skip: opts.Skip, limit: opts.MaxTaskSize, csv: opts.CSV, lines: opts.Lines, onAmbiguous: opts.OnAmbiguous, onWait: opts.OnWait, waitNotice: cmp.Or(opts.waitNotice, 2*time.Second)}}
	if opts.Stream != nil {
		s.file, s.total = opts.Stream, max(opts.Size, 0)
		s.reader = startReader(&s.scan, opts.Stream, path)
		return s, nil
	}
	open := s.openFile
	if path == "-" {
		s.scan.name = cmp.Or(opts.Name, "standard input")
		open = func(string) (io.Reader, bool, error) { return s.openStdin(opts.Stdin) }
	}
	src, regular, err := open(path)
	if err != nil {
		return nil, err
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

// openStdin returns stdin, and whether it is a regular file.
func (s *Source) openStdin(stdin io.Reader) (src io.Reader, regular bool, err error) {
	file, ok := stdin.(*os.File)
	if !ok {
		return stdin, false, nil
	}
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, false, &Error{File: s.scan.name, Reason: "cannot be read: " + err.Error(), Err: err}
	case info.IsDir():
		return nil, false, &Error{File: s.scan.name, Reason: "is a directory, not a file"}
	}
	return stdin, info.Mode().IsRegular(), nil
}

// openFile opens the file at path if it is a regular file.
func (s *Source) openFile(path string) (src io.Reader, regular bool, err error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, false, openError(path, err)
	case info.IsDir():
		return nil, false, &Error{File: path, Reason: "is a directory, not a file"}
	case !info.Mode().IsRegular():
		return nil, false, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, false, openError(path, err)
	}
	s.file, s.total = file, info.Size()
	return file, true, nil
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

// ctxCheckInterval is the number of entries between two checks of the context.
const ctxCheckInterval = 256

// Receive returns the next tasks, at most limit. From a regular file, it reads up to limit tasks.
// From a pipe, it returns the tasks that have arrived, and waits if there are none. It returns
// io.EOF after the last task. For an invalid entry, it returns an *Error together with the tasks
// before the entry. All further calls return the same error.
//
// If ctx ends first, no task is lost: the next call continues at the same position.
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

// receive implements Receive for files that are read in a goroutine.
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
		// An earlier Receive with a higher limit requested this batch, but the context of that call
		// ended before the batch arrived. An error of this batch is not lost, because the next batch
		// has the same error.
		s.surplus = b.deliveries
	}
	n := min(limit, len(s.surplus))
	out := s.surplus[:n:n]
	s.surplus = s.surplus[n:]
	return out, nil
}

// result returns io.EOF only if out is empty, as pipeline.Source requires.
func result(out []*pipeline.Delivery, err error) ([]*pipeline.Delivery, error) {
	if errors.Is(err, io.EOF) && len(out) > 0 {
		return out, nil
	}
	return out, err
}

// Progress returns how many bytes of the file the delivered tasks occupy, and the size of the file.
// The size is 0 if it is unknown, as for a pipe. For a compressed file, both numbers count
// compressed bytes, and read may be too high by the size of a decompression buffer. Progress is
// safe for concurrent use.
func (s *Source) Progress() (read, total int64) {
	return s.read.Load(), s.total
}

// Close closes the file. A second Close does nothing. Close leaves standard input open, with one
// exception: if a Read of Options.Stdin blocks and Stdin does not support read deadlines, Close
// closes Stdin if it is an io.Closer, because nothing else can end the Read.
//
// Some blocked reads cannot be ended: a read from a terminal or an inherited pipe that other
// processes still use, and the opening of a named pipe without a writer. In these cases, Close does
// not wait for the goroutine that reads. The goroutine ends at the next byte, at the end of the
// input, or with the process.
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
