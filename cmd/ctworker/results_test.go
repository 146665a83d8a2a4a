package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
)

// resultsRun returns a folder with the event log of three tasks, of which one failed.
func resultsRun(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	prepare(t, dir, "run", "--", "sh", "-c", `[ $1 != b ] && echo "{\"sum\": $1}"`, "x", "{data.value}", ":::", "1", "b", "3").start().want(app.ExitOK)
	return dir
}

func TestResults(t *testing.T) {
	t.Parallel()
	dir := resultsRun(t)
	in := prepare(t, dir, "results", "--format", "csv").start()
	in.want(app.ExitOK)
	if got := in.stdout.String(); strings.Count(got, "\r\n") != 4 || !strings.HasPrefix(got, "task_id,outcome,") || !strings.Contains(got, ",sum\r\n") || !strings.Contains(got, ",task_exited,") {
		t.Errorf("%q", got)
	}
	for _, args := range [][]string{
		{"-o", "out.jsonl"}, {"events.log", "-o", "out.csv"}, {"--output=out.parquet", "events.log"}, {"-o", "out", "--format", "jsonl", "--", "events.log"}, {"--all-attempts", "-o", "out.ndjson"},
	} {
		in := prepare(t, dir, append([]string{"results"}, args...)...).start()
		in.want(app.ExitOK)
		if got := in.stderr.String(); !strings.HasPrefix(got, "3 rows") || !strings.Contains(got, " written to out") {
			t.Errorf("%q: %s", args, got)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "out.parquet")); err != nil || !bytes.HasPrefix(b, []byte("PAR1")) || !bytes.HasSuffix(b, []byte("PAR1")) {
		t.Errorf("error %v, %q", err, b[:min(len(b), 10)])
	}
	in = prepare(t, dir, "results", "-")
	log, err := os.ReadFile(filepath.Join(dir, "events.log"))
	if err != nil {
		t.Fatal(err)
	}
	in.cmd.Stdin = bytes.NewReader(log) // a pipe
	in.start().want(app.ExitOK)
	if same, err := os.ReadFile(filepath.Join(dir, "out.jsonl")); err != nil || in.stdout.String() != string(same) {
		t.Errorf("error %v: a pipe has other rows than a file: %s", err, in.stdout.String())
	}
}

// An export that fails leaves the old file, and no other.
func TestResults_Errors(t *testing.T) {
	t.Parallel()
	dir := resultsRun(t)
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("notes.txt", "notes\n")
	write("old.csv", "old")
	write("wide.log", `{"event_type":"task_completed","task_id":"a","retry":false,"result":{"`+strings.Repeat("x", 2<<20)+`":1}}`+"\n")
	before, err := os.ReadFile(filepath.Join(dir, "events.log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("events.log", filepath.Join(dir, "link.csv")); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"none.log":                      "1 event log: open none.log",
		"notes.txt":                     "1 notes.txt: contains no event",
		".":                             "1 event log .: is a directory",
		"-o old.csv notes.txt":          "1 notes.txt: contains no event",
		"-o old.csv wide.log":           "1 the results have too many different keys",
		"-o events.log --format csv":    "1 --output: events.log is one of the event logs",
		"-o link.csv":                   "1 --output: events.log is one of the event logs",
		"-o none/x.csv":                 "1 --output: open none/.x.csv.",
		"-o . --format csv":             "1 --output: . is a directory",
		"-o /dev/full --format csv":     "1 write /dev/full: no space left",
		"-o /dev/full --format parquet": "1 write /dev/full: no space left",
		"-o x.xlsx":                     `2 --output "x.xlsx": the name does not determine the format`,
		"--format xml":                  `2 --format "xml": give csv, jsonl or parquet`,
		"- -":                           "2 -: standard input can be only one",
		"events.log --fromat csv":       "2 --fromat: unknown flag; did you mean --format?",
	} {
		in := prepare(t, dir, append([]string{"results"}, strings.Fields(args)...)...).start()
		code, text, _ := strings.Cut(want, " ")
		in.want(int(code[0] - '0'))
		if got := in.stderr.String(); !strings.Contains(got, text) || strings.Count(got, "\n") > 2 {
			t.Errorf("%s: %s", args, got)
		}
	}
	if old, err := os.ReadFile(filepath.Join(dir, "old.csv")); err != nil || string(old) != "old" {
		t.Errorf("old.csv: %q, error %v", old, err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "events.log")); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the log has changed, error %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*.tmp")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// A reader that exits ends the export without a message. A full disk is an error.
func TestResults_StandardOutputThatFails(t *testing.T) {
	t.Parallel()
	dir := resultsRun(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	in := prepare(t, dir, "results")
	in.cmd.Stdout = w
	in.start()
	_ = w.Close()
	<-in.exited
	if got := in.stderr.String(); got != "" {
		t.Errorf("closed pipe: %q", got)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	in = prepare(t, dir, "results")
	in.cmd.Stdout = full
	in.start().want(app.ExitFatal)
	if got := in.stderr.String(); !strings.Contains(got, "no space left") {
		t.Errorf("full disk: %q", got)
	}
}
