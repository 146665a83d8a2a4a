// Package utf8cut cuts text without cutting a character in two.
//
// # The guarantee
//
// What is cut from valid UTF-8 is valid UTF-8. Text that is not UTF-8 is cut where it
// was asked to be, or at most three bytes before.
//
// # What it is not for
//
// A character here is a code point: an accent that follows its letter may be cut off.
package utf8cut

import "unicode/utf8"

// Before returns the largest length of at most n bytes to which text can be cut.
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

// After returns the smallest offset of at least n bytes from which the rest of text can
// be kept.
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

// Start returns text, or its first bytes, at most n, if it has more.
func Start[T ~string | ~[]byte](text T, n int) T { return text[:Before(text, n)] }
