package taskproto

import (
	"bytes"
	"errors"
	"io"
)

// ErrLineTooLong is returned for a line that exceeds the maximum length.
var ErrLineTooLong = errors.New("line too long")

// A lineReader divides the data that it reads into lines. The returned lines refer to its buffer,
// which it reuses.
type lineReader struct {
	r       io.Reader
	maxLine int64 // in bytes; 0 means no limit
	size    int   // of the buffer, which grows for longer lines and shrinks after them

	buf       []byte // data read and not yet returned
	lineStart int    // start of the next line in buf
	scanned   int    // buf[lineStart:scanned] contains no newline
	truncated bool   // the line exceeds maxLine; the remainder is discarded
}

// truncatedSize is the number of bytes that are kept of a line that is too long: enough for an error
// message.
const truncatedSize = 4 << 10

// replyStart is the first byte of a reply. If a line is too long, only this byte is checked.
var replyStart = []byte("{")

// next returns the next line without its newline. The line is valid until the next call. If a line
// exceeds maxLine, next returns the start of the line and ErrLineTooLong. If the reader returns an
// error, next returns the incomplete last line and the error.
func (l *lineReader) next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(l.buf[l.scanned:], '\n'); i >= 0 {
			line := l.buf[l.lineStart : l.scanned+i]
			l.lineStart = l.scanned + i + 1
			l.scanned = l.lineStart
			if l.truncated {
				l.truncated = false
				return line[:min(len(line), truncatedSize)], ErrLineTooLong
			}
			return line, nil
		}
		l.scanned = len(l.buf)
		if l.maxLine > 0 && int64(l.scanned-l.lineStart) > l.maxLine {
			l.truncated = true
		}
		if l.truncated && !bytes.HasPrefix(l.buf[l.lineStart:], replyStart) {
			return l.buf[l.lineStart:][:truncatedSize], ErrLineTooLong // do not wait for the end of the line: it may never come
		}
		if l.truncated && l.scanned-l.lineStart > truncatedSize {
			l.buf = l.buf[:l.lineStart+truncatedSize]
			l.scanned = len(l.buf)
		}
		if err := l.fill(); err != nil {
			return l.buf[l.lineStart:], err
		}
	}
}

// hasLine reports whether next can return a line from the buffer, without reading.
func (l *lineReader) hasLine() bool {
	return !l.truncated && bytes.IndexByte(l.buf[l.scanned:], '\n') >= 0
}

// fill reads more data into buf.
func (l *lineReader) fill() error {
	if l.lineStart > 0 {
		n := copy(l.buf, l.buf[l.lineStart:])
		l.buf, l.scanned, l.lineStart = l.buf[:n], l.scanned-l.lineStart, 0
	}
	switch {
	case cap(l.buf)-len(l.buf) < l.size/4:
		l.buf = append(make([]byte, 0, max(l.size, 2*cap(l.buf))), l.buf...)
	case cap(l.buf) > 16*l.size && len(l.buf) == 0: // after a long line
		l.buf = make([]byte, 0, l.size)
	}
	n, err := l.r.Read(l.buf[len(l.buf):cap(l.buf)])
	l.buf = l.buf[:len(l.buf)+n]
	if n > 0 {
		return nil
	}
	return err
}
