package taskfile_test

import (
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ctworker/ctworker/sources/taskfile"
)

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 50_000) // longer than a chunk
	text := "\ufeffa b\r\n\n[\n" + long + "\nc\"d\\\n e"
	want := []string{`a b {"value":"a b"}`, `[ {"value":"["}`, strings.Repeat("é", 20) + `#e7b09b8c3b2a4d49 {"value":"` + long + `"}`, `c"d\ {"value":"c\"d\\"}`, ` e {"value":" e"}`}
	slow := io.NopCloser(iotest.OneByteReader(strings.NewReader(text)))
	for how, opts := range map[string]taskfile.Options{"file": {}, "byte by byte": {Stream: slow}} {
		opts.Lines = true
		tasks, err := readAll(t, writeFile(t, "list.json", []byte(text)), opts)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, task := range tasks {
			got = append(got, task.id+" "+task.data)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %.200q, want %.200q", how, got, want)
		}
	}
}

// A short line from a pipe is delivered before the next one arrives, whatever its first byte is.
func TestLines_DoesNotReadAhead(t *testing.T) {
	t.Parallel()
	for first := range 256 {
		line := string([]byte{byte(first)})
		if first >= 0x80 || first == '\n' || first == '\r' || first == 0 {
			continue
		}
		r, w := io.Pipe()
		src := open(t, "-", taskfile.Options{Stdin: r, Lines: true})
		go func() { _, _ = w.Write([]byte(line + "\n")) }()
		ds, err := src.Receive(t.Context(), 2)
		if err != nil || len(ds) != 1 || string(ds[0].Task.Data[:10]) != `{"value":"` {
			t.Errorf("%q: %d tasks, error %v", line, len(ds), err)
		}
		_ = w.Close()
		_ = src.Close(t.Context())
	}
}

func TestLines_Errors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a\n\ncaf\xe9\n":                         "line 3: invalid UTF-8",
		"a\n" + strings.Repeat("x", 1001):        "line 2: the entry takes more than 1000 bytes",
		"a\n" + strings.Repeat("x", 1<<20):       "line 2: the entry takes more than 1000 bytes",
		"a\n" + strings.Repeat("x", 1000) + "\n": "",
	} {
		tasks, err := readAll(t, writeFile(t, "list", []byte(text)), taskfile.Options{Lines: true, MaxTaskSize: 1000})
		if want == "" && err == nil && len(tasks) == 2 {
			continue
		}
		if len(tasks) != 1 || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %d tasks, error %v, want %s", text, len(tasks), err, want)
		}
	}
}
