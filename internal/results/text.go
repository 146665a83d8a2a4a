package results

import (
	"bufio"
	"bytes"
	"io"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// writeBuffer is the size of the buffer before an output.
const writeBuffer = 1 << 18

// jsonWriter writes JSON lines. Values are written as in the event, byte for byte. Fields without a value
// are omitted.
type jsonWriter struct {
	w *bufio.Writer
	b []byte
	// names has the names of columns, quoted and with a colon, by the key of the result.
	names map[string]string
	event [len(eventColumns)]string
}

func newJSONWriter(w io.Writer) *jsonWriter {
	j := &jsonWriter{w: bufio.NewWriterSize(w, writeBuffer), names: map[string]string{}}
	for i := range eventColumns {
		j.event[i] = quotedName(eventColumns[i].name)
	}
	return j
}

func quotedName(name string) string { return string(append(rawjson.AppendQuote(nil, name), ':')) }

func (j *jsonWriter) write(r *row) error {
	b := append(j.b[:0], '{')
	for i, v := range r.event {
		if v != nil {
			b = append(append(b, j.event[i]...), v...)
			b = append(b, ',')
		}
	}
	for _, f := range r.result {
		b = append(append(b, j.nameOf(f.key)...), f.value...)
		b = append(b, ',')
	}
	b[len(b)-1] = '}' // there is at least a task ID
	j.b = append(b, '\n')
	_, err := j.w.Write(j.b)
	return err
}

func (j *jsonWriter) nameOf(key []byte) string {
	if key == nil {
		return `"` + resultColumn + `":`
	}
	if name, ok := j.names[string(key)]; ok {
		return name
	}
	name := quotedName(columnName(string(key)))
	if len(j.names) < maxColumns && len(key) < maxCachedName { // results may have any number of keys
		j.names[string(key)] = name
	}
	return name
}

// maxCachedName is the length of the longest key whose name is cached.
const maxCachedName = 1000

func (j *jsonWriter) close() error { return j.w.Flush() }

// csvWriter writes CSV as in RFC 4180. A value that is missing or null is an empty field without
// quotation marks. An empty string has quotation marks.
type csvWriter struct {
	w    *bufio.Writer
	t    *table
	b    []byte
	text []byte
}

func newCSVWriter(w io.Writer, t *table) (*csvWriter, error) {
	c := &csvWriter{w: bufio.NewWriterSize(w, writeBuffer), t: t}
	for i := range t.columns {
		c.text = append(c.text[:0], t.columns[i].name...)
		c.b = c.appendField(c.b, i)
	}
	return c, c.endRow()
}

func (c *csvWriter) write(r *row) error {
	if !c.t.set(r) {
		return errChanged
	}
	for i, v := range c.t.values {
		if v == nil {
			if i > 0 {
				c.b = append(c.b, ',')
			}
			continue
		}
		c.text = appendText(c.text[:0], v)
		c.b = c.appendField(c.b, i)
	}
	return c.endRow()
}

// appendField appends c.text as field i of a row.
func (c *csvWriter) appendField(b []byte, i int) []byte {
	if i > 0 {
		b = append(b, ',')
	}
	if len(c.text) > 0 && !bytes.ContainsAny(c.text, ",\"\r\n") && c.text[0] != ' ' && c.text[len(c.text)-1] != ' ' {
		return append(b, c.text...)
	}
	b = append(b, '"')
	for rest := c.text; ; {
		quote := bytes.IndexByte(rest, '"')
		if quote < 0 {
			return append(append(b, rest...), '"')
		}
		b = append(append(b, rest[:quote+1]...), '"')
		rest = rest[quote+1:]
	}
}

func (c *csvWriter) endRow() error {
	c.b = append(c.b, "\r\n"...)
	_, err := c.w.Write(c.b)
	c.b = c.b[:0]
	return err
}

func (c *csvWriter) close() error { return c.w.Flush() }
