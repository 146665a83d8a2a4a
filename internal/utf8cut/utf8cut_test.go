package utf8cut_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

func Example() {
	fmt.Println(utf8cut.Start("10 €", 5))
	// Output: 10
}

func TestBeforeAndAfter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text          string
		n             int
		before, after int
	}{
		{"", 0, 0, 0}, {"", 3, 0, 0}, {"abc", -1, 0, 0}, {"abc", 2, 2, 2}, {"abc", 3, 3, 3}, {"abc", 4, 3, 3},
		{"a€b", 1, 1, 1}, {"a€b", 2, 1, 4}, {"a€b", 3, 1, 4}, {"a€b", 4, 4, 4},
		{"€", 1, 0, 3}, {"€", 2, 0, 3}, {"\U0001f600x", 3, 0, 4},
		{strings.Repeat("\x80", 9), 5, 5, 5}, {"ab\xff", 2, 2, 2}, {"a\xe2\x82", 2, 1, 3},
	} {
		if got := utf8cut.Before(tc.text, tc.n); got != tc.before {
			t.Errorf("Before(%q, %d) = %d, want %d", tc.text, tc.n, got, tc.before)
		}
		if got := utf8cut.After([]byte(tc.text), tc.n); got != tc.after {
			t.Errorf("After(%q, %d) = %d, want %d", tc.text, tc.n, got, tc.after)
		}
	}
}

func FuzzBeforeAndAfter(f *testing.F) {
	f.Add("a€\U0001f600é", 3)
	f.Fuzz(func(t *testing.T, text string, n int) {
		before, after := utf8cut.Before(text, n), utf8cut.After(text, n)
		if before > max(n, 0) || after < min(n, len(text)) || before < 0 || after > len(text) {
			t.Fatalf("%q at %d: %d, %d", text, n, before, after)
		}
		if utf8.ValidString(text) && !(utf8.ValidString(text[:before]) && utf8.ValidString(text[after:])) {
			t.Fatalf("%q is cut within a character: %d, %d", text, before, after)
		}
	})
}
