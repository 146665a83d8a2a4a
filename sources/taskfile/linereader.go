package taskfile

import (
	"bytes"
	"errors"
	"io"
	"math"
	"unicode/utf8"
)

const chunkSize = 64 << 10

// text is the decompressed file, read in chunks. It counts the line breaks of a chunk only when it
// discards the chunk. It determines the line of an offset only if an error needs the line.
//
// Offset 0 is the first byte of the text, after a byte order mark if there is one.
type text struct {
	src io.Reader
	// beforeRead, if not nil, is called before each read from src, which may block.
	beforeRead func()

	buf   []byte
	r, w  int   // buf[r:w] is unread
	base  int64 // the offset of buf[0]
	lines int64 // line breaks before buf[0]
	err   error // the error with which src ended

	// mark is an offset whose line may be needed later. markLine is the line of mark, and is set
	// when the buffer no longer contains mark.
	mark, markLine int64
	// limit is the maximum number of bytes that Read reads beyond mark.
	limit int64
}

func newText(src io.Reader) *text {
	return &text{src: src, buf: make([]byte, chunkSize), markLine: 1, limit: math.MaxInt64}
}

// offset returns the offset of the next byte to read.
func (t *text) offset() int64 { return t.base + int64(t.r) }

// linesRead returns the number of line breaks before offset.
func (t *text) linesRead() int64 { return t.lines + countLines(t.buf[:t.r]) }

// lineOfMark returns the line, from 1, of mark.
func (t *text) lineOfMark() int64 {
	if t.mark < t.base {
		return t.markLine
	}
	return t.lineAt(t.mark)
}

// lineAt returns the line, from 1, of an offset in the buffer.
func (t *text) lineAt(offset int64) int64 {
	return t.lines + countLines(t.buf[:offset-t.base]) + 1
}

// Read implements io.Reader for the JSON decoder. It returns errTooLarge if the decoder reads
// more than limit bytes beyond the mark.
func (t *text) Read(p []byte) (int, error) {
	if t.r == t.w {
		if err := t.fill(); err != nil {
			return 0, err
		}
	}
	if t.offset()-t.mark > t.limit {
		t.err = errTooLarge
		return 0, t.err
	}
	n := copy(p, t.buf[t.r:t.w])
	t.r += n
	return n, nil
}

// fill discards the buffer and reads the next chunk. All bytes of the buffer must have been read.
func (t *text) fill() error {
	if t.err != nil {
		return t.err
	}
	if t.beforeRead != nil {
		t.beforeRead()
	}
	if t.mark >= t.base && t.mark < t.base+int64(t.w) {
		t.markLine = t.lineOfMark()
	}
	t.lines += countLines(t.buf[:t.w])
	t.base += int64(t.w)
	t.r, t.w = 0, 0
	return t.more()
}

// more reads into the free part of the buffer.
func (t *text) more() error {
	for range 100 {
		n, err := t.src.Read(t.buf[t.w:])
		t.w += n
		if errors.Is(err, io.EOF) && err != io.EOF { //nolint:errorlint // the two differ, and that is the point
			err = errors.New(err.Error()) // only io.EOF itself means the end of input
		}
		t.err = err // if there are bytes too, the next fill returns the error
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	t.err = io.ErrNoProgress
	return t.err
}

// peek returns the first n bytes of the text without consuming them. It returns fewer bytes at the
// end of the input.
func (t *text) peek(n int) []byte {
	for t.w < n && t.err == nil {
		if t.more() != nil {
			break
		}
	}
	return t.buf[t.r:min(t.w, n)]
}

// skipBOM removes the n bytes of a byte order mark from the text.
func (t *text) skipBOM(n int) { t.r, t.base = n, int64(-n) }

func countLines(b []byte) int64 { return int64(bytes.Count(b, []byte{'\n'})) }

// lines reads a text line by line. After pushBack, next returns the same line again. A line that is
// longer than a chunk is returned in pieces.
type lines struct {
	text *text

	line           []byte // the current line with its line end, or a piece of one
	err            error  // the error of line, such as errNotUTF8
	number         int64  // the number of line, from 1
	isContinuation bool   // line continues the previous piece
	carry          []byte // bytes that have been read for the next piece
	start          int64  // the offset of line
	pushedBack     bool
	long           []byte // buffer for a line that spans chunks
}

// next returns the next line, including its line break if there is one. The line is valid until the
// next call. After the last line, next returns io.EOF. Together with any other error, next returns
// the part of the line that has been read.
func (l *lines) next() ([]byte, error) {
	if l.pushedBack {
		l.pushedBack = false
		return l.line, l.err
	}
	l.isContinuation = len(l.carry) > 0
	l.start = l.offset()
	l.line, l.err = l.read()
	if !errors.Is(l.err, io.EOF) && !l.isContinuation {
		l.number++
	}
	return l.line, l.err
}

func (l *lines) read() ([]byte, error) {
	t := l.text
	l.long = append(l.long[:0], l.carry...)
	l.carry = l.carry[:0]
	for {
		if t.r == t.w {
			err := t.fill()
			if errors.Is(err, io.EOF) && len(l.long) > 0 {
				return l.long, valid(l.long)
			}
			if err != nil {
				return l.long, err
			}
		}
		unread := t.buf[t.r:t.w]
		end := bytes.IndexByte(unread, '\n') + 1
		if end == 0 {
			end = len(unread)
		}
		t.r += end
		isWhole := unread[end-1] == '\n'
		if isWhole && len(l.long) == 0 {
			return unread[:end], valid(unread[:end])
		}
		l.long = append(l.long, unread[:end]...)
		switch {
		case isWhole:
			return l.long, valid(l.long)
		case len(l.long) >= chunkSize:
			// The last character may be incomplete.
			cut := len(l.long) - 1
			for cut > len(l.long)-utf8.UTFMax && !utf8.RuneStart(l.long[cut]) {
				cut--
			}
			l.carry = append(l.carry, l.long[cut:]...)
			return l.long[:cut], valid(l.long[:cut])
		}
	}
}

func valid(line []byte) error {
	if !utf8.Valid(line) {
		return errNotUTF8
	}
	return nil
}

// pushBack makes next return the current line again.
func (l *lines) pushBack() { l.pushedBack = true }

// isBuffered reports whether next returns a line without reading from the source.
func (l *lines) isBuffered() bool {
	return l.pushedBack || bytes.IndexByte(l.text.buf[l.text.r:l.text.w], '\n') >= 0
}

// following returns the first byte of the next piece of the line, or a line break if there
// is none.
func (l *lines) following() byte {
	if len(l.carry) > 0 {
		return l.carry[0]
	}
	return '\n'
}

// offset returns the offset of the first byte that next has not returned.
func (l *lines) offset() int64 {
	if l.pushedBack {
		return l.start
	}
	return l.text.offset() - int64(len(l.carry))
}
