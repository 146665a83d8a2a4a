package procexec_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/internal/rawjson/rawjsontest"
)

// catFile is a script that writes the content of the file $1 to its standard output.
const catFile = `cat "$1"`

// tempFile creates a file with that content and returns its path.
func tempFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommand_ParsesStdout(t *testing.T) {
	t.Parallel()
	const limit = 1000
	for _, tc := range []struct {
		name, out, want, raw, exception string
	}{
		{name: "nothing", out: "", want: `""`},
		{name: "a newline", out: "\n", want: `""`},
		{name: "text", out: "done\n", want: `"done"`},
		{name: "one newline of two", out: "done\n\n", want: `"done\n"`},
		{name: "CRLF", out: "done\r\n", want: `"done"`},
		{name: "CR alone", out: "done\r", want: `"done\r"`},
		{name: "text without a newline", out: " done ", want: `" done "`},
		{name: "quotes and control characters", out: "\"\\\x00\x1b é\n", want: `"\"\\\u0000\u001b é"`},
		{name: "object", out: `{"a":1}`, want: `{"a":1}`},
		{name: "object unchanged", out: "\n { \"a\" : 1.0,\n\"a\":2 }\n\n", want: "{ \"a\" : 1.0,\n\"a\":2 }"},
		{name: "numbers beyond a double", out: `{"a":1e400,"b":9223372036854775807,"c":-0.0}`, want: `{"a":1e400,"b":9223372036854775807,"c":-0.0}`},
		{name: "object with more after it", out: "{} x", want: `"{} x"`},
		{name: "two objects", out: "{}\n{}\n", want: `"{}\n{}"`},
		{name: "half an object", out: `{"a":`, want: `"{\"a\":"`},
		{name: "array", out: "[1]\n", want: `"[1]"`},
		{name: "number", out: "17\n", want: `"17"`},
		{name: "not UTF-8", out: "a\xff\n", raw: "a\xff\n"},
		{name: "not UTF-8 in an object", out: "{\"a\":\"\xff\"}", raw: "{\"a\":\"\xff\"}"},
		{name: "at the limit", out: strings.Repeat("x", limit), want: `"` + strings.Repeat("x", limit) + `"`},
		{name: "one byte over the limit", out: strings.Repeat("x", limit) + "\n", exception: "exceeds 1000 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, procexec.CommandOptions{Argv: sh(catFile, tempFile(t, tc.out)), MaxResult: limit}, task)
			if tc.exception != "" {
				if r.Kind != outcome.Exception || !strings.Contains(r.Exception, tc.exception) || r.Result != nil {
					t.Errorf("%v %q", r.Kind, r.Exception)
				}
				return
			}
			if r.Kind != outcome.Completed || r.RetryRequested || string(r.Result) != tc.want || string(r.RawResult) != tc.raw {
				t.Errorf("%v %s %q, want %s %q", r.Kind, r.Result, r.RawResult, tc.want, tc.raw)
			}
		})
	}
}

