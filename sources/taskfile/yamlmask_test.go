package taskfile

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Outside of double quotes, unmask returns exactly the text that was masked.
func FuzzMask(f *testing.F) {
	for _, text := range []string{
		`\/ \\/ \\\/ \u00e9 \ud83d\ude00 \uE7C7 \U0000e7c7 \ud8`, "\uE7C7m \uE7C7", "http://x/?y ? z?, [?x] {a: ::1}", "\x7f\u0080\u0085\u2028\u2029\ufeff\uffff\ufffe", `\`, `\u`, `&a:b *c?d`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) { // the type lines rejects such text before it is masked
			return
		}
		masked, isMasked := appendMasked(nil, []byte(text))
		if !isMasked && string(masked) != text {
			t.Fatalf("%q is masked as %q, but not reported as masked", text, masked)
		}
		if got, _ := unmask(string(masked), false, true); got != text {
			t.Fatalf("%q is masked as %q, and that is %q", text, masked, got)
		}
		if countLines(masked) != countLines([]byte(text)) {
			t.Fatalf("%q is masked as %q, which has other lines", text, masked)
		}
		if again, isMasked := appendMasked(nil, masked); strings.Contains(string(masked), mask) && (!isMasked || string(again) == string(masked)) {
			t.Fatalf("%q is taken for unmasked text", masked)
		}
	})
}
