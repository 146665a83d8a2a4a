package sdk

import (
	"context"
	"testing"
)

// The benchmarks measure what a child process does for each task, except for reading and
// writing.

func BenchmarkParseTask(b *testing.B) {
	for name, line := range map[string]string{
		"plain": `{"task_id":"task-00000001","attempt":1,"data":{"num1":        1, "num2":        2}}`,
		"other": `{"attempt": 1, "task_id": "task-00000001", "data": {"num1": 1, "num2": 2}}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parseTask([]byte(line)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkInvoke(b *testing.B) {
	for name, result := range map[string]any{"word": true, "map": map[string]any{"width": 640, "file": "s3://bucket/out/1.png"}} {
		b.Run(name, func(b *testing.B) {
			c := newInvoker(func(context.Context, Task) (any, error) { return result, nil }, 1<<20)
			task := Task{ID: "task-00000001"}
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				c.invoke(b.Context(), task)
				out = appendReply(out[:0], []byte(`"task-00000001"`), c.out, 1<<20)
			}
			b.SetBytes(int64(len(out)))
		})
	}
}
