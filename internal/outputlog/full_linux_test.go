package outputlog

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// On a full disk, the log reports the error once and counts the lost lines. Recording never blocks.
func TestLog_FullDisk(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	l := open(t, Options{Path: "/dev/full", Log: zerolog.New(&text)})
	a := l.Attempt("x", 1, 0, false)
	for range 100_000 {
		a.Line(Stdout, []byte("text"), false)
	}
	a.End()
	closeLog(t, l)
	if got := text.String(); strings.Count(got, "cannot write to the output log") != 1 || !strings.Contains(got, "no space left") || !strings.Contains(got, `"lost_lines":`) {
		t.Errorf("logged: %s", got)
	}
}
