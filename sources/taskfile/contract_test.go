package taskfile_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/sourcetest"
	"github.com/ctworker/ctworker/sources/taskfile"
)

// jsonOf returns a task file that ends with end instead of the closing bracket.
func jsonOf(tasks []pipeline.Task, end string) []byte {
	b := bytes.NewBufferString("[")
	for i, task := range tasks {
		if i > 0 {
			b.WriteString(",\n")
		}
		b.WriteString(`{"task_id":` + strconv.Quote(task.ID) + `,"data":`)
		b.Write(task.Data)
		b.WriteString("}")
	}
	b.WriteString(end)
	return b.Bytes()
}

func TestContract(t *testing.T) { // not parallel: it checks for leaked goroutines
	file := func(t testing.TB, content []byte) pipeline.Source {
		t.Helper()
		path := filepath.Join(t.TempDir(), "tasks.json")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return open(t, path, taskfile.Options{})
	}
	sourcetest.Run(t, sourcetest.Harness{
		New: func(t testing.TB, tasks []pipeline.Task) pipeline.Source { return file(t, jsonOf(tasks, "]")) },
		NewBroken: func(t testing.TB, tasks []pipeline.Task) pipeline.Source {
			return file(t, jsonOf(tasks, ", garbage"))
		},
		NewBlocking: func(t testing.TB, tasks []pipeline.Task) pipeline.Source {
			r, w := io.Pipe()
			go func() { _, _ = w.Write(append(jsonOf(tasks, ""), '\n')) }()
			t.Cleanup(func() { _ = r.Close() }) // ends the Write if a case does not read the tasks
			return open(t, "-", taskfile.Options{Stdin: r})
		},
		Features: sourcetest.Features{Finite: true, Ordered: true},
	})
}

func open(t testing.TB, path string, opts taskfile.Options) pipeline.Source {
	t.Helper()
	src, err := taskfile.Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return src
}
