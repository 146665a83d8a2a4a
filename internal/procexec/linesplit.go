package procexec

import (
	"bytes"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

// maxLine is the maximum length of a piece of a line, in bytes. A longer line is passed on in
// several pieces. A piece can be up to three bytes shorter, to end between two characters.
const maxLine = 64 << 10

// A lineSplitter splits what a process prints into lines. emit receives each line without its line
// ending, and must not keep it. For a long line, emit receives several pieces, and continued is true
// for all pieces except the first.
type lineSplitter struct {
	emit      func(line []byte, continued bool)
	buf       []byte
	continued bool // emit has received the beginning of the current line
}

// add splits b into lines. The last line stays in the splitter until its end arrives.
func (s *lineSplitter) add(b []byte) {
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		if room := maxLine - len(s.buf); len(line) > room {
			// One byte more than maxLine shows whether a character ends at maxLine.
			s.buf = append(s.buf, b[:room+1]...)
			whole := utf8cut.Before(s.buf, maxLine)
			s.emit(s.buf[:whole], s.continued)
			s.buf, s.continued = s.buf[:copy(s.buf, s.buf[whole:])], true
			b = b[room+1:]
			continue
		}
		s.buf = append(s.buf, line...)
		if ended {
			s.endLine()
		}
		b = rest
	}
}

func (s *lineSplitter) endLine() {
	if line := bytes.TrimSuffix(s.buf, []byte("\r")); len(line) > 0 || !s.continued {
		s.emit(line, s.continued)
	}
	s.buf, s.continued = s.buf[:0], false
}

// flush emits the last line if it does not end with a newline.
func (s *lineSplitter) flush() {
	if len(s.buf) > 0 {
		s.endLine()
	}
}
