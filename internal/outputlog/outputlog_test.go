package outputlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// open opens an output log, and closes it at the end of the test.
func open(t *testing.T, opts Options) *Log {
	t.Helper()
	l, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLog(t, l) })
	return l
}

func closeLog(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// read returns the records of an output log, one per element, as "task/attempt stream text".
func read(t *testing.T, path string, ids ...string) (all []string) {
	t.Helper()
	err := Read(t.Context(), path, ReadOptions{TaskIDs: ids}, func(r Record) error {
		if time.Since(r.Time) > time.Hour || r.Time.After(time.Now()) {
			t.Errorf("time %v", r.Time)
		}
		text := fmt.Sprintf("%s/%d %s %s", r.TaskID, r.Attempt, r.Stream, r.Text)
		if r.OmittedLines > 0 {
			text = fmt.Sprintf("%s/%d omitted %d lines, %d bytes", r.TaskID, r.Attempt, r.OmittedLines, r.OmittedBytes)
		}
		if r.Continued {
			text += " (continued)"
		}
		if r.Uncertain {
			text += " (uncertain)"
		}
		all = append(all, text)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

var formats = []string{"out.jsonl", "out.jsonl.zst"}

// What tasks print comes back unchanged: any bytes, empty lines, hostile task IDs. A second run
// appends.
func TestLog_RoundTrip(t *testing.T) {
	t.Parallel()
	for _, name := range formats {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), name)
			hostile := "a\"\n\x1b[31m\u2028\\"
			for run := 1; run <= 2; run++ {
				l := open(t, Options{Path: path})
				a, b := l.Attempt("x", run, 0, false), l.Attempt(hostile, 3, 1, true)
				a.Line(Stdout, []byte("one"), false)
				b.Line(Stderr, []byte("\xff\x00\r"), false)
				a.Line(Stderr, nil, false)
				a.Line(Stdout, []byte("rest"), true)
				l.Attempt("", 0, 1, false).Line(Stdout, []byte("idle"), false)
				a.End()
				a.End()
				a.Line(Stdout, []byte("late"), false)
				b.End()
				closeLog(t, l)
			}
			x := func(run int) []string {
				return []string{fmt.Sprintf("x/%d stdout one", run), fmt.Sprintf("x/%d stderr ", run), fmt.Sprintf("x/%d stdout rest (continued)", run)}
			}
			want(t, read(t, path, "x"), append(x(1), x(2)...)...)
			want(t, read(t, path, hostile), hostile+"/3 stderr \xff\x00\r (uncertain)", hostile+"/3 stderr \xff\x00\r (uncertain)")
			if n := len(read(t, path)); n != 10 {
				t.Errorf("%d records, want 10", n)
			}
			want(t, read(t, path, "y"))
		})
	}
}

// An attempt that prints too much keeps its first and its last lines, and states how much it omits.
// The size of the file, and the memory, are bounded, also for empty lines.
func TestAttempt_HeadAndTail(t *testing.T) {
	t.Parallel()
	const maximum = 16 << 10
	for _, text := range []string{"", "line", strings.Repeat("x", 1000)} {
		path := filepath.Join(t.TempDir(), "out.jsonl")
		l := open(t, Options{Path: path, MaxSize: maximum})
		a := l.Attempt("x", 1, 0, false)
		const lines = 20_000
		for i := range lines {
			a.Line([]Stream{Stdout, Stderr}[i%2], fmt.Appendf(nil, "%d%s", i, text), false)
		}
		if size := a.tail.size; size > maximum/2 {
			t.Errorf("%d bytes are kept in memory", size)
		}
		a.End()
		closeLog(t, l)
		info, err := os.Stat(path)
		if err != nil || info.Size() > maximum+300 || info.Size() < maximum/2 {
			t.Errorf("size %v, error %v", info.Size(), err)
		}
		shown, omitted := 0, int64(0)
		var last []byte
		err = Read(t.Context(), path, ReadOptions{}, func(r Record) error {
			if r.OmittedLines > 0 {
				omitted += r.OmittedLines
				return nil
			}
			if expect := fmt.Sprintf("%d%s", int64(shown)+omitted, text); string(r.Text) != expect {
				t.Errorf("line %.20s, want %.20s", r.Text, expect)
			}
			shown++
			last = r.Text
			return nil
		})
		if err != nil || int64(shown)+omitted != lines || omitted == 0 || string(last) != fmt.Sprintf("%d%s", lines-1, text) {
			t.Errorf("error %v, %d lines shown, %d omitted, last %.20s", err, shown, omitted, last)
		}
	}
}

