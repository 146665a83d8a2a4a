package taskfile

import (
	"bytes"
	"errors"
	"io"

	"github.com/ctworker/ctworker/internal/taskid"
	"github.com/ctworker/ctworker/pipeline"
)

// inputLines reads a list of inputs. Each line is a task. Empty lines are ignored.
type inputLines struct {
	lines lines
	limit int64
	long  []byte // buffer for a line that is returned in pieces
	slab  slab
}

func newInputLines(t *text, limit int64) *inputLines {
	return &inputLines{lines: lines{text: t}, limit: limit}
}

func (l *inputLines) offset() int64 { return l.lines.offset() }

func (l *inputLines) line() int64 { return l.lines.number }

func (l *inputLines) next(keep bool) (pipeline.Task, error) {
	for {
		line, err := l.whole()
		switch {
		case errors.Is(err, errNotUTF8):
			return pipeline.Task{}, at(l.lines.number, nil, "invalid UTF-8: save the list as UTF-8; if this line is a file name, rename the file")
		case err != nil:
			return pipeline.Task{}, err
		case len(line) == 0:
			continue
		case !keep:
			return pipeline.Task{}, nil
		}
		id, data := taskid.OfInput(string(line))
		return pipeline.Task{ID: id, Data: l.slab.copy(data)}, nil
	}
}

// whole returns the next line without its line break, which is LF or CR LF.
func (l *inputLines) whole() ([]byte, error) {
	line, err := l.lines.next()
	if err == nil && !bytes.HasSuffix(line, []byte{'\n'}) { // a piece, or the last line
		l.long = append(l.long[:0], line...)
		for err == nil && !bytes.HasSuffix(l.long, []byte{'\n'}) {
			if int64(len(l.long)) > l.limit {
				return nil, tooLarge(l.lines.number, l.limit)
			}
			line, err = l.lines.next()
			l.long = append(l.long, line...)
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		line = l.long
	}
	if err != nil {
		return nil, err
	}
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'})
	if int64(len(line)) > l.limit {
		return nil, tooLarge(l.lines.number, l.limit)
	}
	return line, nil
}
