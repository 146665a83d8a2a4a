package inputs

import (
	"slices"
	"strings"
	"testing"
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
		"::: a":             "no command before the inputs",
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

func TestTasks(t *testing.T) {
	t.Parallel()
	_, in, err := Split([]string{"echo", ":::", "a b", `c"d\`, " e"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for task, err := range in.Tasks() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, task.ID+" "+string(task.Data))
	}
	if want := []string{`a b {"value":"a b"}`, `c"d\ {"value":"c\"d\\"}`, ` e {"value":" e"}`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, in, err := Split([]string{"echo", "::::", "list"}); err != nil || in.Tasks() != nil || in.File != "list" {
		t.Errorf("got %+v, error %v", in, err)
	}
	if _, _, err := Split([]string{"echo", ":::", "a", "\xff"}); err == nil || !strings.Contains(err.Error(), `input 2 after :::, "\xff", is not UTF-8`) {
		t.Errorf("error %v", err)
	}
}
