package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/app"
)

const reportLog = `{"timestamp":"2026-11-23T08:00:10","hostname":"h","event_type":"task_completed","task_id":"a","elapsed_time":4,"retry":false,"result":1,"attempt":1,"slot":0}
{"timestamp":"2026-11-23T08:00:20","hostname":"h","event_type":"task_exited","task_id":"b` + "\u202e" + `","elapsed_time":4,"retry":false,"exit_code":3,"attempt":1,"slot":0}
damaged
{"timestamp":"2026-11-23T08:00:30"`

func TestReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "events.log", reportLog)
	text := prepare(t, dir, "report").start()
	text.want(app.ExitOK)
	text.wantError("events.log: ignored 1 damaged lines: 3\n", "events.log: ignored the incomplete last line\n")
	for _, want := range []string{"tasks        2\n", "failed       1\n", "1 × exited: exit code 3\n", `tasks b\u202e`, "ctworker failed events.log\n"} {
		if !strings.Contains(text.stdout.String(), want) {
			t.Errorf("the text does not contain %q:\n%s", want, text.stdout.String())
		}
	}
	var r struct {
		Summary struct {
			Tasks int `json:"task_count"`
		} `json:"summary"`
		Cost struct{ Total float64 } `json:"cost"`
	}
	asJSON := prepare(t, dir, "report", "--format", "json", "--price", "3600", "events.log").start()
	asJSON.want(app.ExitOK)
	if err := json.Unmarshal(asJSON.stdout.Bytes(), &r); err != nil || r.Summary.Tasks != 2 || r.Cost.Total != 14 {
		t.Errorf("report %+v, error %v", r, err)
	}
}

// The report replaces an earlier one, and leaves nothing behind after an error.
func TestReport_Output(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "events.log", reportLog)
	write(t, dir, "report.html", "earlier")
	in := prepare(t, dir, "report", "-o", "report.html", "events.log").start()
	in.want(app.ExitOK)
	in.wantError("report written to report.html\n")
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil || !strings.HasPrefix(string(page), "<!DOCTYPE html>") || !strings.HasSuffix(strings.TrimSpace(string(page)), "</html>") {
		t.Errorf("page %.100q, error %v", page, err)
	}
	for _, name := range []string{"r.txt", "r.json"} {
		prepare(t, dir, "report", "--output", name, "events.log").start().want(app.ExitOK)
	}
	in = prepare(t, dir, "report", "-o", "none/report.html", "events.log").start()
	in.want(app.ExitFatal)
	in.wantError("--output: ", "no such file or directory")
	in = prepare(t, dir, "report", "--format", "html", "-o", "events.log", "events.log").start()
	in.want(app.ExitFatal)
	in.wantError("is the event log itself")
	if names, _ := filepath.Glob(filepath.Join(dir, ".*")); len(names) > 0 {
		t.Errorf("temporary files %q", names)
	}
	if log, _ := os.ReadFile(filepath.Join(dir, "events.log")); string(log) != reportLog {
		t.Error("the event log has changed")
	}
}

func TestReport_Errors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "events.log", reportLog)
	write(t, dir, "text", "not a log\n")
	for _, tc := range []struct {
		code int
		want string
		args []string
	}{
		{app.ExitUsage, `--format "pdf": unknown format; give text, html or json`, []string{"--format", "pdf"}},
		{app.ExitUsage, `--output "x.pdf": the name does not determine the format`, []string{"-o", "x.pdf"}},
		{app.ExitUsage, `--price "much": not a number`, []string{"--price", "much"}},
		{app.ExitUsage, `--price -1: must be between`, []string{"--price=-1"}},
		{app.ExitUsage, `--price NaN: must be between`, []string{"--price", "nan"}},
		{app.ExitFatal, "none.log: no such file", []string{"none.log"}},
		{app.ExitFatal, "contains no event, so it is not an event log", []string{"text"}},
		{app.ExitFatal, "the same file is given twice", []string{"events.log", "./events.log"}},
	} {
		in := prepare(t, dir, append([]string{"report"}, tc.args...)...).start()
		in.want(tc.code)
		in.wantError(tc.want)
	}
	in := prepare(t, t.TempDir(), "report").start()
	in.want(app.ExitUsage)
	in.wantError("no event log")
}

// A full disk is an error.
func TestReport_FullDisk(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		return // only on Linux
	}
	dir := t.TempDir()
	write(t, dir, "events.log", reportLog)
	in := prepare(t, dir, "report", "--format", "html", "-o", "/dev/full").start()
	in.want(app.ExitFatal)
	in.wantError("no space left on device")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = full.Close() }()
	in = prepare(t, dir, "report")
	in.cmd.Stdout = full
	in.start().want(app.ExitFatal)
	in.wantError("write to standard output: ", "no space left on device")
}
