package taskid_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/ctworker/ctworker/internal/taskid"
)

// A value that cannot be used as the ID gets an ID that is printable, depends only on the value, and is
// different for each value.
func TestOf(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, value := range []string{"", "a", "a\x1b[31m", "a\n", strings.Repeat("x", 128), strings.Repeat("x", 129), strings.Repeat("x", 130), strings.Repeat("é", 65), "\u202e"} {
		id := taskid.Of(value)
		if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return !unicode.IsPrint(r) }) || id != taskid.Of(value) {
			t.Errorf("the ID of %q is %q", value, id)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%q and %q have the ID %q", value, other, id)
		}
		seen[id] = value
	}
}

// The Python package derives the same IDs (test_plain_values).
func TestOf_IsStable(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"a.fits": "a.fits", "café": "café", "": "#e3b0c44298fc1c14", "new\nline": "newline#58fb6729e555d21b",
		strings.Repeat("y", 200): strings.Repeat("y", 40) + "#8ca9bfd43d61bf0a",
	} {
		if got := taskid.Of(value); got != want {
			t.Errorf("the ID of %q is %q, want %q", value, got, want)
		}
	}
}