// The object on CTWORKER_RESULT_FD has priority over the standard output, and over the exit codes 0
// and 75. With any other exit code, the task has no result.
func TestCommand_ParsesResultDescriptor(t *testing.T) {
	t.Parallel()
	const limit = 1000
	finished := func(retry bool, result string) procexec.TaskResult {
		return procexec.TaskResult{Kind: outcome.Completed, RetryRequested: retry, Result: []byte(result)}
	}
	for _, tc := range []struct {
		name, written string
		code          int
		want          procexec.TaskResult // Exception may be a part of the real text
	}{
		{"nothing", ``, 0, finished(false, `"out"`)},
		{"nothing, retry", ``, 75, finished(true, `"out"`)},
		{"nothing, exit", ``, 1, procexec.TaskResult{Kind: outcome.Exited, ExitCode: 1}},
		{"empty object", `{}`, 0, finished(false, `"out"`)},
		{"empty object, retry", `{}`, 75, finished(true, `"out"`)},
		{"retry", `{"retry":true}`, 0, finished(true, `"out"`)},
		{"no retry, against the exit code", `{"retry":false}`, 75, finished(false, `"out"`)},
		{"result", "{\"result\": {\"a\": 1e400}}\n", 0, finished(false, `{"a": 1e400}`)},
		{"result null", `{"result":null}`, 0, finished(false, `null`)},
		{"both", `{"retry":true,"result":"x"}`, 0, finished(true, `"x"`)},
		{"both, against the exit code", `{"retry":false,"result":"x"}`, 75, finished(false, `"x"`)},
		{"both, and an exit", `{"retry":true,"result":"x"}`, 1, procexec.TaskResult{Kind: outcome.Exited, ExitCode: 1}},
		{"unknown members", `{"result":1,"more":2}`, 0, finished(false, `1`)},
		{"exception", `{"exception":"it\nbroke"}`, 0, procexec.TaskResult{Kind: outcome.Exception, Exception: "it\nbroke"}},
		{"exception, retry", `{"exception":"%d"}`, 75, procexec.TaskResult{Kind: outcome.Exception, Exception: "%d"}},
		{"exception, exit", `{"exception":"x"}`, 1, procexec.TaskResult{Kind: outcome.Exited, ExitCode: 1}},
		{"malformed", `{"retry":tru`, 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `wrote "{\"retry\":tru" to the descriptor CTWORKER_RESULT_FD instead of one JSON object with "retry" and "result": it is not valid JSON: unexpected EOF`}},
		{"array", `[]`, 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `wrote "[]" to the descriptor CTWORKER_RESULT_FD instead of one JSON object with "retry" and "result": it is an array, not an object`}},
		{"null", `null`, 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `wrote "null" to the descriptor CTWORKER_RESULT_FD instead of one JSON object with "retry" and "result": it is not an object`}},
		{"blank", " \n", 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `wrote " \n" to the descriptor CTWORKER_RESULT_FD instead of one JSON object with "retry" and "result": it is not valid JSON: unexpected EOF`}},
		{"retry is a string", `{"retry":"yes"}`, 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `: "retry" is a string; it must be true or false`}},
		{"retry is a number", `{"result":"x","Retry":1}`, 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `: "Retry" is a number; it must be true or false`}},
		{"exception is an object", `{"exception":{"text":"x"}}`, 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `: "exception" is an object; it must be a string`}},
		{"exception is a number", `{"retry":false,"exception":1}`, 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `: "exception" is a number; it must be a string`}},
		{"string", `"done"`, 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `: it is a string, not an object`}},
		{"text", "done\n", 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `: it is not valid JSON: invalid character 'd'`}},
		{"two objects", "{}\n{}\n", 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `: it is not valid JSON: invalid character '{' after top-level value`}},
		{"not UTF-8", "{\"result\":\"\xff\"}", 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `: it is not UTF-8`}},
		{"long and malformed", strings.Repeat("x", 500), 0, procexec.TaskResult{Kind: outcome.Exception, Exception: `and 300 more bytes`}},
		{"at the limit", `{"result":"` + strings.Repeat("x", limit-13) + `"}`, 0, finished(false, `"`+strings.Repeat("x", limit-13)+`"`)},
		{"over the limit", `{"result":"` + strings.Repeat("x", limit-12) + `"}`, 0, procexec.TaskResult{Kind: outcome.Exception, Exception: "more than 1000 bytes to the descriptor"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, procexec.CommandOptions{
				Argv: sh(`echo out; eval "cat \"\$1\" >&$CTWORKER_RESULT_FD"; exit $2`, tempFile(t, tc.written), fmt.Sprint(tc.code)), MaxResult: limit,
			}, task)
			r.Elapsed, r.CPU, r.PeakMemory = 0, 0, 0
			if tc.want.Exception != "" && strings.Contains(r.Exception, tc.want.Exception) {
				r.Exception = tc.want.Exception
			}
			if diff := cmp.Diff(tc.want, r); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// JSON is passed byte for byte in both directions: in the task, in the object on
// CTWORKER_RESULT_FD, and in an object on the standard output.
func TestCommand_PassesJSONByteForByte(t *testing.T) {
	t.Parallel()
	for _, value := range rawjsontest.Corpus() {
		given := procexec.Task{ID: "caf\xed\xb3\xa9", Data: []byte(value)}
		want := `{"task_id":"caf\udce9","data":` + value + `}`
		for name, script := range map[string]string{
			"standard output": `cat`,
			"descriptor":      `(printf '{"result":'; cat; printf '}') | eval "cat >&$CTWORKER_RESULT_FD"`,
		} {
			r := run(t, procexec.CommandOptions{Argv: sh(script)}, given)
			if r.Kind != outcome.Completed || strings.TrimSpace(string(r.Result)) != want {
				t.Errorf("%s: %v, result %.100s, want %.100s", name, r.Kind, r.Result, want)
			}
		}
	}
	r := run(t, procexec.CommandOptions{Argv: sh(`eval "cat \"\$1\" >&$CTWORKER_RESULT_FD"`, tempFile(t, `{"exception":"caf\udce9"}`))}, task)
	if r.Kind != outcome.Exception || r.Exception != "caf\xed\xb3\xa9" {
		t.Errorf("%v, exception %q", r.Kind, r.Exception)
	}
}

func TestCommand_MapsExitCodes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		script string
		end    outcome.Kind
		retry  bool
		code   int
	}{
		{`exit 0`, outcome.Completed, false, 0},
		{`exit 75`, outcome.Completed, true, 0},
		{`exit 1`, outcome.Exited, false, 1},
		{`exit 74`, outcome.Exited, false, 74},
		{`exit 137`, outcome.Exited, false, 137},
		{`exit 255`, outcome.Exited, false, 255},
		{`kill -9 $$`, outcome.Exited, false, -9},
		{`kill -15 $$`, outcome.Exited, false, -15},
		{`kill -14 $$`, outcome.Exited, false, -14},
		{`exec /nowhere 2>/dev/null`, outcome.Exited, false, 127},
	} {
		t.Run(tc.script, func(t *testing.T) {
			t.Parallel()
			r := run(t, procexec.CommandOptions{Argv: sh(`echo out; ` + tc.script)}, task)
			if r.Kind != tc.end || r.RetryRequested != tc.retry || r.ExitCode != tc.code || (r.Result != nil) != (tc.end == outcome.Completed) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A task that writes a lot of output does not make this program use a lot of memory. The test is
// not parallel, because it measures the allocations of the whole program.
func TestCommand_LimitsOutput(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	stderrBytes := 0
	r := run(t, procexec.CommandOptions{
		Argv:      sh(`dd if=/dev/zero bs=1048576 count=200 2>/dev/null; dd if=/dev/zero bs=1048576 count=50 >&2 2>/dev/null`),
		MaxResult: 1 << 20,
		Stderr:    func(_ procexec.Task, line []byte, _ bool) { stderrBytes += len(line) },
	}, task)
	runtime.ReadMemStats(&after)
	if r.Kind != outcome.Exception || !strings.Contains(r.Exception, "exceeds 1048576 bytes") {
		t.Errorf("%v %q", r.Kind, r.Exception)
	}
	if stderrBytes != 50<<20 {
		t.Errorf("%d bytes of standard error", stderrBytes)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 16<<20 {
		t.Errorf("%d MB were allocated", allocated>>20)
	}
}

func TestCommand_SplitsStderrIntoLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("y", 64<<10)
	var many []string
	for i := range 5000 {
		many = append(many, fmt.Sprint("line ", i))
	}
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"none", "", nil},
		{"lines in order", "a\nb\n\nc\n", []string{"a", "b", "", "c"}},
		{"a last line without a newline", "a\nb", []string{"a", "b"}},
		{"CRLF", "a\r\n\r\nb\r", []string{"a", "", "b"}},
		{"not UTF-8", "\xff\x00\n", []string{"\xff\x00"}},
		{"many", strings.Join(many, "\n"), many},
		{"maximum length", long + "\nz\n", []string{long, "z"}},
		{"longer", long + "x\r\nz\n", []string{long, "x", "z"}},
		{"twice as long", long + long + "\nz\n", []string{long, long, "z"}},
		{"many longer ones", strings.Repeat(long+"x\n", 20), slices.Repeat([]string{long, "x"}, 20)},
		{"long without a newline", long + "x", []string{long, "x"}},
		{"characters of several bytes", "x" + strings.Repeat("€", 40_000) + "\n", []string{"x" + strings.Repeat("€", 21845), strings.Repeat("€", 40_000-21845)}},
		{"only invalid UTF-8", strings.Repeat("\x80", 64<<10) + "\x80", []string{strings.Repeat("\x80", 64<<10), "\x80"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			stderr := newLines()
			r := run(t, procexec.CommandOptions{Argv: sh(catFile+" >&2", tempFile(t, tc.text)), Stderr: stderr.add}, task)
			if r.Kind != outcome.Completed || string(r.Result) != `""` {
				t.Fatalf("%+v", r)
			}
			if diff := cmp.Diff(tc.want, stderr.all); diff != "" {
				t.Errorf("%.2000s", diff)
			}
			at := 0
			for i, piece := range stderr.all {
				if want := at > 0 && tc.text[at-1] != '\n'; stderr.continued[i] != want {
					t.Errorf("line %d: continued %v, want %v", i, stderr.continued[i], want)
				}
				at += len(piece)
				if ending := regexp.MustCompile(`^\r?\n`).FindString(tc.text[at:]); ending != "" {
					at += len(ending)
				}
			}
		})
	}
}

// Stderr receives each line, together with the task that wrote the line, while the task still runs.
func TestCommand_PassesStderrWhileTaskRuns(t *testing.T) {
	t.Parallel()
	stderr := newLines()
	l := newLauncher(t, procexec.Options{})
	kill := make(chan struct{})
	c := newCommand(t, l, procexec.CommandOptions{
		Argv: sh(`echo first >&2; printf half >&2; echo out; exec sleep 1000`),
		Stderr: func(got procexec.Task, line []byte, continued bool) {
			if got.ID != task.ID || !bytes.Equal(got.Data, task.Data) {
				t.Errorf("task %+v", got)
			}
			stderr.add(got, line, continued)
		},
	})
	results := async(t, c, task, procexec.StopSignals{Kill: kill})
	stderr.expect(t, "first")
	close(kill)
	if r := receive(t, results, "the result"); r.Kind != outcome.Interrupted {
		t.Errorf("%+v", r)
	}
}
