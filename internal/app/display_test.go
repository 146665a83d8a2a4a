package app

import (
	"bytes"
	"strings"
	"testing"
)

func TestMovesCursor(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"": false, "dumb": false, "DUMB": false, "unknown": false, "network": false, "emacs": false, "cons25": false,
		"xterm": true, "xterm-256color": true, "screen.linux": true, "tmux-256color": true, "linux": true, "vt100": true, "vt220": true, "st": true, "st-256color": true, "rxvt-unicode": true,
	} {
		if got := movesCursor(name); got != want {
			t.Errorf("movesCursor(%q) = %v", name, got)
		}
	}
}

// Text from tasks and messages cannot control the terminal.
func TestDisplay_EscapesControlCharacters(t *testing.T) {
	t.Parallel()
	const hostile = "a\x1b[2Jb\u009b31mc\u202ed\re\x07\u200b\x7f\xff"
	for name, d := range map[string]*display{
		"console": {terminal: true, console: true}, "json": {terminal: true}, "console in a file": {console: true},
	} {
		var out bytes.Buffer
		o := newOutput(&out)
		log := newLog(d, o)
		log.Warn().Str("task_id", hostile).Bytes("line", []byte(hostile)).Msg(hostile)
		o.close(outputLinger, nil)
		if text := out.String(); strings.ContainsAny(text, "\x1b\u009b\u202e\r\x07\u200b\x7f") || !strings.HasSuffix(text, "\n") || strings.Count(text, "\n") != 1 {
			t.Errorf("%s: %q", name, text)
		}
	}
	if got, want := printable("a\tb\nü€\u00ad"), "a\tb\nü€\\u00ad"; got != want {
		t.Errorf("printable made %q, want %q", got, want)
	}
}