// A task that prints without an end does not slow down another task.
func TestLog_ConcurrentAttempts(t *testing.T) {
	t.Parallel()
	for _, name := range formats {
		path := filepath.Join(t.TempDir(), name)
		l := open(t, Options{Path: path, MaxSize: 8 << 10})
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				a := l.Attempt(fmt.Sprint("task", i), 1, i, false)
				for j := range 5000 {
					a.Line(Stdout, fmt.Appendf(nil, "%d of %d", j, i), false)
				}
				a.End()
			})
		}
		all.Wait()
		closeLog(t, l)
		for i := range 20 {
			got := read(t, path, fmt.Sprint("task", i))
			if len(got) < 50 || got[0] != fmt.Sprintf("task%d/1 stdout 0 of %d", i, i) || got[len(got)-1] != fmt.Sprintf("task%d/1 stdout 4999 of %d", i, i) {
				t.Errorf("task %d: %d lines, %v … %v", i, len(got), got[0], got[len(got)-1])
			}
		}
	}
}

// A file that is not an output log is not changed.
func TestOpen_NotALog(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"notes.txt": "my notes\n", "events.log": `{"timestamp":"2026-01-01T00:00:00.000000"}` + "\n", "data.zst": "my notes\n", "short.zst": "x",
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), Options{Path: path}); !errors.Is(err, errNotALog) {
			t.Errorf("%s: error %v", name, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("%s: %q, error %v", name, got, err)
		}
	}
}

// A run that was killed leaves an incomplete line or frame. It is ignored, and the next run appends
// after it.
func TestOpen_AfterKill(t *testing.T) {
	t.Parallel()
	for _, name := range formats {
		path := filepath.Join(t.TempDir(), name)
		add := func(text string) []byte {
			l := open(t, Options{Path: path})
			a := l.Attempt("x", 1, 0, false)
			a.Line(Stdout, []byte(text), false)
			a.End()
			closeLog(t, l)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			return content
		}
		first := add("one")
		both := add("two")
		if !bytes.HasPrefix(both, first) {
			t.Fatalf("%s: the second run changed the lines of the first", name)
		}
		for end := len(first); end < len(both); end++ {
			if err := os.WriteFile(path, both[:end], 0o600); err != nil {
				t.Fatal(err)
			}
			// Only the line break may be missing.
			complete := name == "out.jsonl" && end == len(both)-1
			expect := []string{"x/1 stdout one"}
			if complete {
				expect = append(expect, "x/1 stdout two")
			}
			if got := read(t, path); !complete {
				want(t, got, expect...)
			}
			add("three")
			want(t, read(t, path), append(expect, "x/1 stdout three")...)
			if t.Failed() {
				t.Fatalf("%s, cut to %d of %d bytes", name, end, len(both))
			}
		}
	}
}

// The compressed file is a sequence of complete zstd frames that any decoder reads.
func TestLog_CompressedFileIsStandard(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out.zst")
	for range 3 {
		l := open(t, Options{Path: path})
		a := l.Attempt("x", 1, 0, false)
		for range 1000 {
			a.Line(Stdout, []byte("text"), false)
		}
		a.End()
		closeLog(t, l)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	text, err := decoder.DecodeAll(content, nil)
	if err != nil || bytes.Count(text, []byte("\n")) != 3000 {
		t.Errorf("%d lines, error %v", bytes.Count(text, []byte("\n")), err)
	}
	if end, err := completeFrames(bytes.NewReader(content), int64(len(content))); err != nil || end != int64(len(content)) {
		t.Errorf("the frames end at %d of %d, error %v", end, len(content), err)
	}
}

// Two runs cannot write to the same compressed file.
func TestOpen_CompressedFileInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out.zst")
	open(t, Options{Path: path})
	if _, err := Open(t.Context(), Options{Path: path}); !errors.Is(err, errLocked) {
		t.Errorf("error %v", err)
	}
}

