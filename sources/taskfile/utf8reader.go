package taskfile

import (
	"errors"
	"io"
	"math"
	"unicode/utf8"
)

// A utf8Reader reads text and finds the first byte that is not valid UTF-8. It checks whole chunks,
// because that is several times faster than checking each value.
type utf8Reader struct {
	src *text

	invalid    int64             // the offset of the first invalid byte, or math.MaxInt64
	line       int64             // the line of the invalid byte, from 1
	incomplete [utf8.UTFMax]byte // the start of a character at the end of the last chunk
	n          int               // the length of incomplete
}

func newUTF8Reader(src *text) *utf8Reader { return &utf8Reader{src: src, invalid: math.MaxInt64} }

func (r *utf8Reader) Read(p []byte) (int, error) {
	start := r.src.offset()
	n, err := r.src.Read(p)
	if r.invalid != math.MaxInt64 {
		return n, err
	}
	r.check(p[:n], start)
	if errors.Is(err, io.EOF) && r.n > 0 {
		r.invalid = start - int64(r.n)
	}
	if r.invalid != math.MaxInt64 {
		// invalid may be the start of a character at the end of the previous chunk. No line break follows
		// it in that chunk, so start is on the same line.
		r.line = r.src.lineAt(max(r.invalid, start))
	}
	return n, err
}

// check checks a chunk that begins at offset start.
func (r *utf8Reader) check(chunk []byte, start int64) {
	for r.n > 0 && len(chunk) > 0 {
		r.incomplete[r.n] = chunk[0]
		r.n++
		chunk = chunk[1:]
		start++
		if !utf8.FullRune(r.incomplete[:r.n]) {
			continue
		}
		if _, size := utf8.DecodeRune(r.incomplete[:r.n]); size != r.n {
			r.invalid = start - int64(r.n)
			return
		}
		r.n = 0
	}
	if utf8.Valid(chunk) {
		return
	}
	for i := 0; i < len(chunk); {
		c, size := utf8.DecodeRune(chunk[i:])
		if c == utf8.RuneError && size == 1 {
			if !utf8.FullRune(chunk[i:]) {
				r.n = copy(r.incomplete[:], chunk[i:])
				return
			}
			r.invalid = start + int64(i)
			return
		}
		i += size
	}
}
