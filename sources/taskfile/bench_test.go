package taskfile_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/sources/taskfile"
)

// benchEntry returns entry i as JSON, with about 70 bytes if size is below 100, else with about 1 KB.
func benchEntry(i, size int) string {
	if size < 100 {
		return fmt.Sprintf(`{"task_id": "task-%09d", "data": {"num1": %5d, "num2": %5d}}`, i, i%100_000, i%77_777)
	}
	return fmt.Sprintf(`{"task_id": "task-%09d", "data": {"url": "s3://bucket/%s", "values": [%s1], "note": "%s"}}`,
		i, strings.Repeat("path/", 20), strings.Repeat("12.25, -3, ", 20), strings.Repeat("some words ", 56))
}

// blockEntry returns the task of benchEntry in the block style of YAML.
func blockEntry(i, size int) string {
	if size < 100 {
		return fmt.Sprintf("- task_id: task-%09d\n  data:\n    num1: %d\n    num2: %d", i, i%100_000, i%77_777)
	}
	return fmt.Sprintf("- task_id: task-%09d\n  data:\n    url: s3://bucket/%s\n    values:\n%s    - 1\n    note: %s",
		i, strings.Repeat("path/", 20), strings.Repeat("    - 12.25\n    - -3\n", 20), strings.TrimSpace(strings.Repeat("some words ", 56)))
}

func benchFile(b *testing.B, name, prefix, between, suffix string, entry func(i, size int) string, count, size int) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), name)
	var text strings.Builder
	text.WriteString(prefix)
	for i := range count {
		if i > 0 {
			text.WriteString(between)
		}
		text.WriteString(entry(i, size))
	}
	text.WriteString(suffix)
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

func BenchmarkReceive(b *testing.B) {
	for _, bench := range []struct {
		name, file, prefix, between, suffix string
		entry                               func(i, size int) string
		count, size                         int
		skip                                bool
	}{
		{"json/70B", "t.json", "[\n", ",\n", "\n]\n", benchEntry, 200_000, 70, false},
		{"json/70B/skip", "t.json", "[\n", ",\n", "\n]\n", benchEntry, 200_000, 70, true},
		{"json/1KB", "t.json", "[\n", ",\n", "\n]\n", benchEntry, 20_000, 1000, false},
		{"json/1KB/skip", "t.json", "[\n", ",\n", "\n]\n", benchEntry, 20_000, 1000, true},
		{"jsonl/70B", "t.jsonl", "", "\n", "\n", benchEntry, 200_000, 70, false},
		{"yaml/70B", "t.yaml", "- ", "\n- ", "\n", benchEntry, 20_000, 70, false},
		{"yaml/1KB", "t.yaml", "- ", "\n- ", "\n", benchEntry, 2_000, 1000, false},
		{"yaml-block/70B", "t.yaml", "", "\n", "\n", blockEntry, 20_000, 70, false},
		{"yaml-block/1KB", "t.yaml", "", "\n", "\n", blockEntry, 2_000, 1000, false},
		{"yaml-flow/70B", "t.yaml", "---\n[\n", ",\n", "\n]\n", benchEntry, 20_000, 70, false},
		{"yaml-flow/1KB", "t.yaml", "---\n[\n", ",\n", "\n]\n", benchEntry, 2_000, 1000, false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			path := benchFile(b, bench.file, bench.prefix, bench.between, bench.suffix, bench.entry, bench.count, bench.size)
			info, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(info.Size())
			b.ReportAllocs()
			opts := taskfile.Options{}
			if bench.skip {
				opts.Skip = int64(bench.count)
			}
			for b.Loop() {
				src, err := taskfile.Open(path, opts)
				if err != nil {
					b.Fatal(err)
				}
				for {
					if _, err = src.Receive(context.Background(), 64); err != nil {
						break
					}
				}
				if !errors.Is(err, io.EOF) {
					b.Fatal(err)
				}
				if err := src.Close(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*bench.count), "ns/task")
		})
	}
}
