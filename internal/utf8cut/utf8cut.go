// Package utf8cut truncates text without splitting a character.
//
// If a text is valid UTF-8, so is the truncated text. A text that is not valid UTF-8 is cut at the
// requested length or at most three bytes away from it.
//
// A character is one code point here. A combining accent may be separated from its letter.
package utf8cut

import (
	"fmt"
	"unicode/utf8"
)

// Before returns the largest length of at most n bytes to which text can be truncated without
// splitting a character.
func Before[T ~string | ~[]byte](text T, n int) int {
	if n <= 0 {
		return 0
	}
	if n >= len(text) {
		return len(text)
	}
	for i := n; i > n-utf8.UTFMax && i >= 0; i-- {
		if utf8.RuneStart(text[i]) {
			return i
		}
	}
	return n
}

// After returns the smallest offset of at least n bytes at which a character of text begins. The
// end of text counts as such an offset.
func After[T ~string | ~[]byte](text T, n int) int {
	if n <= 0 {
		return 0
	}
	for i := n; i <= len(text) && i < n+utf8.UTFMax; i++ {
		if i == len(text) || utf8.RuneStart(text[i]) {
			return i
		}
	}
	return min(n, len(text))
}

// Start returns text truncated to at most n bytes.
func Start[T ~string | ~[]byte](text T, n int) T { return text[:Before(text, n)] }

// Quote quotes b for an error or a log message. If b is longer than 200 bytes, Quote truncates it
// and states how many bytes it left out.
func Quote(b []byte) string {
	const maxBytes = 200
	if start := Start(b, maxBytes); len(start) < len(b) {
		return fmt.Sprintf("%q and %d more bytes", start, len(b)-len(start))
	}
	return fmt.Sprintf("%q", b)
}
