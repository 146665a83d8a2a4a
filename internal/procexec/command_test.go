package procexec_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

// The process gets the task on its standard input, byte for byte. The task may be larger than a
// pipe.
func TestCommand_WritesTaskToStdin(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		task procexec.Task
		want string
	}{
		{"small", procexec.Task{ID: "a", Data: []byte(`{"x": 1,  "y":[1e400]}`)}, `{"task_id":"a","data":{"x": 1,  "y":[1e400]}}` + "\n"},
		{"odd id", procexec.Task{ID: "a\"\n\u2028é", Data: []byte(`null`)}, `{"task_id":"a\"\n` + "\u2028é" + `","data":null}` + "\n"},
		{"id that is not UTF-8", procexec.Task{ID: "a\xff", Data: []byte(`1`)}, `{"task_id":"a` + "\ufffd" + `","data":1}` + "\n"},
		{"no data", procexec.Task{ID: "a"}, `{"task_id":"a","data":null}` + "\n"},
		{"size of a pipe", sized(64 << 10), ""},
		{"one byte more than a pipe", sized(64<<10 + 1), ""},
		{"5 MB", sized(5 << 20), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.want == "" {
				tc.want = `{"task_id":"` + tc.task.ID + `","data":` + string(tc.task.Data) + "}\n"
			}
			file := filepath.Join(t.TempDir(), "input")
			if r := run(t, procexec.CommandOptions{Argv: sh(`cat >"$1"`, file)}, tc.task); r.Kind != outcome.Completed {
				t.Fatalf("%+v", r)
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, []byte(tc.want)) {
				t.Errorf("read %d bytes %.100q, want %d bytes %.100q", len(got), got, len(tc.want), tc.want)
			}
		})
	}
}

// sized returns a task whose line on standard input is n bytes long.
func sized(n int) procexec.Task {
	const overhead = len(`{"task_id":"s","data":""}` + "\n")
	return procexec.Task{ID: "s", Data: []byte(`"` + strings.Repeat("x", n-overhead) + `"`)}
}

