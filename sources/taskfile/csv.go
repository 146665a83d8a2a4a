package taskfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/taskid"
	"github.com/ctworker/ctworker/pipeline"
)

// csvRows reads a CSV file (RFC 4180) whose first row names the columns. Each further row is a task.
type csvRows struct {
	text  *text
	utf8  *utf8Reader
	rows  *csv.Reader
	limit int64
	slab  slab

	keys [][]byte // the name of each column as the start of a member of a JSON object; nil before the first row
	id   int      // the index of the column task_id, or -1
	json []byte   // buffer
}

// idColumn is the name of the column that contains the IDs of the tasks.
const idColumn = "task_id"

func newCSV(t *text, limit int64, separator rune) *csvRows {
	t.limit = limit
	checked := newUTF8Reader(t)
	rows := csv.NewReader(checked)
	rows.Comma, rows.ReuseRecord = separator, true
	return &csvRows{text: t, utf8: checked, rows: rows, limit: limit, id: -1}
}

// separatorOf returns the character between the values of the first row.
func separatorOf(t *text) rune {
	for {
		row, _, whole := bytes.Cut(t.buf[t.r:t.w], []byte{'\n'})
		switch {
		case bytes.ContainsRune(row, ','):
			return ','
		case whole, t.w == len(t.buf), t.err != nil, t.more() != nil:
			if !bytes.ContainsRune(row, ';') && bytes.ContainsRune(row, '\t') {
				return '\t'
			}
			if bytes.ContainsRune(row, ';') {
				return ';'
			}
			return ','
		}
	}
}

func (c *csvRows) offset() int64 { return c.rows.InputOffset() }

func (c *csvRows) line() int64 { return c.text.linesRead() + 1 }

func (c *csvRows) next(keep bool) (pipeline.Task, error) {
	if c.keys == nil {
		if err := c.readNames(); err != nil {
			return pipeline.Task{}, err
		}
	}
	row, line, err := c.read()
	if err != nil {
		return pipeline.Task{}, err
	}
	if len(row) != len(c.keys) {
		return pipeline.Task{}, at(line, nil, "the row has %d values, but the first row names %d columns", len(row), len(c.keys))
	}
	if c.id >= 0 && row[c.id] == "" {
		return pipeline.Task{}, at(line, nil, reasonEmpty)
	}
	if !keep {
		return pipeline.Task{}, nil
	}
	return c.task(row), nil
}

// task returns the task of a row. Its data has a string for each column, except for the column task_id.
func (c *csvRows) task(row []string) pipeline.Task {
	c.json = append(c.json[:0], '{')
	for i, value := range row {
		if i == c.id {
			continue
		}
		if len(c.json) > 1 {
			c.json = append(c.json, ',')
		}
		c.json = rawjson.AppendQuote(append(c.json, c.keys[i]...), value)
	}
	c.json = append(c.json, '}')
	task := pipeline.Task{Data: c.slab.copy(c.json)}
	if c.id >= 0 {
		task.ID = strings.Clone(row[c.id]) // the values of a row share one string
	} else {
		task.ID = taskid.Of(rowText(row))
	}
	return task
}

// rowText returns the row as text with commas between the values. Different rows have different texts.
func rowText(row []string) string {
	var b strings.Builder
	for i, value := range row {
		if i > 0 {
			b.WriteByte(',')
		}
		if strings.ContainsAny(value, `,"`) {
			value = `"` + strings.ReplaceAll(value, `"`, `""`) + `"`
		}
		b.WriteString(value)
	}
	return b.String()
}

// readNames reads the first row.
func (c *csvRows) readNames() error {
	row, line, err := c.read()
	if errors.Is(err, io.EOF) {
		return &Error{Reason: "the file is empty: the first row of a CSV file names the columns"}
	}
	if err != nil {
		return err
	}
	c.keys = make([][]byte, len(row))
	for i, name := range row {
		switch {
		case name == "":
			return at(line, nil, "column %d has no name: the first row of a CSV file names the columns", i+1)
		case strings.Contains(name, "\r"):
			return at(line, nil, "the rows end with CR: save the file with LF or CR LF at the end of each row")
		case slices.Contains(row[:i], name):
			return at(line, nil, "two columns have the name %q: rename one of them", name)
		case name == idColumn:
			c.id = i
		}
		c.keys[i] = append(rawjson.AppendQuote(nil, name), ':')
	}
	return nil
}

// read returns the next row and its line. The row is valid until the next call.
func (c *csvRows) read() (row []string, line int64, err error) {
	c.text.mark = c.rows.InputOffset()
	row, err = c.rows.Read()
	if c.rows.InputOffset() > c.utf8.invalid {
		return nil, 0, at(c.utf8.line, nil, reasonUTF8)
	}
	fault, isSyntax := errors.AsType[*csv.ParseError](err)
	switch {
	case err == nil || errors.Is(err, csv.ErrFieldCount):
		first, _ := c.rows.FieldPos(0)
		if c.rows.InputOffset()-c.text.mark > c.limit {
			return nil, 0, tooLarge(int64(first), c.limit)
		}
		return row, int64(first), nil
	case errors.Is(err, errTooLarge):
		return nil, 0, tooLarge(c.text.lineOfMark(), c.limit)
	case !isSyntax:
		return nil, 0, err
	case errors.Is(fault.Err, csv.ErrQuote) && fault.StartLine != fault.Line:
		return nil, 0, at(int64(fault.StartLine), nil, `a value that starts with a double quote in this row does not end: close the quotes, and double each quote within the value`)
	}
	return nil, 0, at(int64(fault.Line), nil, `a double quote within a value, at byte %d of the line: put the whole value in double quotes, and double each quote within it`, fault.Column)
}