// With Follow, Read returns records that are written later, and ends with its context.
func TestRead_Follow(t *testing.T) {
	t.Parallel()
	for _, name := range formats {
		path := filepath.Join(t.TempDir(), name)
		l := open(t, Options{Path: path})
		l.Attempt("x", 1, 0, false).Line(Stdout, []byte("one"), false)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan string)
		ended := make(chan error)
		go func() {
			ended <- Read(ctx, path, ReadOptions{Follow: true}, func(r Record) error { got <- string(r.Text); return nil })
		}()
		for _, text := range []string{"one", "two"} {
			if line := <-got; line != text {
				t.Errorf("%s: %q, want %q", name, line, text)
			}
			if text == "one" {
				l.Attempt("x", 2, 0, false).Line(Stdout, []byte("two"), false)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// A line that is not a record is an error with the number of the line.
func TestRead_NotALog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(path, []byte("my notes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Read(t.Context(), path, ReadOptions{}, func(Record) error { return nil }); err == nil || !strings.Contains(err.Error(), "line 1 is not a line of an output log") {
		t.Errorf("error %v", err)
	}
	good := `{"stream":"stdout","slot":0,"timestamp":"2026-01-01T00:00:00.000000","text":"x"}` + "\n"
	for _, line := range []string{"notes", "{}", `{"stream":"none","timestamp":"2026-01-01T00:00:00.000000"}`, `{"stream":"stdout","timestamp":"now"}`, `{"stream":"stdout",}`} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(good+line+"\n"+good), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Read(t.Context(), path, ReadOptions{}, func(Record) error { return nil })
		if line == "notes" { // does not end like a record, as after a kill
			if err != nil {
				t.Errorf("%s: %v", line, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: error %v", line, err)
		}
	}
}

// Different tasks have different file names, which are safe.
func TestFileName(t *testing.T) {
	t.Parallel()
	for id, name := range map[string]string{
		"image-0001": "image-0001", "a b": "a%20b", "../etc/passwd": "%2E.%2Fetc%2Fpasswd", ".": "%2E", "..": "%2E.", "a.b": "a.b", "100%": "100%25",
		"é": "%C3%A9", "\x00": "%00", "a~": "a%7E", "con:": "con%3A",
	} {
		if got := FileName(id); got != name {
			t.Errorf("%q: %q, want %q", id, got, name)
		}
	}
	long := strings.Repeat("é/", 100_000)
	one, two := FileName(long+"1"), FileName(long+"2")
	if one == two || len(one) > maxName || len(two) > maxName || strings.ContainsAny(one, "/\x00") {
		t.Errorf("%q, %q", one, two)
	}
}

// The text files of an attempt contain what was printed, with pieces of long lines joined.
func TestLog_Dir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "out")
	l := open(t, Options{Dir: dir, MaxSize: 4096})
	a := l.Attempt("../x", 2, 0, false)
	a.Line(Stdout, []byte("one"), false)
	a.Line(Stderr, []byte("error\xff"), false)
	a.Line(Stdout, []byte("long "), false)
	a.Line(Stdout, []byte("line"), true)
	for i := range 200 {
		a.Line(Stdout, fmt.Append(nil, i), false)
	}
	a.End()
	l.Attempt("silent", 1, 0, false).End()
	l.Attempt("", 1, 0, false).Line(Stdout, []byte("idle"), false)
	content := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, "%2E.%2Fx", name))
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	if got := content("2.stdout"); !strings.HasPrefix(got, "one\nlong line\n0\n1\n") || !strings.HasSuffix(got, "\n198\n199\n") || !strings.Contains(got, "\n[ctworker omitted ") {
		t.Errorf("standard output: %s", got)
	}
	if got := content("2.stderr"); got != "error\xff\n" {
		t.Errorf("standard error: %q", got)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, error %v", entries, err)
	}
}
