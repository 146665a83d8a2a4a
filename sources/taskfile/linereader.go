package taskfile

import (
	"bytes"
	"errors"
	"io"
	"math"
	"unicode/utf8"
)

const chunkSize = 64 << 10

// text is the decompressed file, read a chunk at a time. It can tell the line
// of a place after the fact, so that nobody counts lines as long as all is
// well: newlines are counted once a chunk, when the chunk is let go.
//
// Offsets are counted from the first byte after a byte order mark.
type text struct {
	src io.Reader
	// beforeRead, where set, is called before src is read, which may block.
	beforeRead func()

	buf   []byte
	r, w  int   // buf[r:w] is unread
	base  int64 // the offset of buf[0]
	lines int64 // newlines before buf[0]
	err   error // what src ended with

	// mark is the offset of something whose line may be wanted later; markLine
	// is its line once it has left the buffer.
	mark, markLine int64
	// limit is how far Read goes beyond mark.
	limit int64
}

func newText(src io.Reader) *text {
	return &text{src: src, buf: make([]byte, chunkSize), markLine: 1, limit: math.MaxInt64}
}

// offset is that of the next byte to read.
func (t *text) offset() int64 { return t.base + int64(t.r) }

// linesRead counts the newlines before offset.
func (t *text) linesRead() int64 { return t.lines + countLines(t.buf[:t.r]) }

// lineOfMark is the line, from 1, that mark is on.
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

// Read makes text a reader for the JSON decoder. It returns errTooLarge when
// that has gone on reading further than limit beyond the mark.
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

// fill lets the buffer go, which must have been read, and reads another.
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

// more reads into what is left of the buffer.
func (t *text) more() error {
	for range 100 {
		n, err := t.src.Read(t.buf[t.w:])
		t.w += n
		if errors.Is(err, io.EOF) && err != io.EOF { //nolint:errorlint // the two differ, and that is the point
			err = errors.New(err.Error()) // a Reader's end of input is io.EOF itself
		}
		t.err = err // an error that comes with bytes is met at the next fill
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

// peek returns up to n bytes of the start, which stay unread, or all there are.
func (t *text) peek(n int) []byte {
	for t.w < n && t.err == nil {
		if t.more() != nil {
			break
		}
	}
	return t.buf[t.r:min(t.w, n)]
}

// skipMark takes the n bytes of a byte order mark out of the text.
func (t *text) skipBOM(n int) { t.r, t.base = n, int64(-n) }

func countLines(b []byte) int64 { return int64(bytes.Count(b, []byte{'\n'})) }

// lines reads a text line by line; the last line can be held back. A line that is
// longer than a chunk is returned in pieces.
type lines struct {
	text *text

	line           []byte // the current line with its line end, or a piece of one
	err            error  // what is wrong with it
	number         int64  // its number, from 1
	isContinuation bool   // line continues the previous piece
	carry          []byte // the bytes after a piece that begin the next one
	start          int64  // its offset
	pushedBack     bool
	long           []byte // holds a line that spans chunks
}

// next returns the next line, with its line end where it has one. It is valid
// until the following call. It returns io.EOF after the last one, and with any
// other error as much of the line as there is.
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

// hold makes next return the current line again.
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

// offset is how much of the text has been read, not counting a line held back.
func (l *lines) offset() int64 {
	if l.pushedBack {
		return l.start
	}
	return l.text.offset() - int64(len(l.carry))
}
