package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/ctworker/ctworker"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/sinktest"
)

// The sink does not write JSON, so the harness defines how rows are compared.
func TestContract(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{
		New: func(t testing.TB) (pipeline.Sink, func() [][]byte) {
			path := filepath.Join(t.TempDir(), "events.csv")
			s, err := openCSV(path)
			if err != nil {
				t.Fatal(err)
			}
			return s, func() (all [][]byte) {
				for _, r := range readRows(t, path) {
					all = append(all, line(t, r))
				}
				return all
			}
		},
		Encode:   func(e *pipeline.Event) []byte { return line(t, row(e)) },
		Features: sinktest.Features{Ordered: true},
	})
}

func line(t testing.TB, row []string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := csv.NewWriter(&b).WriteAll([][]string{row}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readRows(t testing.TB, path string) [][]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// A row is written for each task, with its result or its exception.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	small, missing, out := filepath.Join(dir, "small"), filepath.Join(dir, "missing"), filepath.Join(dir, "out.csv")
	if err := os.WriteFile(small, []byte("seven b"), 0o600); err != nil {
		t.Fatal(err)
	}
	summary, err := ctworker.Run(t.Context(), size,
		ctworker.WithTasks(func(yield func(ctworker.Task, error) bool) {
			_ = yield(ctworker.NewTask("a", small)) && yield(ctworker.NewTask("b", missing))
		}),
		ctworker.WithSink(func(context.Context) (pipeline.Sink, error) { return openCSV(out) }),
		ctworker.WithArgs([]string{"--no-event-log-to-file"}),
		ctworker.InProcess(),
	)
	if err != nil || !summary.Finished {
		t.Fatalf("summary %+v, error %v", summary, err)
	}
	rows := readRows(t, out)
	slices.SortFunc(rows, func(a, b []string) int { return slices.Compare(a, b) })
	want := [][]string{
		{"a", "task_completed", "7", ""},
		{"b", "task_exception", "", "*fs.PathError: stat " + missing + ": no such file or directory\nsyscall.Errno: no such file or directory"},
	}
	if !reflect.DeepEqual(rows, want) {
		t.Errorf("rows are %q, want %q", rows, want)
	}
}
