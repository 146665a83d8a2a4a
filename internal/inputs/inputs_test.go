package inputs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/pipeline"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for argv, want := range map[string]string{
		"echo a":                  "echo a",
		"echo {} ::: a b":         "echo {data.value}",
		"echo ::: a":              "echo {data.value}",
		"echo -x={} y{} ::: a":    "echo -x={data.value} y{data.value}",
		"echo {task_id} ::: a":    "echo {task_id}",
		"echo {data.value} ::: a": "echo {data.value}",
		"echo :::: file":          "echo {data.value}",
		"echo ::::: a":            "echo ::::: a",
	} {
		got, _, err := Split(strings.Fields(argv))
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, %v, want %s", argv, got, err, want)
		}
	}
	for argv, want := range map[string]string{
		"::: a":             "no command before :::",
		"echo :::":          "no inputs after :::",
		"echo ::::":         "followed by 0 arguments",
		"echo :::: a b":     "followed by 2 arguments",
		"echo ::: a ::: b":  "several times",
		"echo ::: a :::: b": "several times",
	} {
		if _, _, err := Split(strings.Fields(argv)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", argv, err, want)
		}
	}
}

func tasksOf(t *testing.T, argv []string, stdin string) (all []pipeline.Task, err error) {
	t.Helper()
	_, in, err := Split(argv)
	if err != nil {
		t.Fatal(err)
	}
	for task, err := range in.Tasks(strings.NewReader(stdin)) {
		if err != nil {
			return all, err
		}
		all = append(all, task)
	}
	return all, nil
}

func TestTasks(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(file, []byte("a b\r\n\nc\"d\\\n e"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []pipeline.Task{{ID: "a b", Data: []byte(`{"value":"a b"}`)}, {ID: `c"d\`, Data: []byte(`{"value":"c\"d\\"}`)}, {ID: " e", Data: []byte(`{"value":" e"}`)}}
	for name, got := range map[string]func() ([]pipeline.Task, error){
		"values": func() ([]pipeline.Task, error) { return tasksOf(t, []string{"echo", ":::", "a b", `c"d\`, " e"}, "") },
		"file":   func() ([]pipeline.Task, error) { return tasksOf(t, []string{"echo", "::::", file}, "") },
		"stdin": func() ([]pipeline.Task, error) {
			return tasksOf(t, []string{"echo", "::::", "-"}, "a b\nc\"d\\\n e\n\n")
		},
	} {
		tasks, err := got()
		if err != nil || !slices.EqualFunc(tasks, want, func(a, b pipeline.Task) bool { return a.ID == b.ID && string(a.Data) == string(b.Data) }) {
			t.Errorf("%s: got %s, %v", name, tasks, err)
		}
	}
}

func TestTasks_Errors(t *testing.T) {
	t.Parallel()
	for want, argv := range map[string][]string{
		"input 2 after :::": {"echo", ":::", "a", "\xff"},
		"-, line 2":         {"echo", "::::", "-"},
		"no such file":      {"echo", "::::", filepath.Join(t.TempDir(), "none")},
	} {
		if _, err := tasksOf(t, argv, "a\n\xff\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %s", argv, err, want)
		}
	}
	tasks, err := tasksOf(t, []string{"echo", "::::", "-"}, "a\n"+strings.Repeat("x", maxLine+1))
	if len(tasks) != 1 || err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a line that is too long: %d tasks, error %v", len(tasks), fmt.Sprint(err))
	}
}
