package sdk

import (
	"context"
	"testing"
)

// BenchmarkInvoke measures a call of the function and the encoding of its reply.
func BenchmarkInvoke(b *testing.B) {
	for name, result := range map[string]any{"word": true, "map": map[string]any{"width": 640, "file": "s3://bucket/out/1.png"}} {
		b.Run(name, func(b *testing.B) {
			c := newInvoker(func(context.Context, Task) (any, error) { return result, nil }, 1<<20)
			task := Task{ID: "task-00000001"}
			var out []byte
			b.ReportAllocs()
			for b.Loop() {
				c.invoke(b.Context(), task)
				out = c.out.appendReply(out[:0], []byte(`"task-00000001"`), 1<<20)
			}
			b.SetBytes(int64(len(out)))
		})
	}
}