// A task completes even if its process does not read standard input.
func TestCommand_MayIgnoreStdin(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"never read":      `echo ok`,
		"closed":          `exec <&-; echo ok`,
		"read in part":    `dd bs=1 count=10 >/dev/null 2>&1; echo ok`,
		"held by a child": `sleep 1000 </dev/stdin & echo ok`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r := run(t, procexec.CommandOptions{Argv: sh(script)}, sized(5<<20)); r.Kind != outcome.Completed || string(r.Result) != `"ok"` {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestCommand_ReplacesPlaceholders(t *testing.T) {
	t.Parallel()
	const data = `{"key":"value","n":1.50,"big":12345678901234567890,"o":{"in":{"x":"deep"},"list":[1, {"a" :2}]},` +
		`"a.b":"dotted name","a":{"b":"not this"},"empty":"","null":null,"yes":true,"dup":1,"dup":2,` +
		`"evil":"$(rm -rf x); ../.. ` + "`id`" + ` \" ' \\ \n*","dash":"-rf","nul":"a\u0000b","e\u0301":"é","sur":"\ud800","k}":1}`
	for _, tc := range []struct {
		arg, want, exception string
	}{
		{arg: "{task_id}", want: "-id $x"},
		{arg: "--name={task_id}.txt", want: "--name=-id $x.txt"},
		{arg: "{task_id}{task_id}", want: "-id $x-id $x"},
		{arg: "{data.key}", want: "value"},
		{arg: "a{data.key}b{task_id}c", want: "avalueb-id $xc"},
		{arg: "{data.n}", want: "1.50"},
		{arg: "{data.big}", want: "12345678901234567890"},
		{arg: "{data.o.in.x}", want: "deep"},
		{arg: "{data.o.list}", want: `[1,{"a":2}]`},
		{arg: "{data.a.b}", want: "dotted name"},
		{arg: "{data.empty}", want: ""},
		{arg: "{data.null}", want: "null"},
		{arg: "{data.yes}", want: "true"},
		{arg: "{data.dup}", want: "2"},
		{arg: "{data.evil}", want: "$(rm -rf x); ../.. `id` \" ' \\ \n*"},
		{arg: "{data.dash}", want: "-rf"},
		{arg: "{data.e\u0301}", want: "é"},
		{arg: "{}", want: "{}"},
		{arg: "{data.}", want: "{data.}"},
		{arg: "{data}", want: "{data}"},
		{arg: "{TASK_ID}", want: "{TASK_ID}"},
		{arg: "{ task_id }", want: "{ task_id }"},
		{arg: "${task_id}", want: "$-id $x"},
		{arg: "{{task_id}}", want: "{-id $x}"},
		{arg: `{"a":"{data.key}"}`, want: `{"a":"value"}`},
		{arg: "{task_id", want: "{task_id"},
		{arg: "task_id}", want: "task_id}"},
		{arg: "{x}{task_id}{", want: "{x}-id $x{"},
		{arg: "", want: ""},
		{arg: "{data.none}", exception: `argument "{data.none}": no value for {data.none}: the task's data has no "none"`},
		{arg: "{data.Key}", exception: `no "Key"`},
		{arg: "{data.o.none}", exception: `in "o": the task's data has no "none"`},
		{arg: "{data.key.x}", exception: `in "key": the task's data is not an object`},
		{arg: "{data.nul}", exception: "NUL"},
		{arg: "{data.sur}", exception: "half of a surrogate pair"},
	} {
		t.Run(tc.arg, func(t *testing.T) {
			t.Parallel()
			r := run(t, procexec.CommandOptions{Argv: sh(`printf '%s|' "$@" >"$OUT"; cat "$OUT"`, tc.arg, "end"), Env: append(os.Environ(), "OUT="+filepath.Join(t.TempDir(), "out"))},
				procexec.Task{ID: "-id $x", Data: []byte(data)})
			if tc.exception != "" {
				if r.Kind != outcome.Exception || !strings.Contains(r.Exception, tc.exception) {
					t.Errorf("%v %q, want %q", r.Kind, r.Exception, tc.exception)
				}
				return
			}
			want := resultString(tc.want + "|end|")
			if r.Kind != outcome.Completed || string(r.Result) != want {
				t.Errorf("%v %s %s, want %s", r.Kind, r.Result, r.Exception, want)
			}
		})
	}
}

// resultString returns s as a JSON string.
func resultString(s string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, "\n", `\n`).Replace(s) + `"`
}

func TestCommand_FailsTaskIfDataIsNotAnObject(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`null`, `[{"key":1}]`, `"key"`, `7`, ` `, ``} {
		r := run(t, procexec.CommandOptions{Argv: sh(`:`, "{data.key}")}, procexec.Task{ID: "a", Data: []byte(data)})
		if r.Kind != outcome.Exception || !strings.Contains(r.Exception, "not an object") {
			t.Errorf("%q: %v %q", data, r.Kind, r.Exception)
		}
	}
	r := run(t, procexec.CommandOptions{Argv: sh(`:`, "{data.key}")}, procexec.Task{ID: "a", Data: []byte(`{"key":`)})
	if r.Kind != outcome.Exception || !strings.Contains(r.Exception, "not valid JSON") {
		t.Errorf("%v %q", r.Kind, r.Exception)
	}
}

func TestCommand_SetsEnvironment(t *testing.T) {
	t.Parallel()
	env := []string{
		"PATH=" + os.Getenv("PATH"), "USER_VAR=a b=c", "TWICE=first", "EMPTY=", "TWICE=last",
		"CTWORKER_TASK_ID=outer", "CTWORKER_GUARD=outer:/", "CTWORKER_PROCESS=outer.1", "CTWORKER_SHUTDOWN_FD=9", "CTWORKER_BIN=/kept", "CTWORKER_OUTER_SETTINGS=kept",
	}
	r := run(t, procexec.CommandOptions{Argv: []string{"env"}, Env: env}, procexec.Task{ID: "task\n é", Data: []byte("1"), Attempt: 7, Slot: 3})
	var got []string
	for line := range strings.SplitSeq(strings.Trim(string(r.Result), `"`), `\n`) {
		if !strings.HasPrefix(line, "CTWORKER_PROCESS=") {
			got = append(got, line)
		} else if strings.Contains(line, "outer") {
			t.Errorf("inherited from the outer engine: %s", line)
		}
	}
	want := []string{
		"PATH=" + os.Getenv("PATH"), "USER_VAR=a b=c", "EMPTY=", "TWICE=last", "CTWORKER_BIN=/kept", "CTWORKER_OUTER_SETTINGS=kept",
		"CTWORKER_RESULT_FD=3", "CTWORKER_TASK_ID=task", " é", "CTWORKER_ATTEMPT=7", "CTWORKER_SLOT=3",
	}
	if !slices.Equal(got, want) {
		t.Errorf("environment\n%q, want\n%q", got, want)
	}
}

