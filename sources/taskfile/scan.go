package taskfile

import (
	"errors"
	"io"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// A format reads the entries of one kind of file.
type format interface {
	// next reads and checks the next entry. If keep is true, next returns the task of the entry. If
	// keep is false, it returns an empty task. It returns io.EOF after the last entry. Any other error
	// is a read error, or an *Error that lacks the file and the entry.
	next(keep bool) (pipeline.Task, error)
	// offset returns the offset in the text after the last entry.
	offset() int64
	// line returns the line, from 1, up to which the text has been read.
	line() int64
}

// A scan reads the entries of one open file. It is not safe for concurrent use.
type scan struct {
	name  string
	skip  int64
	limit int64
	csv   bool // Options.CSV
	lines bool // Options.Lines
	// onWait is Options.OnWait, to be called after waitNotice.
	onWait     func()
	waitNotice time.Duration
	// onAmbiguous is Options.OnAmbiguous.
	onAmbiguous func(Ambiguity)
	content     *content // nil until begin

	read int64 // number of entries that have been read
	err  error // the error with which the scan ended
}

// begin starts to read src. It may block.
func (s *scan) begin(src io.Reader, path string, beforeRead func()) {
	opts := contentOptions{limit: s.limit, csv: s.csv, lines: s.lines, beforeRead: beforeRead}
	if s.onAmbiguous != nil {
		opts.onAmbiguous = func(a Ambiguity) {
			a.File, a.Entry = s.name, s.read+1
			s.onAmbiguous(a)
		}
	}
	s.content, s.err = openContent(src, path, opts)
	if s.err != nil {
		s.err = s.locate(s.err)
	}
}

// step reads one entry. It returns nil for a skipped entry.
func (s *scan) step() (*pipeline.Delivery, error) {
	if s.err != nil {
		return nil, s.err
	}
	keep := s.read >= s.skip
	task, err := s.content.format.next(keep)
	if err != nil {
		s.err = s.locate(err)
		return nil, s.err
	}
	s.read++
	if !keep {
		return nil, nil
	}
	return pipeline.NewDelivery(task, nil, 1), nil
}

// locate adds the file and the entry to err. It converts a read error, such as that of a
// truncated gzip file, to an *Error.
func (s *scan) locate(err error) error {
	if errors.Is(err, io.EOF) {
		return err
	}
	fault, ok := errors.AsType[*Error](err)
	if !ok {
		fault = &Error{Reason: s.content.describeError(err), Err: err}
		if s.content != nil && s.content.format != nil {
			fault.Line = s.content.format.line()
		}
	}
	fault.File = s.name
	if fault.Line > 0 {
		fault.Entry = s.read + 1
	}
	return fault
}

// position returns the number of bytes of the file that have been read.
func (s *scan) position() int64 {
	if s.content == nil {
		return 0
	}
	return s.content.position(errors.Is(s.err, io.EOF))
}

func (s *scan) close() {
	if s.content != nil {
		s.content.close()
	}
}

// A slab copies the data of tasks into shared allocations. An allocation is small, because a task
// that runs for a long time keeps the whole allocation in memory.
type slab []byte

const slabSize = 4 << 10

func (s *slab) copy(b []byte) []byte {
	n := len(b)
	if n > slabSize/4 {
		return append(make([]byte, 0, n), b...)
	}
	if len(*s) < n {
		*s = make([]byte, slabSize)
	}
	kept := (*s)[:n:n]
	*s = (*s)[n:]
	copy(kept, b)
	return kept
}
