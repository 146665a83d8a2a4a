package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// An exception never exceeds the maximum length of a line.
func TestExceptionJSON_Truncates(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("x", 10<<20), strings.Repeat("\x01", 1<<20), strings.Repeat("é", 1<<20), "\xff"} {
		b := exceptionJSON(truncated(text), 100)
		if len(b) > maxText/2+200 || !json.Valid(b) {
			t.Errorf("%q… takes %d bytes", text[:1], len(b))
		}
	}
	deep := errors.New("x")
	for range 1000 {
		deep = fmt.Errorf("%w", deep)
	}
	if lines := strings.Count(errorText(deep), "\n"); lines > maxChain {
		t.Errorf("%d lines, want at most %d", lines, maxChain)
	}
}