// If a value of the task prevents the start of its process, the task fails with an exception. Run
// returns no error, because other tasks can start.
func TestCommand_FailsTaskThatCannotStart(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("x", 4<<20)
	for name, tc := range map[string]struct {
		argv []string
		task procexec.Task
		want string
	}{
		"NUL in the id":              {sh(`:`), procexec.Task{ID: "a\x00b", Data: []byte("1")}, "NUL"},
		"NUL in the id, as argument": {sh(`:`, "{task_id}"), procexec.Task{ID: "a\x00b", Data: []byte("1")}, "NUL"},
		"an argument too long":       {sh(`:`, "{data.k}"), procexec.Task{ID: "a", Data: []byte(`{"k":"` + huge + `"}`)}, "standard input"},
		"an id too long":             {sh(`:`), procexec.Task{ID: huge, Data: []byte("1")}, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, procexec.CommandOptions{Argv: tc.argv}, tc.task)
			if r.Kind != outcome.Exception || !strings.Contains(r.Exception, tc.want) {
				t.Errorf("%v %q", r.Kind, r.Exception)
			}
		})
	}
}

func TestNewCommand_ReturnsErrorIfProgramIsUnusable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLauncher(t, procexec.Options{})
	for name, tc := range map[string]struct {
		argv []string
		want string
	}{
		"none":                {nil, "Argv is empty"},
		"empty":               {[]string{""}, "Argv is empty"},
		"not found":           {[]string{"no-such-command-anywhere"}, "not found"},
		"no such file":        {[]string{dir + "/none"}, "no such file"},
		"not executable":      {[]string{file}, "permission denied"},
		"a directory":         {[]string{dir}, "directory"},
		"a placeholder":       {[]string{"/bin/{data.program}"}, "placeholder"},
		"task_id as program":  {[]string{"{task_id}"}, "placeholder"},
		"a directory in PATH": {[]string{"./" + filepath.Base(dir)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := procexec.NewCommand(l, procexec.CommandOptions{Argv: tc.argv}); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

// If the program is removed after NewCommand, Run returns an error instead of the result of a
// failed task, because no further task can start.
func TestCommand_ReturnsStartErrorIfProgramIsRemoved(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho ran\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	l := newLauncher(t, procexec.Options{})
	c := newCommand(t, l, procexec.CommandOptions{Argv: []string{program}})
	if r := runWith(t, c, task, procexec.StopSignals{}); string(r.Result) != `"ran"` {
		t.Fatalf("%+v", r)
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	_, err := c.Run(task, procexec.StopSignals{})
	var start *procexec.StartError
	if !errors.As(err, &start) || start.Path != program || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestCommand_MeasuresTimeAndMemory(t *testing.T) {
	t.Parallel()
	began := time.Now()
	r := run(t, procexec.CommandOptions{Argv: sh(`i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done`)}, task)
	if r.Elapsed <= 0 || r.Elapsed > time.Since(began) || r.CPU <= 0 || r.CPU > time.Since(began) || r.PeakMemory < 100<<10 {
		t.Errorf("%+v", r)
	}
}

// Run returns a panic in CommandOptions.Stderr as an error.
func TestCommand_PanicInStderr(t *testing.T) {
	t.Parallel()
	c := newCommand(t, newLauncher(t, procexec.Options{}), procexec.CommandOptions{
		Argv:   sh(`echo x >&2; sleep 0.1; echo y >&2`),
		Stderr: func(procexec.Task, []byte, bool) { panic("a fault in the log") },
	})
	_, err := c.Run(procexec.Task{ID: "a"}, procexec.StopSignals{})
	if err == nil || !strings.Contains(err.Error(), "a fault in the log") {
		t.Errorf("error %v", err)
	}
}
