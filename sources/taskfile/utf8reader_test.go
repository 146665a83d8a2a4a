package taskfile

import (
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func TestUTF8Reader_FindsFirstInvalidByte(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a\n", "é", "€", "😀", "\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xed\xa0\x80", "\uFFFD", "\xc0\x80"}
	for range 2000 {
		var b strings.Builder
		for range random.IntN(8) {
			piece := pieces[random.IntN(4)]
			if random.IntN(8) == 0 {
				piece = pieces[random.IntN(len(pieces))]
			}
			b.WriteString(piece)
		}
		in := b.String()
		want := int64(math.MaxInt64)
		for i, r := range in {
			if _, size := utf8.DecodeRuneInString(in[i:]); r == utf8.RuneError && size == 1 {
				want = int64(i)
				break
			}
		}
		for name, src := range map[string]io.Reader{
			"whole":      strings.NewReader(in),
			"byte":       iotest.OneByteReader(strings.NewReader(in)),
			"data + EOF": iotest.DataErrReader(strings.NewReader(in)),
		} {
			r := newUTF8Reader(newText(src))
			got, err := io.ReadAll(r)
			if err != nil || string(got) != in {
				t.Fatalf("%s: read %q, %v; want %q", name, got, err, in)
			}
			if r.invalid != want {
				t.Errorf("%s: first invalid byte of %q at %d, want %d", name, in, r.invalid, want)
			}
			if want == math.MaxInt64 {
				continue
			}
			if line := countLines([]byte(in[:want])) + 1; r.line != line {
				t.Errorf("%s: first invalid byte of %q on line %d, want %d", name, in, r.line, line)
			}
		}
	}
}
